"""Every kind of plot: what is in the document is on it, and nothing is outside of it."""

from __future__ import annotations

import dataclasses
import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgedf.runtime.profile import document
from edgedf.runtime.profile.events import OperatorTime, State
from edgedf.runtime.profile.report.plots.distribution import distribution_plot
from edgedf.runtime.profile.report.plots.drawing import FONT, STYLE, WIDTH, Drawing
from edgedf.runtime.profile.report.plots.operators import operators_plot
from edgedf.runtime.profile.report.plots.over_time import (
    machine_plot,
    over_time_plot,
    sustained_plot,
)
from edgedf.runtime.profile.report.plots.pareto import Candidate, efficient, pareto_plot
from edgedf.runtime.profile.report.plots.pipeline import pipeline_plot
from edgedf.runtime.profile.report.plots.ratios import Interval, ratios_plot
from edgedf.runtime.profile.report.plots.spans import Span
from tests.contract.pages import drawings
from tests.runtime.profile import documents

finite = st.floats(allow_nan=False, allow_infinity=False)
some = st.one_of(st.floats(0, 1e4), finite)


def seen(drawing: Drawing | None) -> ElementTree.Element:
    """The drawing as XML, once all its coordinates are found to be numbers inside it."""
    assert drawing is not None
    (svg,) = drawings(drawing.svg("x"))
    for element in svg.iter():
        for name in ("x", "x1", "x2", "cx"):
            inside(element.get(name), WIDTH)
        for name in ("y", "y1", "y2", "cy", "width", "height", "r"):
            inside(element.get(name), max(drawing.height, WIDTH))
        for point in (element.get("points") or "").split():
            x, y = point.split(",")
            inside(x, WIDTH)
            inside(y, drawing.height)
    return svg


def inside(value: str | None, end: float) -> None:
    if value is not None:
        assert math.isfinite(float(value))
        assert -FONT <= float(value) <= end + FONT


def texts(svg: ElementTree.Element) -> list[str]:
    return ["".join(element.itertext()) for element in svg.iter("text")]


def styled(svg: ElementTree.Element, name: str, style: str) -> list[ElementTree.Element]:
    return [e for e in svg.iter(name) if style in (e.get("class") or "").split()]


def distribution_and_latency(
    edges: tuple[float, ...], counts: tuple[int, ...], p99: float | None
) -> Drawing:
    latency = document.Latency(3, 1.0, 1.0, 1.0, p50_ms=2.0, p90_ms=3.0, p99_ms=p99)
    return distribution_plot(document.Distribution(edges, counts), latency, "a")


def test_a_histogram_has_a_bar_for_each_bin_that_has_any() -> None:
    svg = seen(distribution_and_latency((1, 2, 3, 4), (5, 0, 10), 3.5))
    bars = styled(svg, "rect", "pale")
    heights = [float(bar.get("height", "nan")) for bar in bars]
    assert heights == [60, 120]
    assert [bar[0].text for bar in bars] == ["1.00 to 2.00 ms: 5", "3.00 to 4.00 ms: 10"]
    assert {"p50 2.00", "p90 3.00", "p99 3.50"} <= set(texts(svg))


def test_a_percentile_beyond_the_histogram_says_so() -> None:
    assert "p99 9.00 →" in texts(seen(distribution_and_latency((1, 4), (5,), 9.0)))


def test_unknown_percentiles_are_not_marked() -> None:
    svg = seen(distribution_and_latency((1, 4), (5,), None))
    assert len(styled(svg, "line", "mark")) == 2


@settings(max_examples=30)
@given(st.lists(some, min_size=2, max_size=8), some)
def test_any_histogram_can_be_drawn(edges: list[float], p99: float) -> None:
    seen(distribution_and_latency(tuple(sorted(edges)), (3,) * (len(edges) - 1), p99))


MOMENTS = documents.result().over_time


def test_blocks_become_two_lines_with_shaded_spans() -> None:
    spans = (Span(30, 40, "loaded"), Span(50, 51, "throttled"), Span(400, 410, "loaded"))
    svg = seen(over_time_plot(MOMENTS, spans, "a", until_s=(21, 82)))
    lines = [len((e.get("points") or "").split()) for e in svg.iter("polyline")]
    assert lines == [len(MOMENTS)] * 2
    assert len(styled(svg, "rect", "loaded")) == 1
    assert len(styled(svg, "rect", "throttled")) == 1
    assert "2 spans in which the machine did other work" in (svg[1].text or "")


