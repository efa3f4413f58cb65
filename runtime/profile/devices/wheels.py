"""Packages for another machine's Python, as wheels: none of them is built or installed here.

pip chooses them for the other machine's Python, processor and C library and fetches them into a
cache on this machine; or it finds them in a folder that the user gives, without any network. pip's
settings on this machine (index, proxy, certificates) hold.

Each package is asked for by name and without what it says it needs: pip would judge the conditions
of those for the Python that it runs on itself, and most are for tools that a worker never starts.
What is really imported is listed here, and tried on the other machine before it is used.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgedf.artifact import ModelFormat
from edgedf.errors import DeviceError, OutputError
from edgedf.files import atomic_path
from edgedf.runtime.profile.devices.stream import last_line

__all__ = [
    "MODULES",
    "OLDEST",
    "PACKAGES",
    "Interpreter",
    "cache_folder",
    "fetch",
    "platforms",
    "wanted",
]

OLDEST = (3, 9)
"""The worker's side needs this Python or a newer one."""

MODULES: Mapping[str, str] = {
    "numpy": "numpy",
    "opencv-python-headless": "cv2",
    "ai-edge-litert": "ai_edge_litert.interpreter",
    "tflite-runtime": "tflite_runtime.interpreter",
    "onnxruntime": "onnxruntime",
}
"""Packages that a worker may need, and what it imports of each."""

PACKAGES: Mapping[str, ModelFormat | None] = {
    "numpy": None,
    "opencv-python-headless": None,
    "ai-edge-litert": "tflite",
    "tflite-runtime": "tflite",
    "onnxruntime": "onnx",
}
"""For which format each of them is; None for any."""

_OLDEST_GLIBC = 17  # older ones have names of their own, which pip adds to manylinux2014

# What is accepted where it is there already, and what is fetched where it is not. An ordinary
# NumPy and OpenCV of 2022 do; older ones lack the types that annotations here are made of.
_ACCEPTED = {
    "numpy": ">=1.23.2",
    "opencv-python-headless": ">=4.5",
    "ai-edge-litert": ">=1.0",
    "tflite-runtime": ">=2.11",
    "onnxruntime": ">=1.14",
}
_FETCHED = {
    "numpy": ">=1.23.2",
    "opencv-python-headless": ">=4.8",
    "ai-edge-litert": ">=2.1,<3",
    "onnxruntime": ">=1.16,<2",
    "tflite-runtime": ">=2.11",
}
# tflite-runtime was only built for numpy 1, and OpenCV asks for numpy 2 since 4.12.
_WITH_TFLITE_RUNTIME = {
    **_FETCHED,
    "numpy": ">=1.23.2,<2",
    "opencv-python-headless": ">=4.8,<4.12",
}
_OLD_NUMPY = "<2"
_EITHER = frozenset({"ai-edge-litert", "tflite-runtime"})  # of these one is enough


@dataclass(frozen=True)
class Interpreter:
    """A Python on another machine.

    Args:
        version: Such as (3, 11, 2).
        architecture: Of the interpreter: ``x86_64``, ``aarch64``, ``armv7l``, …
        libc: ``glibc`` or ``musl``; empty where unknown.
        libc_version: Such as ``2.36``.
        modules: Packages that can be imported there, by the names of :data:`MODULES`, with their
            versions; empty where a version is unknown.
        free_threaded: Whether it is a build without a global lock, whose wheels are others.
    """

    version: tuple[int, int, int]
    architecture: str
    libc: str
    libc_version: str
    modules: Mapping[str, str]
    free_threaded: bool = False

    @property
    def name(self) -> str:
        """In words: ``Python 3.11, aarch64, glibc 2.36``."""
        libc = f"{self.libc} {self.libc_version}".strip() or "unknown C library"
        return f"Python {self.version[0]}.{self.version[1]}, {self.architecture}, {libc}"


def wanted(interpreter: Interpreter, formats: Collection[ModelFormat]) -> list[tuple[str, ...]]:
    """What has to be fetched so that a worker can run there.

    What the machine has is used where it fits. But when NumPy has to travel, all has to: packages
    that were built against another NumPy may not load with it.

    Args:
        interpreter: Whose.
        formats: Formats of the models that are timed.

    Returns:
        Alternatives, the preferred one first, each as pip's requirements; a single empty one where
        nothing is missing.
    """
    there = {
        name
        for name, version in interpreter.modules.items()
        if not version or _is_in(version, _ACCEPTED[name])
    }
    numpy = interpreter.modules.get("numpy", "")
    has_old_numpy = not numpy or _is_in(numpy, _OLD_NUMPY)
    if "numpy" not in there:
        there = set()
    elif not has_old_numpy:
        there.discard("tflite-runtime")
    needed = [name for name, of in PACKAGES.items() if of is None or of in formats]
    missing = [name for name in needed if name not in there and name not in _EITHER]
    if there.intersection(_EITHER) or not _EITHER.intersection(needed):
        return [tuple(name + _FETCHED[name] for name in missing)]
    alternatives = [tuple(name + _FETCHED[name] for name in (*missing, "ai-edge-litert"))]
    if "numpy" not in there or has_old_numpy:
        older = (*missing, "tflite-runtime")
        alternatives.append(tuple(name + _WITH_TFLITE_RUNTIME[name] for name in older))
    return alternatives


