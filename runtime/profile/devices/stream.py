"""The events of a worker that runs in a child process, wherever that leads."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections import deque
from collections.abc import Iterator
from typing import IO

from edgedf.errors import DeviceError
from edgedf.runtime.profile.events import Emit, Failed, Finished, from_line

__all__ = ["end", "follow", "last_line", "skip_to"]

_MOST_BYTES = 8 << 20  # of a line; a block of thousands of inferences has some 100 KB
_MOST_IN_ALL = 256 << 20  # eight hours at 5 ms an inference take a quarter of it
_MOST_BEFORE = 1 << 20  # of what a login shell says by itself
_TAIL = 20  # lines of standard error
_PATIENCE_S = 5.0


def follow(process: subprocess.Popen[bytes], emit: Emit) -> None:
    """Hand on every event that a worker writes, until the last one.

    Standard error is read all the while, so that the worker never waits for us, and its end is
    kept: it is the reason where the events just stop.

    Args:
        process: Whose standard output and standard error are pipes.
        emit: Takes the events, in this thread.

    Raises:
        DeviceError: The events end before the last one, or what is written is no event.
    """
    if process.stdout is None or process.stderr is None:
        raise ValueError("standard output and standard error have to be pipes")
    complaints: deque[str] = deque(maxlen=_TAIL)
    reader = threading.Thread(
        target=_read, args=(process.stderr, complaints), name="edgedf-stderr", daemon=True
    )
    reader.start()
    failed: Failed | None = None
    for line in _lines(process.stdout):
        event = from_line(line)
        emit(event)
        if isinstance(event, Finished):
            return
        if isinstance(event, Failed) and event.configuration is None:
            failed = event
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_PATIENCE_S)
    reader.join(_PATIENCE_S)
    if failed is not None:
        raise DeviceError(failed.message, expected=failed.expected, next_step=failed.next_step)
    raise DeviceError(
        f"The worker ended too early ({_how(process.returncode)}).",
        expected="a worker that runs to its end",
        next_step="the last that it said: " + " / ".join(complaints)
        if complaints
        else "run it again",
    )


def skip_to(stream: IO[bytes] | None, word: bytes) -> bool:
    """Leave out what a login shell may say by itself.

    Args:
        stream: What is written there.
        word: What is waited for, at the end of a line.

    Returns:
        Whether it came.
    """
    left = _MOST_BEFORE
    while stream is not None and left > 0:
        line = stream.readline(left)
        if not line:
            break
        if line.rstrip().endswith(word.rstrip()):
            return True
        left -= len(line)
    return False


def last_line(output: str) -> str:
    """The last line of what a program wrote, without its full stop, for a message."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1].rstrip(".")[:300] if lines else "it said nothing"


def end(process: subprocess.Popen[bytes], *, seconds: float = 3.0) -> None:
    """Close a process's input, give it a moment, then end it."""
    if process.stdin is not None:
        with contextlib.suppress(OSError, ValueError):
            process.stdin.close()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.close()


def _lines(stream: IO[bytes]) -> Iterator[str]:
    left = _MOST_IN_ALL
    while True:
        line = stream.readline(_MOST_BYTES)
        left -= len(line)
        if left < 0:
            raise DeviceError(
                f"The worker wrote more than {_MOST_IN_ALL >> 20} MiB.",
                expected="the events of some hours",
                next_step="see what else writes to standard output there, or measure for less time",
            )
        if not line:
            return
        if not line.endswith(b"\n"):  # cut off in the middle, or endless
            if len(line) == _MOST_BYTES:
                raise DeviceError(
                    f"The worker wrote a line of more than {_MOST_BYTES} bytes.",
                    expected="events",
                    next_step="see what else writes to standard output there",
                )
            return
        yield line.decode("utf-8", "replace")


def _read(stream: IO[bytes], complaints: deque[str]) -> None:
    with contextlib.suppress(OSError, ValueError):
        for line in stream:
            text = line.decode("utf-8", "replace").strip()
            if text:
                complaints.append(text[:500])


def _how(status: int | None) -> str:
    if status is None:
        return "its output ended"
    return f"signal {-status}" if status < 0 else f"exit status {status}"