def test_a_block_beyond_the_axis_is_marked() -> None:
    slow = dataclasses.replace(MOMENTS[7], p90_ms=MOMENTS[7].p50_ms * 40)
    svg = seen(over_time_plot([*MOMENTS[:7], slow, *MOMENTS[8:]], (), "a", until_s=(21, 82)))
    assert texts(svg).count("▲") == 1
    assert texts(seen(over_time_plot(MOMENTS, (), "a", until_s=(21, 82)))).count("▲") == 0


@settings(max_examples=30)
@given(st.lists(st.tuples(some, some, some), min_size=1, max_size=5))
def test_any_blocks_can_be_drawn(points: list[tuple[float, float, float]]) -> None:
    moments = [document.Moment(*point) for point in points]
    at = [moment.at_s for moment in moments]
    seen(over_time_plot(moments, (Span(0, 1, "loaded"),), "a", until_s=(min(at), max(at))))
    minutes = tuple(document.Minute(*point[:1], 1, *point[1:], point[0]) for point in points)
    seen(sustained_plot(document.Sustained(1, 1, 1, 1, minutes), "a"))


def test_the_machine_shows_only_what_it_says() -> None:
    svg = seen(machine_plot(documents.states(), (), until_s=(0, 110)))
    said = texts(svg)
    for title in (
        "processors busy with other work",
        "processors taken by the hypervisor",
        "frequency, MHz (mean)",
        "temperature, °C (highest)",
    ):
        assert title in said
    only = machine_plot([State(0, temperature_c={"a": 40.0, "b": 50.0})], (), until_s=(0, 1))
    said = texts(seen(only))
    assert "temperature, °C (highest)" in said
    assert "processors busy with other work" not in said
    shared = [State(0, stolen=0.0), State(1, stolen=0.5), State(2, stolen=0.0)]
    (line,) = seen(machine_plot(shared, (), until_s=(0, 2))).iter("polyline")
    assert len((line.get("points") or "").split()) == 3
    assert machine_plot(shared[::2], (), until_s=(0, 2)) is None
    assert machine_plot([State(0.5), State(2, other_load=1)], (), until_s=(0, 1)) is None


def test_a_sustained_run_is_drawn_by_minutes() -> None:
    svg = seen(sustained_plot(documents.minutes(30), "a"))
    assert "1.21 times" in (svg[1].text or "")
    assert "frequency, MHz (mean)" in texts(svg)
    bare = document.Sustained(
        60, 1, 1, 1, tuple(document.Minute(60.0 * i, 9, 3, 4) for i in range(3))
    )
    assert "frequency, MHz (mean)" not in texts(seen(sustained_plot(bare, "a")))


def test_operators_show_the_ten_slowest_and_the_rest() -> None:
    shares = documents.operators(10.0, kinds=14)
    svg = seen(operators_plot(shares, "a"))
    said = texts(svg)
    slowest = sorted(shares.operators, key=lambda each: -each.milliseconds)
    kinds = [line.split()[0] for line in said if " ms · " not in line]
    assert kinds == ["executed", "not", *(each.kind for each in slowest[:10]), "4"]
    assert "4 others" in said
    assert "RESIZE_BILINEAR (not delegated)" in said
    assert "executed by XNNPACK" in said
    rest = sum(each.milliseconds for each in slowest[10:])
    assert f"{rest:.2f} ms · {rest / 10:.1%}" in said
    widths = [float(e.get("width", "nan")) for e in svg.iter("rect")][2:-1]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] == WIDTH


def test_operators_without_delegates_have_none_to_tell_apart() -> None:
    shares = document.OperatorShares("x", (OperatorTime("a", "Conv", 1.0),), 1, 1.0, 1.0, "")
    said = texts(seen(operators_plot(shares, "a")))
    assert "the runtime's own" in said
    assert not any("not delegated" in each for each in said)
    assert not any("others" in each for each in said)


def test_operators_of_several_delegates_name_each() -> None:
    each = (OperatorTime("a", "CONV_2D", 2.0, "XNNPACK"), OperatorTime("b", "ADD", 1.0, "NNAPI"))
    shares = document.OperatorShares("x", each, 2, 3.0, 3.0, "", delegated=2)
    said = " ".join(texts(seen(operators_plot(shares, "a"))))
    assert "CONV_2D (XNNPACK)" in said
    assert "ADD (NNAPI)" in said


@settings(max_examples=30)
@given(st.lists(some, min_size=1, max_size=14), st.text(max_size=60))
def test_any_operators_can_be_drawn(times: list[float], name: str) -> None:
    each = tuple(OperatorTime(name, name, time) for time in times)
    seen(operators_plot(document.OperatorShares("x", each, 1, 1.0, 1.0, name), name))


