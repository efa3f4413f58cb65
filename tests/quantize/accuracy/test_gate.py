import dataclasses
import json
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from edgedf import typed_json
from edgedf.errors import ConfigError
from edgedf.figures import Figure
from edgedf.metrics import PairedFigure
from edgedf.quantize.accuracy.gate import (
    Agreement,
    Measurements,
    Row,
    images_needed,
    judge,
    overall,
    upper_end_of_none,
    verdict_of,
)
from edgedf.quantize.accuracy.limits import Limits

ALIKE = Agreement(0.999, dead=False, parent_varies=True, max_abs=0.1, mean_abs=0.05)


def measured(**changes: Any) -> Measurements:
    """Two models that agree on 1,000 pictures, each a group, with any field changed."""
    drop = PairedFigure(
        Figure(0.9, 0.88, 0.92, 1000), Figure(0.899, 0.88, 0.92, 1000), Figure(1e-3, -2e-3, 3e-3, 9)
    )
    fields: dict[str, Any] = {
        "pictures": 1000,
        "groups": 1000,
        "flipped": 2,
        "changed": 5,
        "flips": Figure(0.002, 0.0, 0.005, 1000),
        "map_error": Figure(0.02, 0.018, 0.022, 1000),
        "map_range": 4.0,
        "map_mean": 1.0,
        "logit": ALIKE,
        "map": ALIKE,
        "auc": drop,
        "tpr_at_1_percent_fpr": drop,
    }
    return Measurements(**{**fields, **changes})


def rows_of(limits: Limits | None = None, **changes: Any) -> dict[str, Row]:
    return {row.name: row for row in judge(measured(**changes), limits or Limits())}


def figures(fewest: int = 1) -> st.SearchStrategy[Figure]:
    """Estimates with intervals around them."""
    n = st.integers(fewest, 10_000)
    value, part = st.floats(-0.2, 0.5), st.floats(0, 0.5)
    return st.builds(
        lambda v, below, above, n: Figure(v, v - below, v + above, n), value, part, part, n
    )


limits_and_bounds = st.tuples(st.floats(0, 0.2), st.floats(0, 0.2)).map(sorted)


@given(figures(), limits_and_bounds)
def test_a_loss_passes_within_both_limits_and_fails_where_it_is_no_chance(
    figure: Figure, allowed: list[float]
) -> None:
    limit, bound = allowed
    assume(min(abs(figure.value - limit), abs(figure.high - bound), abs(figure.low)) > 1e-6)
    expected = "cannot tell"
    if figure.value < limit and figure.high < bound:
        expected = "pass"
    elif figure.value > limit and figure.low > 0:
        expected = "fail"
    assert verdict_of(figure, limit, bound) == expected


@given(figures(), limits_and_bounds, st.floats(0, 0.3))
def test_a_wider_interval_never_decides_what_a_narrower_one_left_open(
    figure: Figure, allowed: list[float], more: float
) -> None:
    wider = dataclasses.replace(figure, low=figure.low - more, high=figure.high + more)
    before, after = verdict_of(figure, *allowed), verdict_of(wider, *allowed)
    assert after in (before, "cannot tell")


@given(figures(), limits_and_bounds, st.floats(0, 0.3))
def test_a_looser_limit_never_makes_a_verdict_worse(
    figure: Figure, allowed: list[float], more: float
) -> None:
    order = ["fail", "cannot tell", "pass"]
    before = verdict_of(figure, *allowed)
    after = verdict_of(figure, *(limit + more for limit in allowed))
    assert order.index(after) >= order.index(before)


@example(Figure(0.02, 0.0, 0.08, 100), [0.01, 0.05])  # ends at 0 for want of anything between
@given(figures(fewest=2), limits_and_bounds)
def test_so_many_pictures_do_tell_when_intervals_shrink_as_assumed(
    figure: Figure, allowed: list[float]
) -> None:
    assume(verdict_of(figure, *allowed) == "cannot tell")
    needed = images_needed(figure, *allowed)
    if needed is None:
        assert figure.value == pytest.approx(allowed[1], abs=1e-8)
        return
    assert needed > figure.n
    shrunk = (figure.n / needed) ** 0.5 * (1 - 1e-9)
    then = Figure(
        figure.value,
        figure.value + shrunk * (figure.low - figure.value),
        figure.value + shrunk * (figure.high - figure.value),
        needed,
    )
    assert verdict_of(then, *allowed) != "cannot tell" or then.low == pytest.approx(0, abs=1e-8)


def test_four_times_the_pictures_halve_an_interval() -> None:
    figure = Figure(0.002, -0.014, 0.018, 100)
    assert verdict_of(figure, 0.005, 0.01) == "cannot tell"
    assert images_needed(figure, 0.005, 0.01) == 400
    assert images_needed(dataclasses.replace(figure, n=123), 0.005, 0.01) == 500  # of 492
    assert images_needed(Figure(0.005, 0.001, 0.02, 100), 0.005, 0.005) is None


