import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedf.runtime.profile.report.plots.drawing import WIDTH, Drawing, fit, text_width
from edgedf.runtime.profile.report.plots.scale import Scale
from tests.contract.pages import drawings

finite = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.lists(finite, max_size=6), finite, st.booleans(), st.booleans(), st.sampled_from([0, 0.1])
)
def test_a_scale_has_a_place_for_every_value(
    values: list[float], other: float, zero: bool, spread: bool, margin: float
) -> None:
    scale = Scale.over(values, 40, 300, zero=zero, spread=spread, margin=margin)
    assert scale.low < scale.high
    for value in (*values, other):
        assert 40 <= scale(value) <= 300
    assert scale(scale.low) == pytest.approx(40)
    assert scale(scale.high) == pytest.approx(300)


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=6), st.booleans())
def test_ticks_are_round_few_and_on_the_scale(values: list[float], spread: bool) -> None:
    scale = Scale.over(values, 0, 100, spread=spread)
    ticks = scale.ticks
    assert 1 <= len(ticks) <= 14
    assert all(a < b for a, b in itertools.pairwise(ticks))
    slack = 1e-6 * (scale.high - scale.low)
    assert all(scale.low - slack <= tick <= scale.high + slack for tick in ticks)


def test_a_scale_goes_either_way_and_grows_by_ratios_where_values_are_far_apart() -> None:
    down = Scale.over([0, 10], 200, 100)
    assert (down(0), down(5), down(10)) == (200, 150, 100)
    ratios = Scale.over([1, 100], 0, 100, spread=True)
    assert ratios.logarithmic
    assert ratios(10) == pytest.approx(50)
    assert not Scale.over([1, 10], 0, 100, spread=True).logarithmic
    assert not Scale.over([0, 100], 0, 100, spread=True).logarithmic


def test_a_scale_from_zero_begins_there() -> None:
    assert Scale.over([5, 7], 0, 1, zero=True).low == 0
    assert Scale.over([0, 0], 0, 1, zero=True).low == 0


@given(st.text(max_size=80), st.floats(20, 500))
def test_text_is_cut_in_the_middle_until_it_fits(said: str, width: float) -> None:
    shown = fit(said, width)
    assert text_width(shown) <= width or shown == "…"
    if shown != said:
        left, _, right = shown.partition("…") if "…" not in said else ("", "", "")
        assert said.startswith(left)
        assert said.endswith(right)


def test_both_ends_of_a_long_name_stay() -> None:
    shown = fit("student_" + "x" * 90 + "_int8.tflite", 200)
    assert shown.startswith("student_")
    assert shown.endswith("_int8.tflite")


def test_a_drawing_tells_what_it_shows() -> None:
    drawing = Drawing("a < b", 'it\'s & "so"', 50)
    drawing.text(1, 2, "<text>", then="more")
    drawing.circle(3, 4, 5, "first", tip="<tip>")
    (svg,) = drawings(drawing.svg("one-2"))
    assert svg.get("role") == "img"
    assert svg.get("viewBox") == f"0 0 {WIDTH} 50"
    title, description = svg[0], svg[1]
    assert (title.tag, title.text) == ("title", "a < b")
    assert (description.tag, description.text) == ("desc", 'it\'s & "so"')
    assert svg.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
    assert svg[2].text == "<text>"
    assert svg[3][0].text == "<tip>"
    assert math.isclose(float(svg[3].get("cx", "nan")), 3)
