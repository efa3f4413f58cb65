"""A profile as Markdown, to paste into a pull request."""

from __future__ import annotations

from edgedf.reports.markdown import escaped, section_markdown, verdict_markdown
from edgedf.reports.section import counted
from edgedf.runtime.profile.against import Comparison
from edgedf.runtime.profile.document import Profile
from edgedf.runtime.profile.report.recommend_wording import SHIP
from edgedf.runtime.profile.report.wording import (
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
        parts.append(verdict_markdown(comparison.verdict, verdict_line(comparison)))
        for section in compared(comparison):
            parts.extend(section_markdown(section))
    publishable = escaped(standing(profile))
    parts.append(publishable if profile.publishable else f"**{publishable}**")
    for run in profile.devices:
        parts.append(f"### {escaped(device_line(run))}")
        if run.problem is not None:
            parts.append(f"**{escaped(problem_line(run.problem))}**")
        folded: list[str] = []
        for section in sections(profile, run):
            is_open = section.title.startswith(_OPEN)
            (parts if is_open else folded).extend(section_markdown(section))
        if folded:
            parts.append("<details><summary>Start, memory, pipeline, operators</summary>")
            parts.extend((*folded, "</details>"))
    pictures = f"{counted(profile.images, 'photograph')} ({profile.images_from})"
    parts.append(escaped(f"{pictures}; edgedf {profile.edgedf}, {profile.created}."))
    return "\n\n".join(parts) + "\n"
