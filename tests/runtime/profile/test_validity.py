from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedf.runtime.profile.events import Block, State, Summary
from edgedf.runtime.profile.level_shift import level_shift
from edgedf.runtime.profile.request import FULL, QUICK
from edgedf.runtime.profile.statistics import latency, latency_of_summaries
from edgedf.runtime.profile.validity import Evidence, judge
from tests.runtime.profile.made import blocks, states

RANK = {"valid": 0, "semi-valid": 1, "invalid": 2}
FEW = settings(max_examples=15, deadline=None)
LEVEL, SECONDS = 20.0, 64


def noisy(count: int = SECONDS, *, seed: int = 0, spread: float = 0.02) -> np.ndarray:
    return LEVEL * np.exp(np.random.default_rng(seed).normal(0, spread, count))


def evidence(levels: Sequence[float] | np.ndarray, seen: Sequence[State] = ()) -> Evidence:
    return replace(_evidence(tuple(float(level) for level in levels)), states=seen)


@cache
def _evidence(levels: tuple[float, ...]) -> Evidence:
    made = blocks(levels)
    return Evidence(latency(made), made, cores=2, steady=True)


def reasons(seen: Evidence) -> str:
    return " / ".join(judge(seen).reasons)


def test_an_undisturbed_run_is_valid() -> None:
    for seed in range(8):
        found = judge(evidence(noisy(seed=seed), states(70)))
        assert (found.status, found.reasons) == ("valid", ())


@pytest.mark.parametrize("slower", [1.12, 2.0])
@pytest.mark.parametrize("begin, end", [(32, 64), (20, 40), (0, 30), (54, 64)])
def test_a_load_that_nobody_tells_of_is_found_by_latency(
    slower: float, begin: int, end: int
) -> None:
    levels = noisy(seed=begin)
    levels[begin:end] *= slower
    blind = states(70, None, stolen=None, frequency_mhz=(), throttled=None)
    found = judge(evidence(levels, blind))
    assert found.status == "invalid"
    assert "in the rest of the run" in found.reasons[0]
    shift = level_shift(np.array(levels))
    assert shift is not None
    inside = shift.ratio > 1
    edges = (shift.start, shift.stop)
    assert (
        all(abs(edge - at) <= 6 for edge, at in zip(edges, (begin, end), strict=True)) or not inside
    )


def test_a_load_that_the_system_tells_of_is_found_even_where_latency_stays() -> None:
    load = [0.02] * 32 + [1.0] * 38
    found = judge(evidence(noisy(), states(70, load)))
    assert found.status == "invalid"
    assert found.reasons[0].startswith("other processes kept 1.00 of 2 processors busy from 3")


def test_a_load_before_or_after_the_blocks_is_none_of_this_results_business() -> None:
    made = [replace(block, at_s=block.at_s + 100) for block in blocks(noisy().tolist())]
    load = [1.9] * 99 + [0.02] * 69 + [1.9] * 20
    seen = Evidence(latency(made), made, states=states(188, load), cores=2, steady=True)
    assert judge(seen).status == "valid"
    shifted = states(188, [0.02] * 110 + [1.0] * 6 + [0.02] * 72)
    assert judge(replace(seen, states=shifted)).status == "invalid"


def test_one_blink_of_a_daemon_and_one_slow_block_are_no_load() -> None:
    load = [0.02] * 70
    load[30] = 0.6
    levels = noisy()
    levels[31] *= 20
    assert judge(evidence(levels, states(70, load))).status == "valid"


def test_one_busy_process_is_told_on_a_machine_of_many_processors() -> None:
    seen = replace(evidence(noisy(), states(70, 1.0)), cores=128)
    assert judge(seen).status == "invalid"
    assert judge(replace(seen, states=states(70, 0.6))).status == "valid"


@FEW
@given(
    st.lists(st.floats(0, 2), min_size=70, max_size=70),
    st.lists(st.floats(0, 1), min_size=70, max_size=70),
)
def test_more_load_never_makes_a_figure_better(load: list[float], more: list[float]) -> None:
    levels = noisy()
    little = judge(evidence(levels, states(70, load)))
    much = judge(evidence(levels, states(70, [a + b for a, b in zip(load, more, strict=True)])))
    assert RANK[much.status] >= RANK[little.status]


