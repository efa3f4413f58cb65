"""Latency and the machine over time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from edgedf.runtime.profile.document import Moment, Sustained
from edgedf.runtime.profile.events import State
from edgedf.runtime.profile.report.figures import number
from edgedf.runtime.profile.report.plots.drawing import WIDTH, Drawing
from edgedf.runtime.profile.report.plots.scale import Scale
from edgedf.runtime.profile.report.plots.spans import Span

__all__ = ["machine_plot", "over_time_plot", "sustained_plot"]

_LEFT, _RIGHT = 40, WIDTH - 6
_PANEL, _STRIP = 110, 46  # heights


def over_time_plot(
    moments: Sequence[Moment], spans: Sequence[Span], name: str, *, until_s: tuple[float, float]
) -> Drawing:
    """Draw median and 90th percentile of one result's blocks.

    Args:
        moments: Blocks, at least one.
        spans: Time to shade.
        name: Of the result.
        until_s: Begin and end of the time axis, the same for all results of a device.
    """
    drawing = Drawing(
        f"Latency over time: {name}",
        f"{_range(moments, 'blocks')}{_spans_in_words(spans)}",
        12 + 14 + _PANEL + 22,
    )
    across = _time(until_s)
    _legend(drawing)
    top, bottom = 26.0, 26.0 + _PANEL
    _shade(drawing, spans, across, top, bottom)
    _latency(drawing, [(m.at_s, m.p50_ms, m.p90_ms) for m in moments], across, top, bottom)
    drawing.horizontal_axis(across, bottom, "s", top=bottom)
    return drawing


def machine_plot(
    states: Sequence[State], spans: Sequence[Span], *, until_s: tuple[float, float]
) -> Drawing | None:
    """Draw what the machine did meanwhile: other processes, frequency, temperature.

    Args:
        states: In order of time.
        spans: Time to shade.
        until_s: Begin and end of the time axis.

    Returns:
        The drawing; None where the machine does not say any of it.
    """
    within = [state for state in states if until_s[0] <= state.at_s <= until_s[1]]
    strips = _known((title, [(state.at_s, of(state)) for state in within]) for title, of in _STRIPS)
    if not strips:
        return None
    said = "; ".join(
        f"{title}: {number(min(v for _, v in known))} to {number(max(v for _, v in known))}"
        for title, known in strips
    )
    drawing = Drawing(
        "The machine meanwhile",
        f"{said}.{_spans_in_words(spans)}",
        len(strips) * (_STRIP + 24) + 20,
    )
    across = _time(until_s)
    bottom = 0.0
    for title, known in strips:
        bottom = _strip(drawing, bottom, title, known, across, spans)
    drawing.horizontal_axis(across, bottom, "s", top=bottom)
    return drawing


def sustained_plot(sustained: Sustained, name: str) -> Drawing:
    """Draw a long run minute by minute, with frequency and temperature where they are known.

    Args:
        sustained: The run, at least one minute of it.
        name: Of the result.
    """
    minutes = sustained.minutes
    strips = _known(
        (
            (_FREQUENCY, [(m.at_s / 60, m.frequency_mhz) for m in minutes]),
            (_TEMPERATURE, [(m.at_s / 60, m.temperature_c) for m in minutes]),
        )
    )
    drawing = Drawing(
        f"Sustained: {name}",
        f"{_range(minutes, 'minutes')} The last minute takes {number(sustained.ratio)} times as "
        f"long as the first ({number(sustained.ratio_low)} to {number(sustained.ratio_high)}).",
        12 + 14 + _PANEL + len(strips) * (_STRIP + 28) + 22,
    )
    across = _time((min(m.at_s for m in minutes) / 60, max(m.at_s for m in minutes) / 60))
    _legend(drawing)
    bottom = 26.0 + _PANEL
    points = [(m.at_s / 60, m.p50_ms, m.p90_ms) for m in minutes]
    _latency(drawing, points, across, 26, bottom)
    for title, known in strips:
        bottom = _strip(drawing, bottom + 4, title, known, across, ())
    drawing.horizontal_axis(across, bottom, "min", top=bottom)
    return drawing


def _mean_frequency(state: State) -> float | None:
    known = state.frequency_mhz
    return sum(known) / len(known) if known else None


_STOLEN = "processors taken by the hypervisor"
_FREQUENCY, _TEMPERATURE = "frequency, MHz (mean)", "temperature, °C (highest)"

_STRIPS: tuple[tuple[str, Callable[[State], float | None]], ...] = (
    ("processors busy with other work", lambda state: state.other_load),
    (_STOLEN, lambda state: state.stolen),
    (_FREQUENCY, _mean_frequency),
    (_TEMPERATURE, lambda state: max(state.temperature_c.values(), default=None)),
)


def _known(
    strips: Iterable[tuple[str, Sequence[tuple[float, float | None]]]],
) -> list[tuple[str, list[tuple[float, float]]]]:
    """What there is of each quantity; those of which there is nothing are left out."""
    found = [
        (title, [(at, value) for at, value in points if value is not None])
        for title, points in strips
    ]
    # A machine that shares nothing says zero all the time: not worth a strip.
    return [
        (title, points)
        for title, points in found
        if points and (title != _STOLEN or any(value for _, value in points))
    ]


def _time(until: tuple[float, float]) -> Scale:
    return Scale.over(until, _LEFT, _RIGHT)


def _latency(
    drawing: Drawing,
    points: Sequence[tuple[float, float, float]],
    across: Scale,
    top: float,
    bottom: float,
) -> None:
    """Both lines. Blocks of more than thrice the usual are cut off, and marked at the edge."""
    usual = sorted(p50 for _, p50, _ in points)[len(points) // 2]
    ceiling = usual * 3
    kept = [value for _, p50, p90 in points for value in (p50, p90) if value <= ceiling]
    # A steady line shall look steady: a tenth of the usual always fits.
    up = Scale.over([*kept, usual * 0.95, usual * 1.05], bottom, top + 4, margin=0.04, most=4)
    drawing.vertical_axis(up, _LEFT)
    drawing.text(_LEFT - 4, top - 14, "ms", anchor="end", style="quiet")
    for index, style in ((2, "line second"), (1, "line")):
        drawing.polyline([(across(point[0]), up(point[index])) for point in points], style)
        if len(points) == 1:
            drawing.circle(across(points[0][0]), up(points[0][index]), 3, style)
    for at, _, p90 in points:
        if p90 > up.high:
            drawing.text(across(at), top + 8, "▲", anchor="middle")


def _strip(
    drawing: Drawing,
    above: float,
    title: str,
    known: Sequence[tuple[float, float]],
    across: Scale,
    spans: Sequence[Span],
) -> float:
    """One quantity below what there is; where it ends."""
    top, bottom = above + 20, above + 20 + _STRIP
    _shade(drawing, spans, across, top, bottom)
    zero = title not in (_FREQUENCY, _TEMPERATURE)
    up = Scale.over([value for _, value in known], bottom, top, zero=zero, margin=0.05, most=3)
    drawing.vertical_axis(up, _LEFT)
    drawing.text(_LEFT, top - 5, title)
    drawing.polyline([(across(at), up(value)) for at, value in known], "line")
    if len(known) == 1:
        drawing.circle(across(known[0][0]), up(known[0][1]), 2, "first")
    return bottom + 4


def _legend(drawing: Drawing) -> None:
    drawing.line(_LEFT + 2, 8, _LEFT + 26, 8, "line")
    drawing.text(_LEFT + 30, 12, "p50")
    drawing.line(_LEFT + 66, 8, _LEFT + 90, 8, "line second")
    drawing.text(_LEFT + 94, 12, "p90")


def _shade(
    drawing: Drawing, spans: Sequence[Span], across: Scale, top: float, bottom: float
) -> None:
    for span in spans:
        if span.end_s < across.low or span.start_s > across.high:
            continue
        left, right = across(span.start_s), across(span.end_s)
        width = max(right - left, 2)
        drawing.rectangle(left, top, width, bottom - top, span.why, tip=span.why)
        # Told apart without color: throttled time has a bar at the bottom as well.
        if span.why == "throttled":
            drawing.rectangle(left, bottom - 3, width, 3, "second")


def _range(points: Sequence[object], what: str) -> str:
    medians = [p.p50_ms for p in points]  # type: ignore[attr-defined]
    return (
        f"Medians of {len(medians):,} {what}, from {number(min(medians))} to "
        f"{number(max(medians))} ms."
    )


def _spans_in_words(spans: Sequence[Span]) -> str:
    said = "".join(
        f" {count} span{'' if count == 1 else 's'} in which the machine {what}."
        for why, what in (("throttled", "was throttled"), ("loaded", "did other work"))
        if (count := sum(span.why == why for span in spans))
    )
    return said
