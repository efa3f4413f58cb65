"""What the gate measured, in words: for the terminal and for the HTML report alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from edgedf.metrics import PairedFigure
from edgedf.quantize.accuracy.diagnosis import sentence
from edgedf.quantize.accuracy.gate import Measurements, Row, RowName, Verdict
from edgedf.quantize.accuracy.verify import Verification
from edgedf.reports.section import MARKS, Section, counted

__all__ = ["HEADINGS", "Line", "figures", "headline", "lines", "remarks"]

HEADINGS = ("parent", "artifact", "measured", "95 % interval", "limit", "bound")
"""Of the columns of figures."""

_TITLES: dict[RowName, str] = {
    "auc_drop": "AUC drop",
    "tpr_drop": "TPR@1% drop",
    "flips": "flipped verdicts",
    "map_error": "map error / range",
    "logit_correlation": "logit correlation",
    "map_correlation": "map correlation",
}


class Line(NamedTuple):
    """A row of the gate as text; empty where there is nothing to say.

    Args:
        mark: ``✓``, ``✗`` or ``?``.
        verdict: The same in words.
        title: What it is about.
        parent: The parent's figure.
        artifact: The artifact's.
        measured: The figure itself.
        interval: 95 % interval of that.
        limit: What the figure may be.
        bound: What the end of the interval may be.
        reason: Why it does not pass.
    """

    mark: str
    verdict: Verdict
    title: str
    parent: str
    artifact: str
    measured: str
    interval: str
    limit: str
    bound: str
    reason: str

    @property
    def cells(self) -> tuple[str, ...]:
        """The row of a table: the title with its mark, then a cell for each of the headings."""
        return (f"{self.mark} {self.title}", *self[3:9])

    @property
    def why(self) -> str:
        """Why it does not pass, with its mark and its title; empty where it passes."""
        return self.reason and f"{self.mark} {self.title}: {self.reason}"


def headline(verification: Verification) -> str:
    """The verdict in a sentence."""
    seen = verification.measurements
    if verification.verdict == "pass":
        return f"The artifact passes: on {_pictures(seen)} it stays within every limit."
    if verification.verdict == "fail":
        failed = [_TITLES[row.name] for row in verification.rows if row.verdict == "fail"]
        return f"The artifact fails: {', '.join(failed)}."
    needed = verification.images_needed
    if needed is None:
        return f"Cannot tell from {_pictures(seen)}: the figures below with ? need other pictures."
    return (
        f"Cannot tell from {_pictures(seen)}. About {needed:,} of the same kind would do: an "
        "estimate, which takes the figures to stay and their intervals to shrink with the square "
        "root of the number."
    )


def remarks(verification: Verification) -> tuple[str, ...]:
    """What else a reader of the figures has to know, a sentence each."""
    seen = verification.measurements
    sentences = []
    if verification.diagnosis is not None:
        sentences.append(sentence(verification.diagnosis))
    if not (verification.real or verification.fake):
        sentences.append("The pictures have no labels, so there is no AUC.")
    elif not (verification.real and verification.fake):
        only = "real" if verification.real else "fake"
        sentences.append(f"All pictures are {only}, so there is no AUC.")
    if not verification.same_checkpoint:
        sentences.append(
            "Their specs name different checkpoints: these are two models, not a model and what "
            "was made from it."
        )
    if seen.changed:
        changed = counted(seen.changed, "verdict")
        sentences.append(f"{changed} changed to or from unsure, which has no limit.")
    sentences.append(
        f"The maps differ by {seen.map_error.value:.3f} px of the input on average "
        f"({seen.map_error.low:.3f} to {seen.map_error.high:.3f})"
        + (
            f", {seen.map_error.value / seen.map_range:.2%} of the range of the parent's maps and "
            f"{seen.map_error.value / seen.map_mean:.2%} of their mean."
            if seen.map_range > 0 and seen.map_mean > 0
            else "."
        )
    )
    return tuple(sentences)


def lines(verification: Verification) -> tuple[Line, ...]:
    """A line for each row."""
    return tuple(_line(row, verification.measurements) for row in verification.rows)


def figures(verification: Verification) -> Section:
    """All rows as a table, with why some do not pass, and the remarks, below it."""
    rows = lines(verification)
    reasons = filter(None, (line.why for line in rows))
    return Section(
        "Figures",
        ("figure", *HEADINGS),
        tuple(line.cells for line in rows),
        (*reasons, *remarks(verification)),
    )


def _line(row: Row, seen: Measurements) -> Line:
    number = _share if row.name in ("flips", "map_error") else _plain
    parent, artifact = _both(row.name, seen)
    interval = "" if row.low is None or row.high is None else _interval(row.low, row.high, number)
    scale, unit = (100, "%") if number is _share else (1, "")
    least = "" if row.bound is not None else "≥ "
    return Line(
        MARKS[row.verdict],
        row.verdict,
        _TITLES[row.name],
        parent,
        artifact,
        "" if row.value is None else number(row.value),
        interval,
        f"{least}{scale * row.limit:g}{unit}",
        "" if row.bound is None else f"{scale * row.bound:g}{unit}",
        _reason(row),
    )


def _both(name: RowName, seen: Measurements) -> tuple[str, str]:
    pairs: dict[RowName, PairedFigure | None] = {
        "auc_drop": seen.auc,
        "tpr_drop": seen.tpr_at_1_percent_fpr,
    }
    pair = pairs.get(name)
    return ("", "") if pair is None else (_plain(pair.first.value), _plain(pair.second.value))


def _reason(row: Row) -> str:
    if row.images_needed is None:
        return row.reason
    return f"{row.reason}; about {row.images_needed:,} pictures would tell"


def _pictures(seen: Measurements) -> str:
    text = counted(seen.pictures, "picture")
    return text if seen.groups == seen.pictures else f"{text} in {seen.groups:,} groups"


def _plain(value: float) -> str:
    # No "-0.0000": what rounds to nothing has no sign.
    return f"{round(value, 4) + 0.0:.4f}"


def _share(value: float) -> str:
    return f"{value:.2%}"


def _interval(low: float, high: float, number: Callable[[float], str]) -> str:
    return f"{number(low)} to {number(high)}"
