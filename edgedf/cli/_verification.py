"""What ``edgedf verify`` says, for people."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from edgedf.quantize.accuracy.gate import Limits
    from edgedf.quantize.accuracy.verify import Verification

__all__ = ["STYLES", "limits_of", "parts"]

STYLES = {"pass": "green", "fail": "bold red", "cannot tell": "bold yellow"}
_HEADINGS = ("parent", "artifact", "measured", "95 % interval", "limit", "bound")


def parts(verification: Verification) -> Iterator[RenderableType]:
    """What to print, one below the other.

    Args:
        verification: What the gate found.
    """
    from rich.text import Text

    from edgedf.cli._console import printable
    from edgedf.quantize.accuracy.wording import MARKS, headline, lines, remarks

    yield Text(printable(verification.artifact), style="bold")
    yield Text(printable(f"against {verification.parent}"))
    counts = ""
    if verification.real or verification.fake:
        counts = f": {verification.real} real, {verification.fake} fake"
    yield Text(printable(f"on {verification.data}, split {verification.split}{counts}"))
    yield Text()
    yield _table(verification)
    yield Text()
    for line in lines(verification):
        if line.reason:
            text = Text(f"{line.mark} ", style=STYLES[line.verdict])
            yield text.append(f"{line.title}: {line.reason}", style="default not bold")
    if verification.worst:
        yield _worst(verification)
    yield Text()
    for remark in remarks(verification):
        yield Text(printable(remark))
    text = Text(f"\n{MARKS[verification.verdict]} ", style=STYLES[verification.verdict])
    yield text.append(headline(verification), style="default")


def _table(verification: Verification) -> Table:
    from rich.table import Table
    from rich.text import Text

    from edgedf.quantize.accuracy.wording import lines

    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("", no_wrap=True)
    for heading in _HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    for line in lines(verification):
        table.add_row(
            Text(line.mark, style=STYLES[line.verdict]).append(f" {line.title}", style="default"),
            line.parent,
            line.artifact,
            line.measured,
            line.interval,
            line.limit,
            line.bound,
        )
    return table


def _worst(verification: Verification) -> Table:
    from rich.table import Table
    from rich.text import Text

    from edgedf.cli._console import printable

    table = Table(
        title="\nWhere they differ most",
        title_justify="left",
        title_style="bold",
        box=None,
        padding=(0, 2, 0, 0),
        header_style="dim",
        pad_edge=False,
    )
    for heading in ("parent", "artifact", "map, px", "truth"):
        table.add_column(heading)
    table.add_column("picture", overflow="fold")
    for seen in verification.worst:
        table.add_row(
            f"{seen.parent_score:.3f} {seen.parent_verdict}",
            Text(
                f"{seen.artifact_score:.3f} {seen.artifact_verdict}",
                style="bold red" if seen.flipped else "yellow" if seen.changed else "",
            ),
            f"{seen.map_error:.3f}",
            seen.label,
            Text(printable(seen.file)),
        )
    return table


def limits_of(path: Path | None, given: dict[str, float | None]) -> Limits:
    """Limits from defaults, then a file, then options.

    Args:
        path: TOML; None for no file.
        given: Values by name; None where the option was not given.

    Raises:
        ConfigError: The file cannot be used, or a limit makes no sense.
        MissingExtra: The file cannot be read with this version of Python.
    """
    from edgedf.cli._gate import read_limits
    from edgedf.quantize.accuracy.gate import Limits

    return read_limits(Limits, path, given)
