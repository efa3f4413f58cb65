"""A profile as Markdown, to paste into a pull request."""

from __future__ import annotations

from collections.abc import Iterator

from edgedf.runtime.profile.against import Comparison
from edgedf.runtime.profile.document import Profile
from edgedf.runtime.profile.recommend_wording import SHIP
from edgedf.runtime.profile.wording import (
    VERDICT_MARKS,
    Section,
    compared,
    device_line,
    problem_line,
    sections,
    standing,
    verdict_line,
)

__all__ = ["markdown"]

_OPEN = ("Latency", "Ratios of medians", SHIP, "What could not be measured")


def markdown(profile: Profile, comparison: Comparison | None = None) -> str:
    """The profile as Markdown: verdict, latency and ratios in the open, the rest folded.

    Args:
        profile: The document.
        comparison: What became of it against an earlier one; None where it was held against none.
    """
    parts: list[str] = []
    if comparison is not None:
        line = verdict_line(comparison)
        parts.append(f"**{VERDICT_MARKS[comparison.verdict]} {_escaped(line)}**")
        for section in compared(comparison):
            parts.extend(_section(section))
    said = _escaped(standing(profile))
    parts.append(said if profile.publishable else f"**{said}**")
    for run in profile.devices:
        parts.append(f"### {_escaped(device_line(run))}")
        if run.problem is not None:
            parts.append(f"**{_escaped(problem_line(run.problem))}**")
        folded: list[str] = []
        for section in sections(profile, run):
            (parts if section.title.startswith(_OPEN) else folded).extend(_section(section))
        if folded:
            parts.append("<details><summary>Start, memory, pipeline, operators</summary>")
            parts.extend((*folded, "</details>"))
    parts.append(
        _escaped(
            f"{profile.images} photograph{'' if profile.images == 1 else 's'} "
            f"({profile.images_from}); edgedf {profile.edgedf}, {profile.created}."
        )
    )
    return "\n\n".join(parts) + "\n"


def _section(section: Section) -> Iterator[str]:
    if section.title:
        yield f"#### {_escaped(section.title)}"
    if section.rows:
        rule = ("---", *("---:" for _ in section.headings[1:]))
        lines = [_row(section.headings), f"| {' | '.join(rule)} |", *map(_row, section.rows)]
        yield "\n".join(lines)
    yield from (_escaped(remark) for remark in section.remarks)


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(_escaped(cell) for cell in cells)} |"


def _escaped(text: str) -> str:
    """Text from outside as text in a Markdown table."""
    for char in "\\|*_`<>[]~#":
        text = text.replace(char, f"\\{char}")
    return " ".join(text.split())
