"""What ``edgedf diff`` says, for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from edgedf.quantize.diff_wording import Section
    from edgedf.quantize.difference import Difference

__all__ = ["parts"]

_FEW = 4  # columns that may fold; more are of figures, which must not


def parts(difference: Difference) -> Iterator[RenderableType]:
    """What to print, one below the other.

    Args:
        difference: What was found.
    """
    from rich.text import Text

    from edgedf.cli._console import printable
    from edgedf.cli._verification import STYLES
    from edgedf.quantize.diff_wording import headline, sections
    from edgedf.quantize.wording import MARKS

    for section in sections(difference):
        if section.title:
            yield Text(section.title, style="bold")
        if section.rows:
            yield _table(section)
        for remark in section.remarks:
            yield Text(printable(remark))
        yield Text()
    text = Text(f"{MARKS[difference.verdict]} ", style=STYLES[difference.verdict])
    yield text.append(headline(difference), style="default")


def _table(section: Section) -> Table:
    from rich.table import Table
    from rich.text import Text

    from edgedf.cli._console import printable

    wide = len(section.headings) > _FEW
    padding = (0, 1 if wide else 2, 0, 0)
    table = Table(box=None, padding=padding, header_style="dim", pad_edge=False)
    for heading in section.headings:
        table.add_column(heading, overflow="fold", no_wrap=wide)
    for row in section.rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table
