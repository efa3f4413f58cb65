"""The ``edgedf`` command: finds the verb, imports that verb's module alone, and runs it.

Exit codes: 0 done; 1 done, but with a bad outcome (a proof that failed, images that could not be
read); 2 a mistake in what was asked or given; 70 a bug in edgedf; 130 interrupted. Three verbs,
``edgedf verify``, ``diff`` and ``profile``, need 2 for something else and have 64 for mistakes.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from edgedf.cli._console import set_debugging

if TYPE_CHECKING:
    import typer

    from edgedf.errors import EdgedfError

__all__ = ["VERBS", "main"]


READER_LEFT, USER_MISTAKE, BUG, INTERRUPTED = 1, 2, 70, 130


class Verb(NamedTuple):
    """A verb's module, which has a Typer application named ``app``, and its line in the help.

    ``mistake`` is its exit code for a mistake in what was asked or given.
    """

    module: str
    help: str
    mistake: int = USER_MISTAKE


VERBS = {
    "detect": Verb("edgedf.cli.detect", "Say of photographs whether they are real or fake."),
    "convert": Verb("edgedf.cli.convert", "Convert a student to int8 TFLite and ONNX, with proof."),
    "evaluate": Verb("edgedf.cli.evaluate", "Measure a model on labelled photographs."),
    "verify": Verb(
        "edgedf.cli.verify", "Prove a converted model as good as its parent, or fail.", mistake=64
    ),
    "diff": Verb(
        "edgedf.cli.diff", "Compare two model files: what they are, answer and take.", mistake=64
    ),
    "profile": Verb(
        "edgedf.cli.profile",
        "Measure latency and memory: here, over SSH, on a phone over adb.",
        mistake=64,
    ),
    "info": Verb("edgedf.cli.info", "Show what a model file says about itself."),
    "doctor": Verb("edgedf.cli.doctor", "Say what is installed, what is missing, what that costs."),
    "distill": Verb("edgedf.cli.distill", "Physics maps, training and evaluation."),
}

# What writing to a full, broken or exhausted disk raises.
_CANNOT_WRITE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
# What even a look at a path raises where somebody else's folder or no file system allows it.
_CANNOT_USE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG})


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments after the program's name; None for those of the process.

    Returns:
        The exit code.
    """
    arguments, debug = _take_debug(sys.argv[1:] if argv is None else argv)
    set_debugging(debug)
    if sys.stdout is None:  # the caller has closed it (>&-)
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a pipe may not take every character
    code = _run(arguments, debug)
    try:
        sys.stdout.flush()
    except OSError as error:
        _drop_stdout()
        if isinstance(error, BrokenPipeError):
            return READER_LEFT
        mistake = _mistake(arguments)
        if code in {0, 1, 2} - {mistake}:  # else the reason has been given
            return _report(error, debug, mistake)
    return code


def _mistake(arguments: Sequence[str]) -> int:
    """The exit code for a mistake."""
    verb = VERBS.get(arguments[0]) if arguments else None
    return USER_MISTAKE if verb is None else verb.mistake


def _take_debug(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """Remove ``--debug``, which may stand anywhere before ``--``."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options = [argument for argument in arguments[:end] if argument != "--debug"]
    return [*options, *arguments[end:]], len(options) < end


def _run(arguments: list[str], debug: bool) -> int:
    try:
        return _dispatch(arguments)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader (such as head) has what it wanted
        _drop_stdout()
        return READER_LEFT
    except Exception as error:
        return _report(error, debug, _mistake(arguments))


def _report(error: Exception, debug: bool, mistake: int) -> int:
    """Say what went wrong and return the exit code for it."""
    from edgedf.cli._console import print_error
    from edgedf.errors import EdgedfError, OutputError, ParityError

    if debug:
        import traceback

        traceback.print_exception(error)
    if isinstance(error, EdgedfError):
        print_error(error)
        return 1 if isinstance(error, ParityError) else mistake
    if isinstance(error, OSError) and error.errno in _CANNOT_WRITE:
        target = error.filename or "the results"
        print_error(
            OutputError(
                f"Cannot write {target}: {error.strerror}.",
                expected="a place with free space that takes what is written",
                next_step="free some space or write somewhere else, then run it again",
            )
        )
        return mistake
    if isinstance(error, OSError) and error.errno in _CANNOT_USE and error.filename:
        print_error(
            EdgedfError(
                f"Cannot use {error.filename}: {error.strerror}.",
                expected="a path that may be read, and written where results go",
                next_step="check its permissions, or name another path",
            )
        )
        return mistake
    print_error(_unexpected(error, debug))
    return mistake if isinstance(error, ModuleNotFoundError) else BUG


def _drop_stdout() -> None:
    """Send what is still buffered nowhere: Python flushes once more at exit, and would fail."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _dispatch(arguments: list[str]) -> int:
    verb = arguments[0] if arguments else "--help"
    if verb == "--version":
        import edgedf

        print(f"edgedf {edgedf.__version__}")
        return 0
    try:
        if verb in VERBS:
            app = import_module(VERBS[verb].module).app
            app(args=arguments[1:], prog_name=f"edgedf {verb}")
        else:
            _overview()(args=arguments or ["--help"], prog_name="edgedf")
    except SystemExit as stop:
        if stop.code == INTERRUPTED:  # typer has caught the interrupt
            raise KeyboardInterrupt from None
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


def _overview() -> typer.Typer:
    """An application that knows every verb by name alone: for ``--help`` and mistyped verbs."""
    import typer

    app = typer.Typer(
        add_completion=False,
        help="Deepfake detection for phones and edge devices.",
        epilog="edgedf VERB --help says more about a verb.",
    )

    @app.callback()
    def options(
        version: bool = typer.Option(False, "--version", help="Print the version."),
        debug: bool = typer.Option(False, "--debug", help="With any verb: show tracebacks."),
    ) -> None:
        pass

    for name, verb in VERBS.items():
        app.command(name, help=verb.help)(lambda: None)
    return app


def _unexpected(error: Exception, debug: bool) -> EdgedfError:
    """An error for what nobody foresaw."""
    from edgedf.errors import EdgedfError

    if isinstance(error, ModuleNotFoundError):
        return EdgedfError(
            f"The Python package {error.name!r} is needed for this and is not installed.",
            next_step="edgedf doctor says which extra brings what",
        )
    reason = " ".join(str(error).split())
    return EdgedfError(
        f"Something unforeseen went wrong in edgedf ({type(error).__name__}: {reason}).",
        next_step="report it with the traceback above"
        if debug
        else "run it again with --debug for the traceback, and report it",
    )
