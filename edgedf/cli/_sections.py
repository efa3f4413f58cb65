"""Tables that a stage has put into words, on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

__all__ = ["Section", "section_parts"]

_FEW = 4  # columns that may fold; more are of figures, which must not


class Section(Protocol):
    """A table with what has to be said below it."""

    @property
    def title(self) -> str:
        """Empty for none."""

    @property
    def headings(self) -> Sequence[str]:
        """Of its columns."""

    @property
    def rows(self) -> Sequence[Sequence[str]]:
        """Its cells, in each row as many as there are headings."""

    @property
    def remarks(self) -> Sequence[str]:
        """Sentences."""


def section_parts(sections: Iterable[Section]) -> Iterator[RenderableType]:
    """What to print of sections, one below the other."""
    from rich.text import Text

    from edgedf.cli._console import printable

    for section in sections:
        if section.title:
            yield Text(section.title, style="bold")
        if section.rows:
            yield _table(section)
        for remark in section.remarks:
            yield Text(printable(remark))
        yield Text()


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
