"""Tables of a profile as HTML; on a phone each row is a card."""

from __future__ import annotations

import string
from collections import defaultdict
from collections.abc import Mapping

from edgedf.html_page import text
from edgedf.runtime.profile.document import DeviceRun, Profile
from edgedf.runtime.profile.figures import NONE, Section
from edgedf.runtime.profile.wording import name_of

__all__ = ["CARDS_BELOW", "TABLE_STYLE", "Keys", "key", "table"]

CARDS_BELOW = "72rem"
"""Width of the window that the widest table needs."""

TABLE_STYLE = f"""
th.text {{ text-align: left; }} td.long {{ white-space: normal; }}
.badge {{ white-space: nowrap; padding: .05rem .45rem; border-radius: .3rem; font-weight: 600; }}
@media (min-width: {CARDS_BELOW}) {{
  td.long {{ min-width: 15rem; }} tbody th {{ min-width: 12rem; }}
}}
@media (max-width: {CARDS_BELOW}) {{
  tbody tr {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr));
    column-gap: 1rem; padding-left: 0; }}
  tbody th, td.long {{ grid-column: 1 / -1; }}
}}
"""

_LONG = 28  # characters of a cell that had better be broken into lines
_BADGES = {"✓": "pass", "~": "cannot-tell", "?": "cannot-tell", "✗": "fail"}
_WORDS = {"✓": "valid", "~": "semi-valid", "✗": "invalid"}


def key(index: int) -> str:
    """A letter for a result: A to Z, then A2 and so on."""
    turn, letter = divmod(index, 26)
    return string.ascii_uppercase[letter] + (str(turn + 1) if turn else "")


class Keys:
    """Which rows of a device's tables are about which of its results.

    Args:
        profile: The document.
        run: One of its devices.
    """

    def __init__(self, profile: Profile, run: DeviceRun) -> None:
        self._of_row: Mapping[tuple[str, str], list[str]] = defaultdict(list)
        self._of_name: dict[str, str] = {}
        for index, result in enumerate(run.results):
            row = (profile.models[result.model].file, str(result.threads))
            self._of_row[row].append(key(index))
            self._of_name.setdefault(name_of(profile, result), key(index))

    def of(self, section: Section) -> list[str]:
        """The letter of each row, empty where it is about no single result.

        Two models of the same file name are told apart by their order.
        """
        seen: dict[tuple[str, str], int] = defaultdict(int)
        letters = []
        for row in section.rows:
            name = (_unmarked(row[0])[1], row[1]) if len(row) > 1 else ("", "")
            found = self._of_row.get(name, []) if section.headings[1:2] == ("threads",) else []
            letters.append(found[seen[name]] if seen[name] < len(found) else "")
            seen[name] += 1
        return letters

    def named(self, cell: str) -> str:
        """A cell that is a result's name, with its letter; any other as it is."""
        return f"{self._of_name[cell]} · {cell}" if cell in self._of_name else cell


def table(section: Section, keys: Keys | None = None) -> str:
    """A table with its heading and the sentences below it.

    Args:
        section: Its text.
        keys: Letters of the results, which plots use as well.
    """
    title = f"<h3>{text(section.title)}</h3>\n" if section.title else ""
    remarks = "".join(f'<p class="note">{text(remark)}</p>\n' for remark in section.remarks)
    if not section.rows:
        return title + remarks
    styles = [_style(column) for column in zip(*section.rows, strict=True)]
    headings = "".join(
        f'<th scope="col"{style}>{text(name)}</th>'
        for name, style in zip(section.headings, styles, strict=True)
    )
    letters = [""] * len(section.rows) if keys is None else keys.of(section)
    body = "".join(
        _row(section.headings, row, styles, letter, keys)
        for row, letter in zip(section.rows, letters, strict=True)
    )
    return (
        f"{title}<table>\n<thead><tr>{headings}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n"
        f"{remarks}"
    )


def _row(
    headings: tuple[str, ...],
    row: tuple[str, ...],
    styles: list[str],
    letter: str,
    keys: Keys | None,
) -> str:
    mark, first = _unmarked(row[0])
    head = text(f"{letter} · {first}" if letter else first if keys is None else keys.named(first))
    if mark:
        word = f"{mark} {_WORDS[mark]}" if letter and mark in _WORDS else mark
        badge = f'<span class="badge {_BADGES[mark]}">{text(word)}</span>'
        head = f"{head} {badge}" if letter else f"{badge} {head}"
    cells = "".join(
        f"<td{style}{_label(name)}>{text(value if keys is None else keys.named(value))}</td>"
        if value
        else "<td></td>"
        for name, value, style in zip(headings[1:], row[1:], styles[1:], strict=True)
    )
    return f'<tr><th scope="row">{head}</th>{cells}</tr>\n'


def _label(name: str) -> str:
    return f' data-label="{text(name)}"' if name else ""


def _unmarked(cell: str) -> tuple[str, str]:
    """The mark before a cell's text, if any, and the text."""
    mark, _, rest = cell.partition(" ")
    return (mark, rest) if mark in _BADGES else ("", cell)


def _style(column: tuple[str, ...]) -> str:
    """Words go to the left and are broken into lines, numbers to the right."""
    said = [value for value in column if value and value != NONE]
    if any(len(value) > _LONG for value in said):
        return ' class="text long"'
    words = sum(not (value[0].isdigit() or value[0] in "-+–<") for value in said)
    return ' class="text"' if words * 2 > len(said) else ""
