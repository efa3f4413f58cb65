"""A comparison with an earlier profile, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgedf.reports.section import MARKS, Section
from edgedf.runtime.profile.against import Comparison, Verdict, What
from edgedf.runtime.profile.report.figures import kib, megabytes, ms, number

__all__ = ["compared", "verdict_line"]

_UNITS: Mapping[What, Callable[[float], str]] = {
    "p50": ms,
    "p90": ms,
    "memory": lambda value: kib(round(value)),
    "size": lambda value: megabytes(round(value)),
    "ratio": lambda value: f"{number(value)}×",
}


def verdict_line(comparison: Comparison) -> str:
    """The verdict in a sentence."""
    limit = f"{comparison.limit:.0%}"
    named = _named(comparison, comparison.verdict)
    if comparison.verdict == "fail":
        return f"Worse than before by more than {limit}: {named}."
    if comparison.verdict == "pass":
        return f"Nothing got worse by more than {limit}."
    if not comparison.changes:
        return "Cannot tell: nothing is in both profiles."
    if not named:
        return "Cannot tell: latency could not be compared; see the remarks."
    return f"Cannot tell whether anything got worse by more than {limit}: {named}."


def compared(comparison: Comparison) -> tuple[Section, ...]:
    """What changed against an earlier profile, as a table.

    Args:
        comparison: Of this profile with the earlier one.
    """
    devices = len({change.device for change in comparison.changes}) > 1
    rows, remarks = [], list(comparison.remarks)
    for change in comparison.changes:
        mark = MARKS[change.verdict] if change.verdict else " "
        name = f"{change.device}: {change.name}" if devices else change.name
        unit = _UNITS[change.what]
        interval = ""
        if change.low is not None and change.high is not None:
            interval = f"{change.low:.3f} to {change.high:.3f}"
        rows.append(
            (
                f"{mark} {change.what}",
                name,
                unit(change.before),
                unit(change.now),
                f"{change.ratio:.3f}",
                interval,
            )
        )
        if change.reason and (change.verdict != "pass"):
            remarks.append(f"{mark} {change.what} of {name}: {change.reason}.".strip())
    headings = ("", "", "then", "now", "now / then", "95 % interval")
    title = f"Against the earlier profile, limit {1 + comparison.limit:.2f}"
    return (Section(title, headings, tuple(rows), tuple(dict.fromkeys(remarks))),)


def _named(comparison: Comparison, verdict: Verdict) -> str:
    changes = (
        f"{change.what} of {change.name} ({change.ratio - 1:+.0%})"
        for change in comparison.changes
        if change.verdict == verdict
    )
    return ", ".join(dict.fromkeys(changes))
