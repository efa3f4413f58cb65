"""Writing results so that they appear whole or not at all, and reading what people write.

Whatever is temporary is locked (``flock(2)``) by the process that made it. A process that is killed
cannot tidy up, but its locks end with it: the next one that writes to the same folder removes what
nobody holds any more.
"""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import hashlib
import io
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from edgedf.errors import OutputError

__all__ = [
    "atomic_path",
    "check_target",
    "open_text",
    "scratch_folder",
    "sha256_of",
    "write_bytes",
    "write_text",
]

_FILE, _FOLDER = ".edgedf-part-", "edgedf-scratch-"

_REDIRECTING = threading.RLock()

_tidied: set[Path] = set()


@contextlib.contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """Give a temporary path beside ``target`` and rename it there on success.

    The folder is made when it is missing. When the block raises, the temporary file goes and
    whatever stood at ``target`` before stays untouched. A link stays a link: what it points to is
    replaced. Temporary files that killed processes have left in the folder are removed.

    Args:
        target: Final path of the file.

    Yields:
        A path in the same folder (so the rename is atomic) with the same suffix.

    Raises:
        OutputError: The folder cannot be made or written, or the disk is full.
    """
    named, target = target, Path(os.path.realpath(target))
    temporary: Path | None = None
    lock = -1
    try:
        if target.exists() and not (target.is_file() or target.is_dir()):
            raise OSError(22, "is a device or a pipe, not a file")
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            raise IsADirectoryError(21, "is a folder")
        _remove_abandoned(target.parent, _FILE)
        lock, temporary = _locked(
            lambda: tempfile.mkstemp(prefix=_FILE, suffix=target.suffix, dir=target.parent)
        )
        # mkstemp makes the file private to the user; results follow the umask like any other.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        yield temporary
        temporary.replace(target)
    except BrokenPipeError:  # somebody else's stream: a file on a disk has no reader to lose
        raise
    except OSError as error:
        raise OutputError(
            f"Cannot write {named}: {error.strerror or error}.",
            expected="a folder that exists or can be made, with write permission and free space",
            next_step="choose another output folder or free some space, then run it again",
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            os.close(lock)


@contextlib.contextmanager
def scratch_folder(
    parent: str | Path | None = None, *, for_libraries: bool = False
) -> Iterator[Path]:
    """Give an empty folder that only this user may enter; it goes at the end of the block.

    Those that killed processes have left are removed.

    Args:
        parent: Where; None for the system's folder for temporary files.
        for_libraries: Whether all that this process puts into the folder for temporary files
            meanwhile goes here too: what a library writes there would be left by a kill. One block
            at a time.

    Raises:
        OSError: It cannot be made.
    """
    place = Path(parent or tempfile.gettempdir())
    _remove_abandoned(place, _FOLDER)

    def make() -> tuple[int, str]:
        name = tempfile.mkdtemp(prefix=_FOLDER, dir=place)
        return os.open(name, os.O_RDONLY), name

    lock, folder = _locked(make)
    try:
        if not for_libraries:
            yield folder
            return
        with _REDIRECTING:
            before, tempfile.tempdir = tempfile.tempdir, str(folder)
            try:
                yield folder
            finally:
                tempfile.tempdir = before
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _locked(make: Callable[[], tuple[int, str]]) -> tuple[int, Path]:
    """What ``make`` opens, locked until it is closed."""
    while True:
        handle, name = make()
        with contextlib.suppress(OSError):  # a file system without locks: nobody can remove it
            fcntl.flock(handle, fcntl.LOCK_EX)
        if Path(name).exists():
            return handle, Path(name)
        os.close(handle)  # another process found it before it was locked, and removed it


def _remove_abandoned(place: Path, prefix: str) -> None:
    """Remove what this user's dead processes left; once a folder, as listing one may take long."""
    if place / prefix in _tidied:
        return
    _tidied.add(place / prefix)
    for path in place.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):  # such as BlockingIOError: whoever made it is at work
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                if os.fstat(handle).st_uid == os.getuid():
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if prefix == _FILE:
                        path.unlink()
                    else:
                        shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(handle)


def check_target(target: str | Path) -> None:
    """Raise before the work what :func:`atomic_path` would raise after it.

    Args:
        target: Final path of a file; its folder is made.

    Raises:
        OutputError: The file cannot be written, or there is a folder of that name.
    """
    with contextlib.suppress(_NotNow), atomic_path(target) as temporary:
        temporary.write_bytes(b"edgedf")  # a full disk takes an empty file
        raise _NotNow


class _NotNow(Exception):
    pass


def write_bytes(target: str | Path, data: bytes) -> Path:
    """Write ``data`` to ``target`` atomically and return the path.

    Raises:
        OutputError: The file cannot be written.
    """
    with atomic_path(target) as temporary, temporary.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    return Path(target)


def write_text(target: str | Path, text: str) -> Path:
    """Write ``text`` as UTF-8 to ``target`` atomically and return the path.

    Raises:
        OutputError: The file cannot be written.
    """
    return write_bytes(target, text.encode("utf-8"))


@contextlib.contextmanager
def open_text(path: str | Path, newline: str | None = None) -> Iterator[TextIO]:
    """Open a text file that a person wrote: UTF-8, with or without a byte-order mark.

    Excel and Notepad put that mark in front.

    Args:
        path: The file; a pipe will do.
        newline: As for :func:`open`.

    Yields:
        The open file.

    Raises:
        OSError: It cannot be opened.
        UnicodeError: It is in UTF-16, which Notepad calls Unicode; or, while it is read, anything
            else that is no UTF-8.
    """
    with Path(path).open("rb") as stream:
        head = stream.peek(2)[:2]
        if head in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) or 0 in head:
            raise UnicodeError("it is in UTF-16 or no text at all; save it as UTF-8")
        yield io.TextIOWrapper(stream, "utf-8-sig", newline=newline)


def sha256_of(data: bytes | Path) -> str:
    """Hexadecimal SHA-256 of bytes or of a file's content."""
    if isinstance(data, Path):
        digest = hashlib.sha256()
        with data.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()
    return hashlib.sha256(data).hexdigest()
