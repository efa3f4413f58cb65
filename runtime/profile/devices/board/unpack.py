"""Fills the folder that it is started in from ``payload.tar`` there.

Takes a line of JSON on standard input: ``word`` that announces the answer, ``imports`` to try in
the end. Uses what ``receive``, which lies beside it, knows of archives and wheels.
"""

from __future__ import annotations

import json
import os
import sys
import tarfile
import zipfile

import receive  # type: ignore[import-not-found]  # it lies beside this file

PAYLOAD = "payload.tar"


def main() -> None:
    """Unpack, try, say how it went."""
    asked = json.loads(sys.stdin.readline())
    os.umask(0o077)
    folder = os.getcwd()
    try:
        for name in ("site", "tmp"):
            os.makedirs(name, exist_ok=True)
        with open(PAYLOAD, "rb") as stream:
            receive.fill(folder, stream)
        os.unlink(PAYLOAD)
        problem = receive.try_imports(folder, asked["imports"])
        answer = {"kind": "imports" if problem else "", "problem": problem}
    except OSError as error:
        there = os.statvfs(folder)
        kind = "full" if error.errno in receive.FULL else "files"
        free = there.f_bavail * there.f_frsize
        answer = {"kind": kind, "problem": error.strerror or str(error), "free": free}
    except (ValueError, tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        answer = {"kind": "archive", "problem": str(error)}
    receive.say(asked["word"], answer)


if __name__ == "__main__":
    main()
