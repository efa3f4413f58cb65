"""What travels to a machine that lacks edgedf: the worker's modules, models, images, wheels.

Of the package only what the worker imports, or starts by name, travels; all of it runs on
Python 3.9.
"""

from __future__ import annotations

import ast
import importlib.util
import io
import json
import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from edgedf import typed_json
from edgedf.artifact import ModelFormat
from edgedf.errors import DataError
from edgedf.formats import REGISTRY, formats
from edgedf.runtime.profile.devices import board
from edgedf.runtime.profile.devices.base import Job
from edgedf.runtime.profile.devices.host import WORKER
from edgedf.runtime.profile.devices.wheels import MODULES, Interpreter, fetch, wanted
from edgedf.runtime.profile.events import Emit, Progressed

__all__ = ["REQUEST", "Payload", "gather", "make_payload", "worker_modules"]

REQUEST = "request.json"
"""Name of the request in the folder."""

_MODULE = re.compile(r"edgedf\.(runtime\.profile|formats)(\.\w+)+")  # started by name
_SCRIPTS = ("run.sh", "keep.py", "clean.py")
_ROOM = 16 << 20  # for temporary files of the worker, such as a profile of every operator


def worker_modules() -> dict[str, Path]:
    """Names and files of the modules that a worker may import, packages that hold them included.

    Raises:
        DataError: The installed package has lost one.
    """
    modules: dict[str, Path] = {}
    waiting = [WORKER]
    for entry in formats():
        places = (REGISTRY[entry.name], entry.backend, entry.timer)
        waiting += [place.partition(":")[0] for place in places]
    while waiting:
        name = waiting.pop()
        parent = name.rpartition(".")[0]
        waiting += [parent] if parent else []
        if name in modules:
            continue
        path = _file_of(name)
        if path is None:
            continue
        modules[name] = path
        waiting += [imported for imported in _imports(path) if imported not in modules]
    if WORKER not in modules:
        raise DataError(
            f"The installed edgedf lacks {WORKER}.",
            expected="the whole package",
            next_step="install it again (pip install --force-reinstall --no-deps edgedf)",
        )
    return dict(sorted(modules.items()))


def _file_of(name: str) -> Path | None:
    """File of a module of ours; None where there is no such module. Nothing is run."""
    parent = name.rpartition(".")[0]
    if parent:
        package = _file_of(parent)
        if package is None or package.name != "__init__.py":  # a name inside a module
            return None
    spec = importlib.util.find_spec(name)
    return Path(spec.origin) if spec is not None and spec.origin else None


def _imports(path: Path) -> Iterator[str]:
    """What a module of ours imports of ours, in functions as well, but not for a type checker.

    A string that is a module's name counts: that is how another process is started with it.
    """
    waiting: list[ast.AST] = [ast.parse(path.read_text("utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Constant) and _MODULE.fullmatch(str(node.value)):
            names = [str(node.value)]
        else:
            names = []
            waiting += ast.iter_child_nodes(node)
        yield from (name for name in names if name.partition(".")[0] == "edgedf")


@dataclass(frozen=True)
class Payload:
    """Files by their place in the folder on the machine, and how many bytes they are there.

    Args:
        files: A file of this machine, or content.
        taken: Bytes that they take there, wheels unpacked, with some room to work.
        imports: Modules that have to be importable there afterwards and were not before.
    """

    files: tuple[tuple[str, Path | bytes], ...]
    taken: int
    imports: tuple[str, ...] = ()

    def write_tar(self, stream: IO[bytes], sent: Callable[[int, int], None]) -> None:
        """Write all as a tar archive; an empty file ``complete`` comes last.

        Args:
            stream: Where to; need not be seekable.
            sent: Told after each file how many bytes of how many have gone.

        Raises:
            DataError: A file cannot be read any more.
        """
        sizes = [_size(content) for _, content in self.files]
        done = 0
        with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            for (name, content), size in zip(self.files, sizes, strict=True):
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = size, 0o600
                if isinstance(content, bytes):
                    archive.addfile(entry, io.BytesIO(content))
                else:
                    with _open(content) as source:
                        archive.addfile(entry, source)
                done += size
                sent(done, sum(sizes))
            archive.addfile(tarfile.TarInfo("complete"))


def gather(
    job: Job,
    formats: set[ModelFormat],
    interpreter: Interpreter,
    into: Path,
    wheels: Path | None,
    emit: Emit,
) -> Payload:
    """Gather what a worker needs, with the packages that the machine lacks.

    Args:
        job: What to measure.
        formats: Those of its models.
        interpreter: The machine's Python.
        into: An empty folder for wheels.
        wheels: Where the user has put wheels; None for the cache and the network.
        emit: Told that packages are fetched.

    Raises:
        DataError: A file cannot be read.
        DeviceError: A wheel is not to be had.
    """
    alternatives = wanted(interpreter, formats)
    if any(alternatives):
        emit(Progressed(f"packages for {interpreter.name}", 0, 1))
    fetched = fetch(interpreter, alternatives, into, folder=wheels)
    names = {wheel.name.partition("-")[0].replace("_", "-").lower() for wheel in fetched}
    imports = tuple(module for package, module in MODULES.items() if package in names)
    return replace(make_payload(job, fetched), imports=imports)


def make_payload(job: Job, wheels: Sequence[Path] = ()) -> Payload:
    """Gather what a worker needs.

    The request names files relative to the folder, in which the worker is started.

    Args:
        job: What to measure.
        wheels: Packages that the machine lacks.

    Raises:
        DataError: A file cannot be read.
    """
    models = tuple(f"models/{index}/{_plain(path)}" for index, path in enumerate(job.models))
    images = tuple(f"images/{index}/{_plain(path)}" for index, path in enumerate(job.images))
    request = json.dumps(typed_json.encode(job.request(models, images)))
    files: list[tuple[str, Path | bytes]] = [(REQUEST, request.encode())]
    files += [(f"board/{name}", board.text(name).encode()) for name in _SCRIPTS]
    for name, path in worker_modules().items():
        place = "package/" + name.replace(".", "/")
        is_package = path.name == "__init__.py"
        files.append((f"{place}/__init__.py" if is_package else f"{place}.py", path))
    files += zip(models, job.models, strict=True)
    files += zip(images, job.images, strict=True)
    taken = sum(_size(content) for _, content in files)
    files += [(f"wheels/{wheel.name}", wheel) for wheel in wheels]
    taken += sum(map(_unpacked, wheels)) + max(map(_size, wheels), default=0)
    return Payload(tuple(files), taken + _ROOM)


def _plain(path: Path) -> str:
    """A file's name that means the same on every machine."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", path.name)[-80:].lstrip(".") or "file"


def _open(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise _unreadable(path, error) from error


def _size(content: Path | bytes) -> int:
    if isinstance(content, bytes):
        return len(content)
    try:
        return content.stat().st_size
    except OSError as error:
        raise _unreadable(content, error) from error


def _unpacked(wheel: Path) -> int:
    try:
        with zipfile.ZipFile(wheel) as archive:
            return sum(entry.file_size for entry in archive.infolist())
    except (OSError, zipfile.BadZipFile) as error:
        raise _unreadable(wheel, error) from error


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(
        f"Cannot read {path}: {getattr(error, 'strerror', None) or error}.",
        expected="a file that can be read",
        next_step="check it, then run it again",
    )
