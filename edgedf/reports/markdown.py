"""Tables and sentences as Markdown, to paste into a pull request."""

from __future__ import annotations

from collections.abc import Iterator

from edgedf.reports.section import MARKS, Section

__all__ = ["escaped", "section_markdown", "verdict_markdown"]

_SPECIAL = str.maketrans({char: f"\\{char}" for char in "\\|*_`<>[]~#"})


def escaped(text: str) -> str:
    """Text from outside as text in a Markdown table."""
    return " ".join(text.translate(_SPECIAL).split())


def verdict_markdown(verdict: str, sentence: str) -> str:
    """A verdict with its mark, in bold."""
    return f"**{MARKS[verdict]} {escaped(sentence)}**"


def section_markdown(section: Section) -> Iterator[str]:
    """The heading, the table and the remarks of a section, a paragraph each."""
    if section.title:
        yield f"#### {escaped(section.title)}"
    if section.rows:
        _, *others = section.numeric
        rule = ("---", *("---:" if numeric else "---" for numeric in others))
        rows = (section.headings, *section.rows)
        heading, *body = (f"| {' | '.join(map(escaped, row))} |" for row in rows)
        yield "\n".join((heading, f"| {' | '.join(rule)} |", *body))
    yield from map(escaped, section.remarks)
