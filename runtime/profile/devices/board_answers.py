"""What the scripts on a board answer, and the errors that follow from it."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgedf import typed_json
from edgedf.errors import DeviceError
from edgedf.runtime.profile.devices.stream import last_line
from edgedf.runtime.profile.devices.wheels import MODULES, OLDEST, Interpreter

__all__ = ["Board", "board_of", "check_room", "ended", "not_received", "parsed"]

_OLDEST = ".".join(map(str, OLDEST))
_NOT_FOUND = (126, 127)  # of a shell: no such command, or one that cannot be run


@dataclass(frozen=True)
class Board:
    """A machine that can be measured.

    Args:
        interpreter: Its Python.
        parent: Folder in which ours is made.
        free: Bytes that are free there.
    """

    interpreter: Interpreter
    parent: str
    free: int


@dataclass(frozen=True)
class _Probed:
    """What ``board/probe.py`` answers; a Python that is too old leaves some of it out."""

    implementation: str
    version: tuple[int, ...]
    system: str
    architecture: str = ""
    abiflags: str = ""
    modules: dict[str, str] = field(default_factory=dict)
    libc: str = ""
    libc_version: str = ""
    folder: str = ""
    free: int = 0


def parsed(line: str) -> dict[str, Any] | None:
    """The answer in a line of JSON; None where it holds none."""
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def board_of(
    where: str, python: str, status: int, answer: Mapping[str, Any] | None, complaints: str
) -> Board:
    """What ``board/probe.py`` found.

    Args:
        where: The machine, in words.
        python: The interpreter that was asked for.
        status: Exit status of the script.
        answer: What it answered; None for nothing.
        complaints: What it wrote to its standard error.

    Raises:
        DeviceError: The machine cannot be measured.
    """
    if answer is None:
        reason = (
            "is not there" if status in _NOT_FOUND else f"does not work: {last_line(complaints)}"
        )
        raise DeviceError(
            f"{python} on {where} {reason}.",
            expected=f"Python {_OLDEST} or newer",
            next_step="install it there (apt install python3, or the like), or name another one: "
            "--python PATH",
        )
    try:
        probed = typed_json.decode(_Probed, dict(answer))
    except ValueError as error:
        raise DeviceError(
            f"{where} was asked what it is, and its answer is not understood: {error}.",
            expected=f"the answer of a Python {_OLDEST} or newer",
            next_step=f"see what {python} there is: it may be a script that stands for one",
        ) from error
    major, minor, micro = (*probed.version, 0, 0, 0)[:3]
    version = (major, minor, micro)
    words = ".".join(map(str, version))
    if version < OLDEST or probed.implementation != "CPython":
        raise DeviceError(
            f"{where} has {probed.implementation} {words} as {python}.",
            expected=f"CPython {_OLDEST} or newer",
            next_step="install a newer one there and name it: --python PATH",
        )
    if probed.system != "Linux":
        raise DeviceError(
            f"{where} runs {probed.system}.",
            expected="Linux",
            next_step="measure on another machine; on this one use --device host",
        )
    if not probed.folder:
        raise DeviceError(
            f"On {where} there is no folder to work in.",
            expected="a home folder, /var/tmp or /tmp that can be written and may hold programs "
            "(mounted without noexec)",
            next_step="make room in one of them",
        )
    interpreter = Interpreter(
        version=version,
        architecture=probed.architecture,
        libc=probed.libc,
        libc_version=probed.libc_version,
        modules={name: probed.modules[name] for name in MODULES if name in probed.modules},
        free_threaded="t" in probed.abiflags,
    )
    return Board(interpreter, probed.folder, probed.free)


def check_room(where: str, board: Board, needed: int) -> None:
    """See that all will find room.

    Raises:
        DeviceError: It will not.
    """
    if needed > board.free:
        raise _full(where, board.parent, needed, board.free)


def not_received(
    where: str, board: Board, needed: int, answer: Mapping[str, Any], complaints: str
) -> DeviceError:
    """Why ``board/receive.py`` has not taken everything.

    Args:
        where: The machine, in words.
        board: What it has.
        needed: Bytes that it all takes there.
        answer: The last answer; empty for none.
        complaints: What the script wrote to its standard error.
    """
    kind, problem = answer.get("kind"), answer.get("problem") or last_line(complaints)
    if kind == "full":
        free = answer.get("free")
        free = free if isinstance(free, int) else board.free
        return _full(where, board.parent, needed, free, problem)
    if kind == "imports":
        return DeviceError(
            f"Packages that were sent to {where} cannot be loaded there: {problem}.",
            expected=f"packages that work with {board.interpreter.name}",
            next_step="install numpy, opencv-python-headless and the model's runtime there by "
            "hand; what is there and works is used",
        )
    return DeviceError(
        f"The files did not arrive on {where}: {problem}.",
        expected=f"a folder that can be made and filled in {board.parent}",
        next_step="see that it can be written, then run it again",
    )


def ended(where: str, status: int, reason: DeviceError) -> DeviceError:
    """Why the worker there ended too early.

    Args:
        where: The machine, in words.
        status: Its exit status, as a shell counts it.
        reason: What the stream of events says about it.
    """
    if status > 128:
        try:
            name = signal.Signals(status - 128).name
        except ValueError:
            return reason
        memory = "it may have run out of memory: see dmesg there, or time fewer models at once"
        return DeviceError(
            f"The run on {where} was ended there by {name}; what had been measured was kept.",
            expected="a worker that runs to its end",
            next_step=memory if name == "SIGKILL" else "run it again",
        )
    return reason


def _full(
    where: str, folder: str, needed: int, free: int, problem: str = "No space left"
) -> DeviceError:
    return DeviceError(
        f"{where} is full: {_megabytes(needed)} are needed in {folder}, {_megabytes(free)} are "
        f"free ({problem}).",
        expected=f"{_megabytes(needed)} for the models, the images and the packages it lacks",
        next_step="make room there, or install the packages there so that they need not travel",
    )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
