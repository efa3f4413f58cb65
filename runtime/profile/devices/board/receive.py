"""Makes the private folder on a board and fills it from a tar archive on standard input.

Reads a line of JSON: ``parent`` of the folder, ``word`` that announces an answer, ``imports`` to
try in the end, ``silence`` in seconds after which nothing more is expected to come. Writes the
folder's path at once, then how it went; each is a line of JSON after a line with the word. Wheels
are unpacked with ``zipfile`` into ``site``. Whatever goes wrong, the folder is removed again.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from typing import IO, Any

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
PLACED = {"purelib", "platlib"}


class Patient:
    """Standard input that gives up when nothing comes for a while: the network may be gone."""

    def __init__(self, silence: int) -> None:
        self.silence = silence

    def read(self, size: int) -> bytes:
        """Up to so many bytes; fewer only at the end."""
        signal.alarm(self.silence)
        try:
            return sys.stdin.buffer.read(size)
        finally:
            signal.alarm(0)


def inside(folder: str, name: str) -> str:
    """Path of an archive's entry, which must not lead out of the folder."""
    parts = name.split("/")
    if name.startswith("/") or "\\" in name or "\0" in name or {"", ".", ".."} & set(parts):
        raise ValueError("an archive has the entry %r" % name)
    return os.path.join(folder, *parts)


def write(path: str, stream: IO[bytes]) -> None:
    """A new file with what the stream has."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as target:
        shutil.copyfileobj(stream, target, 1 << 20)


def unpack_wheel(wheel: str, site: str) -> None:
    """As an installer does, without scripts: packages and their metadata."""
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            name = entry.filename
            if name.endswith("/"):
                continue
            top, _, rest = name.partition("/")
            if top.endswith(".data"):
                scheme, _, name = rest.partition("/")
                if scheme not in PLACED:
                    continue
            with archive.open(entry) as stream:
                write(inside(site, name), stream)


def fill(folder: str, stream: Any) -> None:
    """Take the archive apart as it comes."""
    site = os.path.join(folder, "site")
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for entry in archive:
            content = archive.extractfile(entry) if entry.isreg() else None
            if content is None:
                raise ValueError("the archive's %r is no file" % entry.name)
            path = inside(folder, entry.name)
            write(path, content)
            if path.endswith(".whl"):
                unpack_wheel(path, site)
                os.unlink(path)
    if not os.path.exists(os.path.join(folder, "complete")):
        raise ValueError("the archive ended too early")


def try_imports(folder: str, modules: list[str]) -> str:
    """Why the packages that travelled cannot be used here; empty when they can."""
    if not modules:
        return ""
    tmp = os.path.join(folder, "tmp")
    own = {"HOME": tmp, "TMPDIR": tmp, "XDG_CACHE_HOME": tmp, "ORT_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(
        [sys.executable, "-c", "import " + ", ".join(modules)],
        env={**os.environ, **own, "PYTHONPATH": os.path.join(folder, "site")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
    if done.returncode == 0:
        return ""
    return lines[-1] if lines else "Python ended with status %d" % done.returncode


def say(word: str, answer: dict[str, Any]) -> None:
    """Write an answer as a line of JSON after the word."""
    sys.stdout.write("\n%s\n%s\n" % (word, json.dumps(answer)))
    sys.stdout.flush()


def take(
    asked: dict[str, Any],
    make: Callable[[], str],
    unpack: Callable[[str], None],
    place: str,
) -> bool:
    """Make the folder, fill it, try the imports, say how that went; whether all went well."""
    try:
        folder = make()
        for name in ("site", "tmp"):
            os.makedirs(os.path.join(folder, name), exist_ok=True)
        unpack(folder)
        problem = try_imports(folder, asked["imports"])
        answer: dict[str, Any] = {"kind": "imports" if problem else "", "problem": problem}
    except OSError as error:
        there = os.statvfs(place)
        kind = "full" if error.errno in FULL else "files"
        free = there.f_bavail * there.f_frsize
        answer = {"kind": kind, "problem": error.strerror or str(error), "free": free}
    except (ValueError, tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        answer = {"kind": "archive", "problem": str(error)}
    say(asked["word"], answer)
    return not answer["kind"]


def stop(number: int, frame: object) -> None:
    """A signal ends the script as an error does, so that the folder goes."""
    raise SystemExit(128 + number)


def main() -> None:
    """Make the folder, fill it from standard input, remove it if that fails."""
    asked = json.loads(sys.stdin.buffer.readline())
    parent = asked["parent"]
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
        signal.signal(number, stop)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a file too large is an error like others
    os.umask(0o077)
    folders = []

    def make() -> str:
        folders.append(tempfile.mkdtemp(prefix=".edgedf-", dir=parent))
        say(asked["word"], {"folder": folders[0]})
        return folders[0]

    whole = False
    try:
        whole = take(asked, make, lambda folder: fill(folder, Patient(asked["silence"])), parent)
    finally:
        for folder in [] if whole else folders:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
