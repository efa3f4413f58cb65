"""What libjpeg and libpng complain about while OpenCV decodes, told apart by picture.

OpenCV passes on no warning of theirs: they print it to the C library's ``stderr`` and decode on. So
while pictures are decoded that variable, which glibc and macOS let a program assign, is a file of
ours. File descriptor 2, ``sys.stderr`` and child processes stay as they are. Where it cannot be
assigned (Windows, musl), decoders print as ever and their warnings are not known.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import sys
import tempfile
import threading
from typing import Callable, TypeVar

__all__ = ["with_warnings"]

_T = TypeVar("_T")

# All that libjpeg (jerror.h) and libpng print of what they can live with.
_DECODERS = (
    b"Corrupt JPEG data",
    b"Premature end of JPEG",
    b"Inconsistent progression",
    b"Unknown Adobe color transform",
    b"Warning: unknown JFIF revision",
    b"Invalid SOS parameters",
    b"libpng ",
)
_STDERR = 2

_opening = threading.Lock()


def with_warnings(decode: Callable[[], _T]) -> tuple[_T, tuple[str, ...]]:
    """Decode a picture and collect what the decoder warns of.

    Threads decode side by side. Only when a decoder has written something does each of them decode
    once more, alone, to find out whose it was.

    Args:
        decode: Decodes one picture; called a second time where there are warnings.

    Returns:
        What ``decode`` returns, and the decoder's lines; none for a picture without fault.
    """
    with _opening:  # a second capture would take the first one's file for C's stderr
        capture = _capture()
    return (decode(), ()) if capture is None else capture.run(decode)


class _Capture:
    """A file in place of C's ``stderr`` for as long as any thread decodes."""

    def __init__(self, name: str) -> None:
        libc = ctypes.CDLL(None)
        self._variable = ctypes.c_void_p.in_dll(libc, name)
        self._theirs = self._variable.value
        with tempfile.TemporaryFile("ab+") as file:
            self._file = os.dup(file.fileno())  # open for as long as the process lives
        libc.fdopen.restype = ctypes.c_void_p
        libc.setbuf.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
        self._ours = libc.fdopen(self._file, b"a")
        libc.setbuf(self._ours, None)
        self._entrance = threading.Lock()  # held by one that decodes alone
        self._inside = threading.Condition()
        self._decoding = 0

    def run(self, decode: Callable[[], _T]) -> tuple[_T, tuple[str, ...]]:
        with self._entrance:
            self._enter()
        try:
            before = self._size()
            result = decode()
            if self._size() == before:
                return result, ()
        finally:
            self._leave()
        with self._entrance, self._inside:
            self._inside.wait_for(lambda: self._decoding == 0)
            self._take_lines()
            self._enter()
            try:
                result = decode()
            finally:
                self._leave()
            return result, self._take_lines()

    def close(self) -> None:
        """Give C its ``stderr`` back, whatever is being decoded."""
        self._variable.value = self._theirs

    def _enter(self) -> None:
        with self._inside:
            self._decoding += 1
            self._variable.value = self._ours

    def _leave(self) -> None:
        with self._inside:
            self._decoding -= 1
            if not self._decoding:
                self._variable.value = self._theirs
                self._inside.notify_all()

    def _size(self) -> int:
        return os.fstat(self._file).st_size

    def _take_lines(self) -> tuple[str, ...]:
        """Empty the file; what others wrote meanwhile goes where it was meant to go."""
        lines = os.pread(self._file, self._size(), 0).splitlines(keepends=True)
        os.ftruncate(self._file, 0)
        others = [line for line in lines if not line.startswith(_DECODERS)]
        if others:
            with contextlib.suppress(OSError):  # there may be no standard error
                os.write(_STDERR, b"".join(others))
        return tuple(
            line.decode("utf-8", "replace").strip() for line in lines if line.startswith(_DECODERS)
        )


@functools.cache
def _capture() -> _Capture | None:
    name = {"linux": "stderr", "darwin": "__stderrp"}.get(sys.platform)
    if name == "stderr" and not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"):
        return None  # musl's cannot be assigned
    try:
        return None if name is None else _Capture(name)
    except OSError:  # there is no folder for temporary files
        return None


def _start_anew() -> None:
    """In a forked child: its decoders must not be heard by the parent."""
    global _opening
    _opening = threading.Lock()
    if _capture.cache_info().currsize:
        capture = _capture()
        _capture.cache_clear()
        if capture is not None:
            capture.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)
