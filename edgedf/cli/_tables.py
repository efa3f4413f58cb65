"""Tables and verdicts on the terminal."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.box import Box
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

    from edgedf.reports.section import Section

__all__ = [
    "facts_table",
    "mark",
    "marked",
    "new_table",
    "ruled_table",
    "section_parts",
    "section_table",
    "shown",
    "verdict_text",
]

_STYLES = {"✓": "green", "✗": "bold red", "?": "bold yellow", "~": "bold yellow"}
_FEW = 4  # columns that may fold; more are of figures, which must not


def shown(text: str, style: str = "") -> Text:
    """Text from outside: no markup, and nothing that a terminal cannot show."""
    from rich.text import Text

    from edgedf.cli._console import printable

    return Text(printable(text), style=style)


def mark(verdict: str) -> Text:
    """The mark of a verdict, in its color."""
    from rich.text import Text

    from edgedf.reports.section import MARKS

    return Text(MARKS[verdict], style=_STYLES[MARKS[verdict]])


def marked(text: str) -> Text:
    """Text from outside, with the mark that it begins with, if any, in its color."""
    from rich.text import Text

    from edgedf.reports.section import split_mark

    mark, rest = split_mark(text)
    return Text.assemble((mark, _STYLES[mark]), " ", shown(rest)) if mark else shown(text)


def verdict_text(verdict: str, sentence: str) -> Text:
    """A sentence behind the mark of its verdict."""
    from edgedf.reports.section import MARKS

    return marked(f"{MARKS[verdict]} {sentence}")


def new_table(
    headings: Sequence[str],
    *,
    title: str = "",
    numbers: Collection[str] = (),
    no_wrap: bool = False,
    gap: int = 2,
    box: Box | None = None,
) -> Table:
    """An empty table that looks like all others.

    Args:
        headings: Of its columns.
        title: Above it; empty for none.
        numbers: Those of the headings below which there are numbers: they go to the right, and are
            never broken into lines.
        no_wrap: Whether the other columns are not broken into lines either.
        gap: Blanks between columns.
        box: Lines around or inside it.
    """
    from rich.table import Table

    table = Table(
        title=title or None,
        title_justify="left",
        title_style="bold",
        box=box,
        padding=(0, gap, 0, 0),
        header_style="dim",
        pad_edge=False,
    )
    for heading in headings:
        if heading in numbers:
            table.add_column(heading, justify="right", no_wrap=True)
        else:
            table.add_column(heading, overflow="fold", no_wrap=no_wrap)
    return table


def ruled_table(title: str, headings: Sequence[str]) -> Table:
    """An empty table with a line below its headings, as reports on data sets have them."""
    from rich import box

    return new_table(headings, title=title, gap=1, box=box.SIMPLE_HEAD)


def facts_table(facts: Iterable[tuple[str, str]]) -> Table:
    """Names with what they stand for."""
    from rich.table import Table

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(shown(name), shown(value))
    return table


def section_table(
    section: Section, *, numbers: Collection[str] = (), no_wrap: bool | None = None
) -> Table:
    """The table of a section, with its marks in their colors.

    Args:
        section: As a stage puts it into words.
        numbers: Those of its headings whose columns go to the right.
        no_wrap: Whether no column is broken into lines; None to decide by how many there are.
    """
    wide = len(section.headings) > _FEW
    table = new_table(
        section.headings,
        numbers=numbers,
        no_wrap=wide if no_wrap is None else no_wrap,
        gap=1 if wide else 2,
    )
    for first, *others in section.rows:
        table.add_row(marked(first), *map(shown, others))
    return table


def section_parts(sections: Iterable[Section]) -> Iterator[RenderableType]:
    """What to print of sections, one below the other."""
    for section in sections:
        if section.title:
            yield shown(section.title, "bold")
        if section.rows:
            yield section_table(section)
        yield from map(marked, section.remarks)
        yield shown("")
