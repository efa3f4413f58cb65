"""Provisional."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections import deque

from edgedf.errors import DeviceError
from edgedf.runtime.profile.events import Emit, Finished, from_line

__all__ = ["follow"]


def follow(process: subprocess.Popen[bytes], emit: Emit) -> None:
    """Hand on every event that a worker writes."""
    tail: deque[str] = deque(maxlen=20)

    def read() -> None:
        with contextlib.suppress(OSError, ValueError):
            for line in process.stderr:
                tail.append(line.decode("utf-8", "replace").rstrip())

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    for line in process.stdout:
        event = from_line(line.decode("utf-8", "replace"))
        emit(event)
        if isinstance(event, Finished):
            return
    thread.join(1)
    raise DeviceError("The worker ended too early: " + " | ".join(tail))
