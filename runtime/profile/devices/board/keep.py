"""Runs the worker on a board for as long as somebody listens.

Arguments: the folder, SILENCE, the command.
The one who asked sends a byte now and then. When its end closes, or nothing comes for SILENCE
seconds since the network is gone for good, the worker ends. ``run.sh`` then removes the folder.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time

from clean import kill_all  # type: ignore[import-not-found]  # it lies beside this file


def main() -> int:
    """Start, watch, end; the worker's exit status, as a shell counts it."""
    folder, silence, command = sys.argv[1], float(sys.argv[2]), sys.argv[3:]
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    # A child that ends writes a byte into this pipe, which ends the wait below.
    ended, started = os.pipe()
    os.set_blocking(started, False)
    signal.set_wakeup_fd(started)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    worker = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        end = time.monotonic() + silence
        while worker.poll() is None:
            ready, _, _ = select.select([0, ended], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                break
            if ended in ready:
                os.read(ended, 4096)
            if 0 in ready:
                if not os.read(0, 4096):
                    break
                end = time.monotonic() + silence
        status = worker.poll()
        if status is None:
            return 128 + signal.SIGHUP
        return status if status >= 0 else 128 - status
    finally:
        kill_all(folder)


if __name__ == "__main__":
    sys.exit(main())
