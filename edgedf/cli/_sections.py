"""Tables that a stage has put into words, on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Section", "section_table"]

_FEW = 4  # columns that may fold; more are of figures, which must not


class Section(Protocol):
    """What a table is made of."""

    @property
    def headings(self) -> Sequence[str]:
        """Of its columns."""

    @property
    def rows(self) -> Sequence[Sequence[str]]:
        """Its cells."""


def section_table(section: Section) -> Table:
    """A table of text.

    Args:
        section: Its headings and rows, all rows as long as the headings.
    """
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
