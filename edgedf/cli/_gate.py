"""What the verbs with a verdict share: exit codes, the options of limits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    from edgedf.quantize.accuracy.gate import Limits, Verdict

__all__ = [
    "CODES",
    "AucDrop",
    "AucDropBound",
    "Flips",
    "FlipsBound",
    "GateCommand",
    "LimitsFile",
    "LogitCorrelation",
    "MapCorrelation",
    "MapError",
    "MapErrorBound",
    "TprDrop",
    "TprDropBound",
    "limit_option",
    "read_limits",
]

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


def limit_option(name: str, says: str) -> Any:
    """An option that sets one limit."""
    return typer.Option(
        f"--{name}", metavar="X", help=says, show_default=False, rich_help_panel="Limits"
    )


LimitsFile = Annotated[
    Path | None,
    typer.Option(
        "--limits",
        metavar="FILE",
        help="TOML with lines such as 'auc_drop = 0.005'; options here win over it.",
        rich_help_panel="Limits",
    ),
]
AucDrop = Annotated[
    float | None,
    limit_option("auc-drop", "AUC that may be lost. Default: 0.005."),
]
AucDropBound = Annotated[
    float | None,
    limit_option("auc-drop-bound", "Upper end of its 95 % interval. Default: 0.01."),
]
TprDrop = Annotated[
    float | None,
    limit_option("tpr-drop", "The same of the TPR at an FPR of at most 1 %. Default: 0.02."),
]
TprDropBound = Annotated[
    float | None, limit_option("tpr-drop-bound", "Upper end of its interval. Default: 0.05.")
]
Flips = Annotated[
    float | None,
    limit_option("flips", "Share of verdicts turned from real to fake or back. Default: 0.01."),
]
FlipsBound = Annotated[
    float | None, limit_option("flips-bound", "Upper end of its interval. Default: 0.02.")
]
MapError = Annotated[
    float | None,
    limit_option(
        "map-error",
        "Mean absolute difference of the maps, as a fraction of their range. Default: 0.02.",
    ),
]
MapErrorBound = Annotated[
    float | None, limit_option("map-error-bound", "Upper end of its interval. Default: 0.03.")
]
LogitCorrelation = Annotated[
    float | None, limit_option("logit-correlation", "At least, over pictures. Default: 0.99.")
]
MapCorrelation = Annotated[
    float | None, limit_option("map-correlation", "At least, over pixels. Default: 0.98.")
]


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