def test_the_pipeline_is_as_wide_as_its_shares() -> None:
    stages = (document.Stage("decode", 3, 4, 0.75), document.Stage("inference", 1, 2, 0.25))
    svg = seen(pipeline_plot([("a", document.Pipeline(9, 0.8, 4, 5, stages))]))
    bars = [e for e in svg.iter("rect") if len(e)]
    assert [float(bar.get("width", "nan")) for bar in bars] == [269, 89]
    assert {"decode 75%", "25%", "4.00 ms"} <= set(texts(svg))


@settings(max_examples=30)
@given(st.lists(some, min_size=1, max_size=4), some)
def test_any_pipeline_can_be_drawn(times: list[float], share: float) -> None:
    whole = sum(map(abs, times)) or 1.0
    stages = tuple(
        document.Stage(f"stage {i}", t, t, abs(t) / whole if math.isfinite(whole) else 0.0)
        for i, t in enumerate(times)
    )
    seen(pipeline_plot([("a", document.Pipeline(1, 1, share, share, stages))]))


def test_ratios_have_a_line_at_one() -> None:
    svg = seen(ratios_plot([Interval("B / A", 1.9, 1.8, 2.0), Interval("C / A", 0.5, 0.4, 0.6)]))
    one, _ = styled(svg, "line", "mark")
    points = [float(e.get("cx", "nan")) for e in svg.iter("circle")]
    assert points[1] < float(one.get("x1", "nan")) < points[0]
    assert {"B / A", "1.90 (1.80 to 2.00)", "0.500 (0.400 to 0.600)"} <= set(texts(svg))


@settings(max_examples=30)
@example([(1.0, 1.0, 6.0), (1.0, 1.0, 4.5e-287)])
@given(st.lists(st.tuples(some, some, some), min_size=1, max_size=5))
def test_any_ratios_can_be_drawn(values: list[tuple[float, float, float]]) -> None:
    seen(ratios_plot([Interval("a", *value) for value in values]))


def test_what_nothing_beats_is_efficient() -> None:
    small = Candidate("A", 1, 3, auc=0.90)
    large = Candidate("B", 3, 5, auc=0.92)
    beaten = Candidate("C", 3, 6, auc=0.91)
    unknown = Candidate("D", 0.1, 0.1)
    assert efficient([small, large, beaten, unknown]) == (small, large)
    assert efficient([dataclasses.replace(c, auc=None) for c in (small, large)]) == (
        dataclasses.replace(small, auc=None),
    )
    assert efficient([small, dataclasses.replace(small, key="E")]) == (
        small,
        dataclasses.replace(small, key="E"),
    )


def test_pareto_shows_size_latency_and_auc() -> None:
    known = Candidate("A", 1.1, 3, 2.9, 3.1, 0.90, 0.88, 0.92)
    other = Candidate("B", 3.2, 5, 4.9, 5.1, 0.91, 0.89, 0.93, valid=False)
    svg = seen(pareto_plot([known, other, Candidate("C", 1, 1)]))
    small, large = (float(e.get("r", "nan")) for e in svg.iter("circle"))
    assert small < large
    assert [e.get("class") for e in svg.iter("circle")] == ["bubble", "hollow"]
    assert {"A 1.10 MB", "B 3.20 MB"} <= set(texts(svg))
    assert len(styled(svg, "line", "whisker")) == 4
    assert "AUC 0.900" in (svg[1].text or "")


def test_pareto_without_auc_shows_size_and_latency() -> None:
    svg = seen(pareto_plot([Candidate("A", 1, 3), Candidate("B", 3, 5)]))
    assert "MB (down is better)" in texts(svg)
    places = [(float(e.get("cx", "nan")), float(e.get("cy", "nan"))) for e in svg.iter("circle")]
    assert places[0][0] < places[1][0]
    assert places[0][1] > places[1][1]


@settings(max_examples=30)
@example([(0.0, 0.0, 1.0, 2.9e-300, None)])
@given(
    st.lists(st.tuples(some, some, some, some, st.none() | st.floats(0, 1)), min_size=1, max_size=9)
)
def test_any_candidates_can_be_drawn(
    values: list[tuple[float, float, float, float, float | None]],
) -> None:
    seen(pareto_plot([Candidate(f"K{i}", *value) for i, value in enumerate(values)]))


@pytest.mark.parametrize("index", range(2))
def test_colors_have_a_value_for_light_and_dark(index: int) -> None:
    own = {"--ink", "--quiet", "--line", "--paper"}  # the page's
    part = STYLE.split("prefers-color-scheme: dark")[index]
    for name in set(re.findall(r"var\((--[\w-]+)\)", STYLE)) - own:
        assert f"{name}:" in part