def test_two_models_that_agree_pass_every_row() -> None:
    rows = rows_of()
    assert list(rows) == [
        "auc_drop",
        "tpr_drop",
        "flips",
        "map_error",
        "logit_correlation",
        "map_correlation",
    ]
    assert {row.verdict for row in rows.values()} == {"pass"}
    assert {row.reason for row in rows.values()} == {""}
    assert (rows["map_error"].value, rows["map_error"].high) == (0.005, 0.0055)


def test_without_labels_there_are_no_drops() -> None:
    rows = rows_of(auc=None, tpr_at_1_percent_fpr=None)
    assert list(rows) == ["flips", "map_error", "logit_correlation", "map_correlation"]


@pytest.mark.parametrize(("groups", "needed"), [(10, 1500), (50, 300), (100, 150), (149, 110)])
def test_no_flip_among_few_pictures_is_no_proof(groups: int, needed: int) -> None:
    none = Figure(0.0, 0.0, 0.0, 100)
    row = rows_of(flipped=0, flips=none, pictures=100, groups=groups)["flips"]
    assert row.verdict == "cannot tell"
    assert (row.value, row.low, row.high) == (0.0, 0.0, upper_end_of_none(groups))
    assert row.images_needed == needed
    assert "within the limit of 1%, but may be over its bound of 2%" in row.reason
    strict = Limits(flips=0.0, flips_bound=0.0)
    assert rows_of(strict, flipped=0, flips=none)["flips"].images_needed is None
    enough = rows_of(flipped=0, flips=none, pictures=150, groups=150)["flips"]
    assert enough.verdict == "pass"


def test_one_flip_among_few_pictures_is_no_failure() -> None:
    flips = Figure(0.1, 0.0, 0.3, 10)
    row = rows_of(flipped=1, flips=flips, pictures=10, groups=10)["flips"]
    assert row.verdict == "cannot tell"
    assert row.reason == "over the limit of 1%, but that may be chance"
    assert row.images_needed == 40
    many = rows_of(flipped=30, flips=Figure(0.03, 0.02, 0.04, 1000))["flips"]
    assert (many.verdict, many.reason) == ("fail", "over the limit of 1%")


def test_a_dead_output_fails_and_one_that_shows_nothing_does_not() -> None:
    dead = dataclasses.replace(ALIKE, correlation=None, dead=True)
    row = rows_of(logit=dead)["logit_correlation"]
    assert (row.verdict, row.value) == ("fail", None)
    assert "dead" in row.reason
    flat = dataclasses.replace(ALIKE, correlation=None, parent_varies=False)
    rows = rows_of(map=flat, map_range=0.0)
    assert rows["map_correlation"].verdict == "cannot tell"
    assert "map_error" not in rows  # a fraction of no range


def test_a_correlation_fails_below_its_limit_unless_that_may_be_chance() -> None:
    low = dataclasses.replace(ALIKE, correlation=0.97)
    assert rows_of(map=low)["map_correlation"].verdict == "fail"
    sure = dataclasses.replace(low, interval=Figure(0.97, 0.96, 0.98, 1000))
    row = rows_of(logit=sure)["logit_correlation"]
    assert (row.verdict, row.low, row.high) == ("fail", 0.96, 0.98)
    unsure = dataclasses.replace(low, interval=Figure(0.97, 0.9, 1.0, 100))
    row = rows_of(logit=unsure)["logit_correlation"]
    assert (row.verdict, row.images_needed) == ("cannot tell", 230)
    assert rows_of(Limits(logit_correlation=-1), logit=low)["logit_correlation"].verdict == "pass"


def test_the_worst_row_decides() -> None:
    passing, failing, open_ = (
        Row("flips", verdict, 0.0, 0.0, 0.0, 0.01, 0.02)  # type: ignore[arg-type]
        for verdict in ("pass", "fail", "cannot tell")
    )
    assert overall([passing, passing]) == "pass"
    assert overall([passing, open_]) == "cannot tell"
    assert overall([open_, failing, passing]) == "fail"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"auc_drop": -0.1}, "The limit auc_drop is -0.1"),
        ({"flips": 1.5}, "The limit flips is 1.5"),
        ({"logit_correlation": 2.0}, "The limit logit_correlation is 2"),
        ({"map_error": float("nan")}, "The limit map_error is nan"),
        ({"auc_drop": 0.02}, "auc_drop_bound of 0.01 is below auc_drop, which is 0.02"),
        ({"flips_bound": 0.001}, "flips_bound of 0.001 is below flips"),
    ],
)
def test_limits_that_make_no_sense_are_refused(changes: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        Limits(**changes)
    assert caught.value.expected
    assert caught.value.next_step


def test_everything_survives_json() -> None:
    for value in (measured(), Limits(), *judge(measured(), Limits())):
        text = json.dumps(typed_json.encode(value), allow_nan=False)
        assert typed_json.decode(type(value), json.loads(text)) == value
