"""What a report is made of: the marks of verdicts, and tables with remarks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["MARKS", "NONE", "Section", "counted", "split_mark", "tone"]

MARKS: Mapping[str, str] = {
    "pass": "✓",
    "fail": "✗",
    "cannot tell": "?",
    "valid": "✓",
    "semi-valid": "~",
    "invalid": "✗",
}
"""The mark of each verdict: of limits, and of the validity of a measurement."""

NONE = "-"
"""A cell with nothing to say."""

_TONES = {"✓": "pass", "✗": "fail", "?": "cannot-tell", "~": "cannot-tell"}
_SIGNS = "-+–<≥×"  # that a number may begin with


class Section(NamedTuple):
    """A table with remarks below it.

    Args:
        title: Empty for none.
        headings: Of its columns; the first column names what the row is about.
        rows: Its cells, as many as there are headings. The first one may begin with a mark.
        remarks: Sentences.
        keys: Letters that plots use for what each row is about; empty where there are none.
    """

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    remarks: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Whether each column holds numbers, with or without a unit, rather than words."""
        return tuple(map(_is_numeric, zip(*self.rows)))


def _is_numeric(column: tuple[str, ...]) -> bool:
    cells = [cell for cell in column if cell and cell != NONE]
    numbers = sum(cell[0].isdigit() or cell[0] in _SIGNS for cell in cells)
    return numbers * 2 >= len(cells)


def split_mark(cell: str) -> tuple[str, str]:
    """The mark that a cell begins with, or an empty string, and the text behind it."""
    mark, _, rest = cell.partition(" ")
    return (mark, rest) if mark in _TONES else ("", cell)


def tone(verdict: str) -> str:
    """The color that a verdict, or its mark, is shown in: pass, fail or cannot-tell."""
    return _TONES[MARKS.get(verdict, verdict)]


def counted(count: int, noun: str) -> str:
    """``1 picture``, ``1,200 pictures``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
