"""How long results take as a multiple of others, with intervals: a forest plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgedf.runtime.profile.report.figures import number
from edgedf.runtime.profile.report.plots.drawing import WIDTH, Drawing, fit, text_width
from edgedf.runtime.profile.report.plots.scale import Scale

__all__ = ["Interval", "ratios_plot"]

_ROW = 40
_LEFT, _RIGHT = 8, WIDTH - 8


@dataclass(frozen=True)
class Interval:
    """A ratio with what it is about.

    Args:
        name: What is divided by what.
        ratio: The figure.
        low: Lower end of its interval.
        high: Upper end.
    """

    name: str
    ratio: float
    low: float
    high: float


def ratios_plot(intervals: Sequence[Interval]) -> Drawing:
    """Draw a point with its interval for each ratio, and a line where both take equally long.

    Args:
        intervals: At least one.
    """
    drawing = Drawing(
        "Ratios of latency",
        " ".join(f"{i.name}: {_in_words(i)}." for i in intervals),
        _ROW * len(intervals) + 26,
    )
    bottom = _ROW * len(intervals) + 6.0
    values = [value for i in intervals for value in (i.low, i.ratio, i.high)]
    across = Scale.over([*values, 1.0], _LEFT, _RIGHT, spread=True, margin=0.06)
    drawing.horizontal_axis(across, bottom, "", top=6)
    for row, interval in enumerate(intervals):
        y = row * _ROW + 16.0
        said = _in_words(interval)
        drawing.text(WIDTH, y, said, anchor="end", style="strong halo")
        drawing.text(0, y, fit(interval.name, WIDTH - text_width(said) - 12), style="halo")
        middle = y + 14
        drawing.line(across(1), y + 5, across(1), y + 23, "mark")
        low, high = across(interval.low), across(interval.high)
        drawing.line(low, middle, high, middle, "whisker")
        for end in (low, high):
            drawing.line(end, middle - 4, end, middle + 4, "whisker")
        drawing.circle(across(interval.ratio), middle, 4, "first", tip=said)
    return drawing


def _in_words(interval: Interval) -> str:
    return f"{number(interval.ratio)} ({number(interval.low)} to {number(interval.high)})"
