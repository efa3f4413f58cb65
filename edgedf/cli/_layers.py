"""What ``edgedf verify --layers`` says, for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

    from edgedf.quantize.layer_error.ranking import LayerRanking

__all__ = ["layer_parts"]


def layer_parts(ranking: LayerRanking) -> Iterator[RenderableType]:
    """What to print, one below the other.

    Args:
        ranking: What was found.
    """
    from rich.table import Table
    from rich.text import Text

    from edgedf.cli._console import printable
    from edgedf.quantize.layer_error.wording import HEADINGS, TEXTS, conclusion, matching, rows

    table = Table(
        title="\nLayers, the worst first",
        title_justify="left",
        title_style="bold",
        box=None,
        padding=(0, 1, 0, 0),
        header_style="dim",
        pad_edge=False,
    )
    for heading in HEADINGS:
        if heading in TEXTS:
            table.add_column(heading, overflow="fold")
        else:
            table.add_column(heading, justify="right", no_wrap=heading != "weights")
    for row in rows(ranking):
        table.add_row(*(Text(printable(cell)) for cell in row))
    yield table
    yield Text()
    yield Text(printable(matching(ranking)))
    yield Text(printable(conclusion(ranking)))