def platforms(interpreter: Interpreter) -> list[str]:
    """Names that wheels for such a machine may carry, the most particular one first.

    As PEP 600 and PEP 656 define them: a wheel for an older C library of the same kind does.
    """
    architecture = interpreter.architecture
    try:
        major, minor = (int(part) for part in interpreter.libc_version.split(".")[:2])
    except ValueError:
        major, minor = 0, 0
    names: list[str] = []
    if interpreter.libc == "glibc" and major == 2:
        older = range(minor, _OLDEST_GLIBC - 1, -1)
        names += [f"manylinux_2_{version}_{architecture}" for version in older]
        names += [f"manylinux2014_{architecture}"] if minor >= _OLDEST_GLIBC else []
    elif interpreter.libc == "musl" and major == 1:
        names += [f"musllinux_1_{version}_{architecture}" for version in range(minor, 0, -1)]
    return [*names, f"linux_{architecture}"]


def cache_folder() -> Path:
    """Where fetched wheels are kept: ``edgedf/wheels`` in the user's cache (XDG base directory)."""
    base = os.environ.get("XDG_CACHE_HOME") or ""
    root = Path(base) if base.startswith("/") else Path.home() / ".cache"
    return root / "edgedf" / "wheels"


def fetch(
    interpreter: Interpreter,
    alternatives: Sequence[tuple[str, ...]],
    into: Path,
    *,
    folder: Path | None = None,
) -> list[Path]:
    """Get the wheels of the first alternative that is to be had.

    Args:
        interpreter: For which Python.
        alternatives: As :func:`wanted` gives them.
        into: An empty folder for them.
        folder: Where the user has put wheels; nothing else is looked at then. None for the cache
            and the network.

    Returns:
        The wheels.

    Raises:
        DeviceError: A wheel is not to be had; the message says which, for what, and how to get it.
    """
    if not any(alternatives):
        return []
    if folder is not None and not folder.is_dir():
        raise DeviceError(
            f"There is no folder {folder} with wheels.",
            expected="a folder with wheels for the board",
            next_step=f"make it on a machine with internet: {_by_hand(interpreter, alternatives)}",
        )
    cache = cache_folder()
    complaint = ""
    for sources in [[folder]] if folder is not None else [[cache], None]:
        for alternative in alternatives:
            wheels, output = _download(interpreter, alternative, into, sources)
            if wheels:
                if sources is None:
                    _keep(wheels, cache)
                return wheels
            complaint = complaint or (output if sources is None or folder is not None else "")
    raise _absent(interpreter, alternatives, complaint, folder)


def _download(
    interpreter: Interpreter, packages: Sequence[str], into: Path, sources: list[Path] | None
) -> tuple[list[Path], str]:
    """Ask pip; the wheels, and else what it said."""
    with tempfile.TemporaryDirectory(dir=into) as name:
        command = [sys.executable, *_pip(interpreter, packages), "--dest", name]
        environment = dict(os.environ)
        if sources is not None:
            # Nothing but the folder: neither what the environment nor what a file of pip's adds.
            environment = {k: v for k, v in environment.items() if not k.startswith("PIP_")}
            environment["PIP_CONFIG_FILE"] = os.devnull
            folders = [part for source in sources for part in ("--find-links", str(source))]
            command += ["--no-index", *folders]
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        if done.returncode:
            return [], done.stderr.decode("utf-8", "replace")
        return [Path(shutil.move(wheel, into)) for wheel in sorted(Path(name).glob("*.whl"))], ""


def _pip(interpreter: Interpreter, packages: Sequence[str]) -> list[str]:
    major, minor = interpreter.version[:2]
    abi = ["--abi", f"cp{major}{minor}t"] if interpreter.free_threaded else []
    return [
        *("-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"),
        *("--retries", "2"),
        *("--only-binary=:all:", "--implementation", "cp", "--python-version", f"{major}.{minor}"),
        *abi,
        *(part for name in platforms(interpreter) for part in ("--platform", name)),
        *packages,
    ]


def _keep(wheels: Sequence[Path], cache: Path) -> None:
    """Put copies into the cache; a cache that cannot be written is no reason to stop."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        for wheel in wheels:
            with atomic_path(cache / wheel.name) as copy:
                shutil.copyfile(wheel, copy)
    except (OSError, OutputError):
        return


def _absent(
    interpreter: Interpreter,
    alternatives: Sequence[tuple[str, ...]],
    complaint: str,
    folder: Path | None,
) -> DeviceError:
    command = _by_hand(interpreter, alternatives)
    if "No module named pip" in complaint:
        return DeviceError(
            "The board lacks packages, and this Python has no pip to fetch them.",
            expected="pip for the Python that runs edgedf",
            next_step="python -m ensurepip, or fetch them elsewhere and name the folder with "
            f"--wheels: {command}",
        )
    missing = re.search(r"No matching distribution found for ([^\s(]+)", complaint)
    package = missing[1] if missing else ", ".join(alternatives[0])
    reason = "" if missing else f" (pip: {last_line(complaint)})"
    where = f"in {folder}" if folder is not None else "in the cache or on pip's index"
    return DeviceError(
        f"There is no wheel of {package} for {interpreter.name} {where}{reason}.",
        expected="wheels of all that the board lacks: " + " ".join(alternatives[0]),
        next_step=f"on a machine with internet run: {command}; then add --wheels wheels. "
        "Or install it on the board",
    )


def _by_hand(interpreter: Interpreter, alternatives: Sequence[tuple[str, ...]]) -> str:
    packages = next(filter(None, alternatives), ())
    return shlex.join(["python3", *_pip(interpreter, packages), "--dest", "wheels"])


def _is_in(version: str, specifier: str) -> bool:
    """Whether a version is one of those meant; a distribution's own numbering is none."""
    from packaging.specifiers import SpecifierSet
    from packaging.version import InvalidVersion

    try:
        return SpecifierSet(specifier).contains(version, prereleases=True)
    except InvalidVersion:
        return False
