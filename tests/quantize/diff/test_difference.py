import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedf import typed_json
from edgedf.errors import ConfigError
from edgedf.quantize.accuracy.limits import DiffLimits, Limits
from edgedf.quantize.diff.difference import Ratio

ENDS = st.tuples(*[st.floats(0.01, 9.0)] * 3).map(sorted)


@given(ENDS, st.floats(0.01, 9.0))
def test_a_ratio_passes_or_fails_with_its_whole_interval(ends: list[float], limit: float) -> None:
    low, value, high = ends
    verdict = Ratio.judged("latency_ratio", value, limit, low=low, high=high).verdict
    assert (verdict == "pass") == (high <= limit)
    assert (verdict == "fail") == (low > limit)


@given(st.floats(0.01, 9.0), st.floats(0.01, 9.0))
def test_an_exact_ratio_is_never_unclear(value: float, limit: float) -> None:
    verdict = Ratio.judged("size_ratio", value, limit).verdict
    assert verdict == ("pass" if value <= limit else "fail")


def test_without_a_limit_everything_passes() -> None:
    assert Ratio.judged("size_ratio", 1e9, None).verdict == "pass"
    assert Ratio.judged("latency_ratio", 9.0, None, low=8.0, high=10.0).verdict == "pass"


def test_limits_are_those_of_the_gate_and_two_more_that_are_off() -> None:
    encoded = typed_json.encode(DiffLimits())
    assert encoded.pop("max_size_ratio") is encoded.pop("max_latency_ratio") is None
    assert encoded == typed_json.encode(Limits())
    assert typed_json.decode(DiffLimits, {"max_size_ratio": 1.5}).max_size_ratio == 1.5


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["max_size_ratio", "max_latency_ratio"])
def test_limits_that_make_no_sense_are_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"The limit {name} is"):
        DiffLimits(**{name: value})
    with pytest.raises(ConfigError, match="The limit flips is 2"):
        DiffLimits(flips=2.0)
