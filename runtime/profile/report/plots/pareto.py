"""Which results are worth having: size, latency and accuracy against each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgedf.runtime.profile.report.figures import number
from edgedf.runtime.profile.report.plots.drawing import (
    FONT,
    WIDTH,
    Drawing,
    text_width,
)
from edgedf.runtime.profile.report.plots.scale import Scale

__all__ = ["Candidate", "efficient", "pareto_plot"]

_LEFT, _RIGHT, _TOP, _BOTTOM, _HEIGHT = 46, WIDTH - 10, 20, 250, 288
_SIZES = 6  # points up to which there is room for their sizes


@dataclass(frozen=True)
class Candidate:
    """What a choice is made among.

    Args:
        key: Its letter.
        megabytes: Of the file.
        latency_ms: Median, or mean where no median is known.
        latency_low_ms: Lower end of its interval; None where unknown.
        latency_high_ms: Upper end.
        auc: None where unknown.
        auc_low: Lower end of its interval.
        auc_high: Upper end.
        valid: Whether its latency may be believed.
    """

    key: str
    megabytes: float
    latency_ms: float
    latency_low_ms: float | None = None
    latency_high_ms: float | None = None
    auc: float | None = None
    auc_low: float | None = None
    auc_high: float | None = None
    valid: bool = True


def efficient(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Those that no other one beats: as good in everything and better in something.

    Where an AUC is known, size, latency and AUC count, else size and latency.
    """
    compared = [c for c in candidates if c.auc is not None] or list(candidates)
    return tuple(c for c in compared if not any(_beats(other, c) for other in compared))


def pareto_plot(candidates: Sequence[Candidate]) -> Drawing:
    """Draw AUC over latency, with size as area; size over latency where no AUC is known.

    Args:
        candidates: At least one. Those without an AUC are left out where others have one.
    """
    with_auc = [c for c in candidates if c.auc is not None]
    shown = with_auc or list(candidates)
    best = efficient(candidates)
    what = "AUC, latency and size" if with_auc else "Size and latency"
    drawing = Drawing(
        what,
        " ".join(f"{c.key}: {_in_words(c)}." for c in shown)
        + f" None beats {', '.join(c.key for c in best)}.",
        _HEIGHT,
    )
    across = Scale.over(
        [v for c in shown for v in (c.latency_ms, c.latency_low_ms, c.latency_high_ms) if v],
        _LEFT,
        _RIGHT,
        spread=True,
        margin=0.12,
    )
    heights = [
        v
        for c in shown
        for v in ((c.auc, c.auc_low, c.auc_high) if with_auc else (c.megabytes,))
        if v is not None
    ]
    up = Scale.over(heights, _BOTTOM, _TOP + 4, spread=not with_auc, margin=0.12)
    drawing.vertical_axis(up, _LEFT)
    drawing.text(0, 11, "AUC (up is better)" if with_auc else "MB (down is better)", style="quiet")
    drawing.horizontal_axis(across, _BOTTOM, "", top=_TOP)
    log = ", logarithmic" if across.logarithmic else ""
    drawing.text(
        WIDTH, _BOTTOM + 32, f"latency in ms{log} (left is better)", anchor="end", style="quiet"
    )
    places = [
        (across(c.latency_ms), up(c.auc if c.auc is not None else c.megabytes)) for c in shown
    ]
    front = sorted(place for place, c in zip(places, shown, strict=True) if c in best)
    drawing.polyline(front, "front")
    largest = max(c.megabytes for c in shown)
    radii = [
        4 + 10 * math.sqrt(max(c.megabytes, 0) / largest) if with_auc and largest > 0 else 6
        for c in shown
    ]
    for c, (x, y) in zip(shown, places, strict=True):
        _whiskers(drawing, c, x, y, across, up)
    taken = [(x - r, y - r, x + r, y + r) for (x, y), r in zip(places, radii, strict=True)]
    for c, (x, y), radius in zip(shown, places, radii, strict=True):
        drawing.circle(x, y, radius, "bubble" if c.valid else "hollow", tip=_in_words(c))
    for c, (x, y), radius in zip(shown, places, radii, strict=True):
        said = f"{c.key} {number(c.megabytes)} MB" if len(shown) <= _SIZES else c.key
        _label(drawing, said, x, y, radius, taken)
    return drawing


def _beats(one: Candidate, other: Candidate) -> bool:
    mine, its = _costs(one), _costs(other)
    return mine != its and all(a <= b for a, b in zip(mine, its, strict=True))


def _costs(candidate: Candidate) -> tuple[float, float, float]:
    return candidate.megabytes, candidate.latency_ms, -(candidate.auc or 0.0)


def _in_words(c: Candidate) -> str:
    said = f"{number(c.latency_ms)} ms, {number(c.megabytes)} MB"
    return said if c.auc is None else f"{said}, AUC {c.auc:.3f}"


def _whiskers(drawing: Drawing, c: Candidate, x: float, y: float, across: Scale, up: Scale) -> None:
    if c.latency_low_ms is not None and c.latency_high_ms is not None:
        drawing.line(across(c.latency_low_ms), y, across(c.latency_high_ms), y, "whisker")
    if c.auc_low is not None and c.auc_high is not None:
        drawing.line(x, up(c.auc_low), x, up(c.auc_high), "whisker")


_Box = tuple[float, float, float, float]


def _label(
    drawing: Drawing, said: str, x: float, y: float, radius: float, taken: list[_Box]
) -> None:
    """Beside the point where nothing is yet, else where the least is."""
    width = text_width(said)
    places = []
    for distance in (0, FONT, 2 * FONT, 3 * FONT):
        for left, base in (
            (x + radius + 3, y + 4 - distance),
            (x - radius - 3 - width, y + 4 - distance),
            (x + radius + 3, y + 4 + distance),
            (x - radius - 3 - width, y + 4 + distance),
            (x - width / 2, y - radius - 4 - distance),
            (x - width / 2, y + radius + FONT + distance),
        ):
            left = min(max(left, _LEFT + 1), WIDTH - width)
            base = min(max(base, _TOP + FONT), _BOTTOM - 2)
            places.append((left, base - FONT + 2, left + width, base + 2))
    box = min(places, key=lambda place: sum(_overlap(place, other) for other in taken))
    taken.append(box)
    drawing.text(box[0], box[3] - 2, said, style="halo")


def _overlap(one: _Box, other: _Box) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0) * max(height, 0)
