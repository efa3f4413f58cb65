"""What the verbs with a verdict share: exit codes, the options of limits."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand

from edgedf.cli._options import documentation

if TYPE_CHECKING:
    from edgedf.quantize.accuracy.gate import Verdict
    from edgedf.quantize.accuracy.limits import Limits

__all__ = ["CODES", "GateCommand", "read_limits", "with_limits"]

L = TypeVar("L", bound="Limits")

CODES: Mapping[Verdict, int] = {"pass": 0, "fail": 1, "cannot tell": 2}
"""Exit code by verdict."""

MISTAKE = 64  # EX_USAGE: 2, which other verbs use, means something here
_USAGE_ERROR = 2


class GateCommand(TyperCommand):
    """A verb of which a mistyped option must not look like a verdict."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, with an exit code of its own for mistakes."""
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            if getattr(error, "exit_code", None) == _USAGE_ERROR:
                error.exit_code = MISTAKE  # type: ignore[attr-defined]
            raise


LimitsFile = Annotated[
    Path | None,
    typer.Option(
        "--limits",
        metavar="FILE",
        help="TOML with lines such as 'auc_drop = 0.005'; options here win over it.",
        rich_help_panel="Limits",
    ),
]


def with_limits(kind: type[L]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a verb an option for each limit.

    Args:
        kind: The limits: a dataclass whose docstring says of each field what the option says.

    Returns:
        A decorator for a verb with a parameter ``limits``: on the command line that is a TOML file
        and, behind it, an option a limit; the verb gets the limits that come of all.
    """

    def decorate(verb: Callable[..., None]) -> Callable[..., None]:
        names = [field.name for field in fields(kind)]
        names.sort(key=lambda name: name not in kind.__annotations__)  # its own before inherited

        @functools.wraps(verb)
        def run(limits: Path | None, **given: Any) -> None:
            values = {name: given.pop(name) for name in names}
            verb(limits=read_limits(kind, limits, values), **given)

        parameters = []
        for parameter in inspect.signature(verb, eval_str=True).parameters.values():
            if parameter.name == "limits":
                parameters.append(parameter.replace(annotation=LimitsFile, default=None))
                parameters += [_limit(kind, name) for name in names]
            else:
                parameters.append(parameter)
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate


def _limit(kind: type[Limits], name: str) -> inspect.Parameter:
    default = getattr(kind, name)
    shown = "no limit" if default is None else f"{default:g}"
    made = typer.Option(
        f"--{name.replace('_', '-')}",
        metavar="X",
        help=f"{documentation(kind)[name]} Default: {shown}.",
        show_default=False,
        rich_help_panel="Limits",
    )
    either = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Parameter(name, either, default=None, annotation=Annotated[float | None, made])


def read_limits(kind: type[L], path: Path | None, given: Mapping[str, float | None]) -> L:
    """Limits from defaults, then a file, then options.

    Args:
        kind: Which limits.
        path: TOML; None for no file.
        given: Values by name; None where the option was not given.

    Raises:
        ConfigError: The file cannot be used, or a limit makes no sense.
    """
    options = {name: value for name, value in given.items() if value is not None}
    if path is None:
        return kind(**options)
    from edgedf.settings import load_settings

    return load_settings(kind, path, [f"{name}={value!r}" for name, value in options.items()])