def test_a_hypervisor_a_throttle_and_a_falling_frequency_are_said() -> None:
    levels = noisy()
    assert "hypervisor" in reasons(evidence(levels, states(70, stolen=0.3)))
    rising = [replace(state, throttled=int(state.at_s > 40)) for state in states(70)]
    assert "slowed itself down" in reasons(evidence(levels, rising))
    # Throttled before the run and never since: no reason.
    assert reasons(evidence(levels, states(70, throttled=7))) == ""
    falling = [
        replace(state, frequency_mhz=(600.0, 2000.0 if state.at_s < 40 else 1800.0))
        for state in states(70)
    ]
    assert "fell from 2,000 to 1,800 MHz" in reasons(evidence(levels, falling))
    resting = [replace(state, frequency_mhz=(2000.0, 600.0 + state.at_s)) for state in states(70)]
    assert reasons(evidence(levels, resting)) == ""


def test_quick_is_at_most_semi_valid() -> None:
    made = blocks([LEVEL] * 6)
    found = judge(Evidence(latency(made), made, effort=QUICK, steady=True))
    assert found.status == "semi-valid"
    assert found.reasons[0].endswith("inferences, fewer than 1,024")
    assert found.reasons[1].endswith("s of inference, less than 60 s")


def test_noise_is_told_by_interval_and_tail() -> None:
    rng = np.random.default_rng(0)
    wide = judge(evidence(LEVEL * np.exp(rng.normal(0, 0.3, SECONDS))))
    assert "noisy: the interval of p50" in " ".join(wide.reasons)
    made = blocks([LEVEL] * SECONDS)
    tailed = [replace(block, times_ms=(*block.times_ms, *(2 * LEVEL,) * 10)) for block in made]
    found = judge(Evidence(latency(tailed), tailed, steady=True))
    assert found.status == "semi-valid"
    assert "noisy: p90 is" in found.reasons[0]


def test_a_warm_up_that_never_became_steady_is_told() -> None:
    found = judge(replace(evidence(noisy()), steady=False))
    assert found.status == "semi-valid"
    assert "steady" in found.reasons[0]


def test_a_run_that_was_cut_off_before_it_had_enough_is_invalid() -> None:
    cut = replace(evidence(noisy(20)), finished=False)
    assert judge(cut).status == "invalid"
    assert "cut off after" in judge(cut).reasons[0]
    # Cut off later, by the pipeline or the operators: the latency is what it is.
    assert judge(replace(evidence(noisy()), finished=False)).status == "valid"
    assert judge(Evidence(None)).reasons == ("nothing was measured",)


def native(levels: Sequence[float], **changes: object) -> Evidence:
    said = [
        Summary(0, "native", 500, 10.0, level, p50_ms=level, p90_ms=level * 1.1) for level in levels
    ]
    said = [replace(summary, **changes) for summary in said]  # type: ignore[arg-type]
    return Evidence(latency_of_summaries(said), summaries=said, effort=FULL)


def test_a_native_benchmark_is_judged_by_its_repetitions() -> None:
    assert judge(native([20.0] * 8)).status == "valid"
    assert "no percentiles" in reasons(native([20.0] * 8, p90_ms=None))
    assert "fewer than 4 times" in reasons(native([20.0] * 3))
    assert "repetitions differ by 50%" in reasons(native([20.0] * 4 + [30.0] * 4))


def test_the_time_of_a_shift_is_counted_from_the_first_block() -> None:
    levels = noisy()
    levels[32:] *= 2
    made = [replace(block, at_s=block.at_s + 500) for block in blocks(levels.tolist())]
    assert isinstance(made[0], Block)
    said = reasons(Evidence(latency(made), made))
    assert any(f"from {at} s to 67 s" in said for at in range(32, 36)) or "from 0 s to 3" in said
