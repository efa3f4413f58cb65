"""A case in a process of its own: forked where all is imported, limited, and watched."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Literal

__all__ = ["LIMIT_SECONDS", "MEMORY_LIMIT", "Outcome", "run_case"]

LIMIT_SECONDS = 10
MEMORY_LIMIT = 1 << 30

Status = Literal["taken", "refused", "traceback", "hang", "memory", "crash"]
_FINE = ("taken", "refused")
_TRIES = 3


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Args:
        status: ``taken`` and ``refused`` (an error of ours) are fine; the others must not be.
        detail: The error's name, the traceback, or the signal.
        seconds: Wall-clock time.
        peak_bytes: Largest resident memory of the process, all imports included.
    """

    status: Status
    detail: str
    seconds: float
    peak_bytes: int

    @property
    def forbidden(self) -> bool:
        """Whether it must not happen."""
        return self.status not in _FINE


def run_case(action: Callable[[Path], str], *, seconds: float = LIMIT_SECONDS) -> Outcome:
    """Fork, run, and say what became of it.

    Args:
        action: Gets an empty folder; returns what it took the input for. It raises
            :class:`edgedf.errors.EdgedfError` for one that it refuses.
        seconds: A case that takes longer hangs. It has three tries: a busy machine is none.
    """
    for _ in range(_TRIES):
        found = _run_once(action, seconds)
        if found.status != "hang":
            break
    return found


def _run_once(action: Callable[[Path], str], seconds: float) -> Outcome:
    folder = Path(tempfile.mkdtemp(prefix="edgedf-fuzz-"))
    answer = folder / "answer"
    work = folder / "work"
    work.mkdir()
    begun = monotonic()
    child = os.fork()
    if child == 0:
        _child(action, work, answer, seconds)  # never returns
    try:
        _, state, used = os.wait4(child, 0)
        took, peak = monotonic() - begun, used.ru_maxrss * 1024
        _end_group(child)
        said = answer.read_text("utf-8") if answer.exists() else ""
        native = (folder / "native").read_bytes()[-2000:].decode("utf-8", "replace")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if os.WIFSIGNALED(state):
        number = os.WTERMSIG(state)
        if number in (signal.SIGALRM, signal.SIGXCPU):
            return Outcome("hang", native, took, peak)
        return Outcome("crash", f"{signal.Signals(number).name}\n{native}", took, peak)
    status, _, detail = said.partition("\n")
    if status not in ("taken", "refused", "traceback", "memory"):
        code = os.waitstatus_to_exitcode(state)
        return Outcome("crash", f"exit status {code}\n{native}", took, peak)
    if peak > MEMORY_LIMIT:
        return Outcome("memory", f"{peak >> 20} MiB ({status} {detail})", took, peak)
    return Outcome(status, detail, took, peak)  # type: ignore[arg-type]


def _child(action: Callable[[Path], str], work: Path, answer: Path, seconds: float) -> None:
    from edgedf.errors import EdgedfError

    os.setsid()
    said = os.open(work.parent / "native", os.O_CREAT | os.O_RDWR | os.O_APPEND)
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.stdout = sys.stderr = os.fdopen(said, "w", 1, "utf-8", "backslashreplace")
    faulthandler.enable(said)
    os.chdir(work)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    # Address space is more than memory in use: this stops what would take the machine down.
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + 2 * MEMORY_LIMIT,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        text = "taken\n" + action(work)
    except EdgedfError as error:
        text = f"refused\n{type(error).__name__}: {error.message}"
    except MemoryError:
        text = f"memory\n{traceback.format_exc()}"
    except BaseException:
        text = f"traceback\n{traceback.format_exc()}"
    with contextlib.suppress(BaseException):
        answer.write_text(text, "utf-8", "backslashreplace")
    os._exit(0)


def _end_group(leader: int) -> None:
    """End what the case has started, its session's other processes."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
