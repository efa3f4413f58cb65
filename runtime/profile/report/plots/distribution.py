"""How latency is spread: a histogram with the percentiles marked."""

from __future__ import annotations

from edgedf.runtime.profile.document import Distribution, Latency
from edgedf.runtime.profile.report.figures import number
from edgedf.runtime.profile.report.plots.drawing import WIDTH, Drawing, text_width
from edgedf.runtime.profile.report.plots.scale import Scale

__all__ = ["distribution_plot"]

_LEFT, _TOP, _BOTTOM, _HEIGHT = 40, 50, 170, 190


def distribution_plot(distribution: Distribution, latency: Latency, name: str) -> Drawing:
    """Draw the histogram of one result.

    Args:
        distribution: The histogram.
        latency: Its p50, p90 and p99 are marked where they are known.
        name: Of the result.
    """
    edges, counts = distribution.edges_ms, distribution.counts
    marks = [
        (label, value)
        for label, value in (
            ("p50", latency.p50_ms),
            ("p90", latency.p90_ms),
            ("p99", latency.p99_ms),
        )
        if value is not None
    ]
    said = ", ".join(f"{label} {number(value)} ms" for label, value in marks)
    drawing = Drawing(
        f"Distribution of latency: {name}",
        f"Histogram of {sum(counts):,} inferences from {number(min(edges, default=0))} to "
        f"{number(max(edges, default=0))} ms. {said}.",
        _HEIGHT,
    )
    across = Scale.over(edges, _LEFT, WIDTH - 6)
    up = Scale.over(counts, _BOTTOM, _TOP, zero=True, most=3)
    drawing.vertical_axis(up, _LEFT)
    drawing.horizontal_axis(across, _BOTTOM, "ms", top=_BOTTOM)
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        left, right, top = across(low), across(high), up(count)
        if count:
            tip = f"{number(low)} to {number(high)} ms: {count:,}"
            # A pixel at least, however few: single slow inferences are what one looks for.
            top = min(top, _BOTTOM - 1)
            drawing.rectangle(left, top, max(right - left - 0.5, 1), _BOTTOM - top, "pale", tip=tip)
    for row, (label, value) in enumerate(marks):
        _mark(drawing, across, row, f"{label} {number(value)}", value)
    return drawing


def _mark(drawing: Drawing, across: Scale, row: int, label: str, value: float) -> None:
    x, y = across(value), 12 + row * 14
    if value > across.high:
        label += " →"
    drawing.line(x, y + 3, x, _BOTTOM, "mark")
    if x + text_width(label) + 4 <= WIDTH:
        drawing.text(x + 3, y, label)
    else:
        drawing.text(x - 3, y, label, anchor="end")
