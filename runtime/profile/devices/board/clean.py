"""Ends everything that was started in our folder on a board, and removes the folder.

Called with the folder as argument; or with a line of JSON on standard input, ``folder`` and
``word``, after which it says whether the folder is gone. What we started has the folder's name in
its environment, as have its children; the name is random, so nothing else has.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import time

PATIENCE = 10.0


def of_folder(folder: str) -> list[int]:
    """Processes of ours, this one left out."""
    mark = b"EDGEDF_FOLDER=" + os.fsencode(folder)
    processes = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        with contextlib.suppress(OSError), open("/proc/%s/environ" % name, "rb") as stream:
            if mark in stream.read().split(b"\0"):
                processes.append(int(name))
    return processes


def kill_all(folder: str) -> None:
    """End them, and those that they start meanwhile."""
    end = time.monotonic() + PATIENCE
    while True:
        processes = of_folder(folder)
        for process in processes:
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGKILL)
        if not processes or time.monotonic() > end:
            return
        time.sleep(0.02)


def remove(folder: str) -> bool:
    """Whether the folder is gone. Another one may be at it as well."""
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.lexists(folder):
            return True
        time.sleep(0.1)
    return False


def main() -> None:
    """End the processes and remove the folder."""
    asked = {"folder": sys.argv[1]} if len(sys.argv) > 1 else json.loads(sys.stdin.readline())
    folder = asked["folder"]
    if not os.path.basename(folder).startswith(".edgedf-"):
        raise SystemExit("%s is no folder of ours" % folder)
    kill_all(folder)
    gone = remove(folder)
    if "word" in asked:
        sys.stdout.write("\n%s\n%s\n" % (asked["word"], json.dumps({"gone": gone})))


if __name__ == "__main__":
    main()
