"""What ``edgedf verify`` says, for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgedf.cli._tables import (
    marked,
    new_table,
    section_table,
    shown,
    verdict_text,
)

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from edgedf.quantize.accuracy.verify import Verification
    from edgedf.quantize.layer_error.ranking import LayerRanking

__all__ = ["layer_parts", "parts"]


def parts(verification: Verification) -> Iterator[RenderableType]:
    """What to print, one below the other.

    Args:
        verification: What the gate measured.
    """
    from edgedf.quantize.accuracy.wording import HEADINGS, figures, headline, lines, remarks

    yield shown(verification.artifact, "bold")
    yield shown(f"against {verification.parent}")
    counts = ""
    if verification.real or verification.fake:
        counts = f": {verification.real} real, {verification.fake} fake"
    yield shown(f"on {verification.data}, split {verification.split}{counts}")
    yield shown("")
    table = figures(verification)._replace(headings=("", *HEADINGS))
    yield section_table(table, numbers=HEADINGS)
    yield shown("")
    yield from (marked(line.why) for line in lines(verification) if line.why)
    if verification.worst:
        yield shown("")
        yield _worst(verification)
    yield shown("")
    yield from map(shown, remarks(verification))
    yield shown("")
    yield verdict_text(verification.verdict, headline(verification))


def layer_parts(ranking: LayerRanking) -> Iterator[RenderableType]:
    """What to print of the layers, one below the other.

    Args:
        ranking: The layers by the error they cause.
    """
    from edgedf.quantize.layer_error.wording import HEADINGS, TEXTS, section

    layers = section(ranking)
    yield shown("")
    yield shown(layers.title, "bold")
    yield section_table(layers, numbers=set(HEADINGS) - set(TEXTS), no_wrap=False)
    yield shown("")
    yield from map(shown, layers.remarks)


def _worst(verification: Verification) -> Table:
    headings = ("parent", "artifact", "map, px", "truth", "picture")
    table = new_table(headings, title="Where they differ most")
    for seen in verification.worst:
        style = "bold red" if seen.flipped else "yellow" if seen.changed else ""
        table.add_row(
            f"{seen.parent_score:.3f} {seen.parent_verdict}",
            shown(f"{seen.artifact_score:.3f} {seen.artifact_verdict}", style),
            f"{seen.map_error:.3f}",
            seen.label,
            shown(seen.file),
        )
    return table
