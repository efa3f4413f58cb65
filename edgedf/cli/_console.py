"""What the verbs share on the terminal: consoles, errors, progress, JSON.

Results go to standard output; everything said about the work goes to standard error.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import time
import unicodedata
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

    from edgedf.errors import EdgedfError

__all__ = [
    "StepProgress",
    "error_text",
    "json_text",
    "new_console",
    "print_error",
    "print_json",
    "printable",
    "quiet_but_for_progress",
    "quiet_natives",
    "set_debugging",
]

# Rich assumes 80 columns where there is no terminal, which folds tables in logs and pipes.
_WIDTH_WITHOUT_TERMINAL = 120
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")
_STDERR = 2  # where native code writes, whatever sys.stderr is


_debugging = False


def set_debugging(on: bool) -> None:
    """Whether failures come with their tracebacks from now on."""
    global _debugging
    _debugging = on


def new_console(*, stderr: bool = False) -> Console:
    """A console on standard output or standard error, as they are at this moment."""
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _WIDTH_WITHOUT_TERMINAL
    return console


def printable(text: str) -> str:
    """Text that a terminal can show: no control characters, no half-decoded file names."""

    def shown(char: str) -> str:
        # Python counts no space but ASCII's as printable; the names of screenshots have others.
        good = char.isprintable() or unicodedata.category(char) == "Zs"
        return char if good else "\N{REPLACEMENT CHARACTER}"

    return "".join(map(shown, text))


def json_text(data: Any, *, indent: int | None = None) -> str:
    """JSON that every reader takes.

    Bytes in a file's name that are no UTF-8 are half characters to Python, for which JSON has no
    word: U+FFFD stands for them.
    """
    text = json.dumps(data, ensure_ascii=False)
    whole = json.loads(_HALF_CHARACTER.sub("\N{REPLACEMENT CHARACTER}", text))
    return json.dumps(whole, indent=indent)


def print_json(data: Any) -> None:
    """Write one JSON document to standard output."""
    sys.stdout.write(json_text(data, indent=1) + "\n")


def error_text(error: EdgedfError, *, label: str = "Error") -> Text:
    """What was wrong, what was expected and what to do next."""
    from rich.text import Text

    text = Text(f"{label}: ", style="bold red")
    text.append(_shown(error.message), style="default not bold")
    for title, part in (("Expected", error.expected), ("Next step", error.next_step)):
        if part:
            text.append(f"\n  {title}: ", style="bold")
            text.append(_shown(part), style="default not bold")
    return text


def print_error(error: EdgedfError) -> None:
    """Print an error on standard error."""
    new_console(stderr=True).print(error_text(error), soft_wrap=True)


def _shown(text: str) -> str:
    return "\n".join(printable(line) for line in text.splitlines())


class StepProgress:
    """Progress of long steps, with the time left: a bar on a terminal, else a line now and then.

    An instance is a function of the step's name, how much of it is done and how much there is, so
    it fits wherever a stage asks for a progress callback.

    Args:
        every: Seconds between lines where there is no terminal.

    Example:
        >>> with StepProgress() as progress:
        ...     progress("images", 3, 8)
    """

    def __init__(self, *, every: float = 5.0) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        out, err = new_console(), new_console(stderr=True)
        # Two consoles on one terminal would write over each other's lines.
        self._console = out if out.is_terminal and err.is_terminal else err
        self._results = self._console if out.is_terminal else out
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            # Redirecting would send results meant for a file to the terminal.
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not err.is_terminal,
        )
        self._tasks: dict[str, Any] = {}
        self._every = every
        self._started: dict[str, tuple[float, int, int]] = {}
        self._last_line = time.monotonic()

    def __enter__(self) -> StepProgress:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def __call__(self, step: str, done: int, total: int) -> None:
        """Say how far a step is."""
        if self._bars.disable:
            self._say_line(step, done, total)
            return
        if step not in self._tasks:
            self._tasks[step] = self._bars.add_task(step, total=total)
        self._bars.update(self._tasks[step], completed=done, total=total)

    def result(self, renderable: RenderableType, *, soft_wrap: bool = True) -> None:
        """Print a result on standard output, above the bar."""
        self._results.print(renderable, soft_wrap=soft_wrap, markup=False)

    def note(self, renderable: RenderableType) -> None:
        """Print a remark on standard error, above the bar."""
        console = self._console if not self._bars.disable else new_console(stderr=True)
        console.print(renderable, soft_wrap=True, markup=False)

    def failure(self, source: str, error: EdgedfError) -> None:
        """Print in full what was wrong with one of many; after ``--debug`` how it came about."""
        if _debugging:
            import traceback

            self.note("".join(traceback.format_exception(error)))
        named = bool(source) and source in error.message
        label = "Failed" if named else f"Failed: {printable(source)}"
        self.note(error_text(error, label=label))

    def _say_line(self, step: str, done: int, total: int) -> None:
        now = time.monotonic()
        # A step that goes on where an earlier run stopped has not done all of it just now.
        started, first, last = self._started.get(step, (now, done, done))
        if done < last:  # the same step again, of something else
            started, first = now, done
        self._started[step] = started, first, done
        if now - self._last_line < self._every:
            return
        self._last_line = now
        new = done - first
        left = f", about {(now - started) / new * (total - done):.0f} s left" if new else ""
        self.note(f"{step}: {done}/{total}{left}")


@contextlib.contextmanager
def quiet_natives() -> Iterator[None]:
    """Drop what C++ libraries write to standard error while the block runs.

    TFLite announces its delegate on every load and has no switch for that in Python. The whole
    process is affected, so only the command line may do this.
    """
    try:
        sys.stderr.flush()
        saved = os.dup(_STDERR)
    except (OSError, AttributeError):  # there is none, so nothing to hold back
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, _STDERR)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(saved, _STDERR)
        os.close(saved)


@contextlib.contextmanager
def quiet_but_for_progress() -> Iterator[None]:
    """Drop what C++ libraries write to standard error, and keep what Python writes there."""
    try:
        is_plain = sys.stderr.fileno() == _STDERR
    except (OSError, AttributeError, ValueError):
        is_plain = False
    with contextlib.ExitStack() as stack:
        if is_plain:
            copy = os.fdopen(os.dup(_STDERR), "w", 1, sys.stderr.encoding, "backslashreplace")
            stack.enter_context(copy)
            stack.enter_context(contextlib.redirect_stderr(copy))
        stack.enter_context(quiet_natives())
        yield
