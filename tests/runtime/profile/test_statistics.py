import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedf.bootstrap import run_length
from edgedf.runtime.profile.events import Block, Summary
from edgedf.runtime.profile.statistics import (
    distribution,
    latency,
    latency_of_summaries,
    over_time,
    pooled,
)
from tests.runtime.profile.made import blocks

TIMES = st.lists(st.floats(0.01, 1000.0), min_size=1, max_size=40)
GROUPS = st.lists(TIMES, min_size=1, max_size=12)
FEW = settings(max_examples=15, deadline=None)


def made(groups: list[list[float]]) -> list[Block]:
    return [Block(0, at, float(at), tuple(times)) for at, times in enumerate(groups)]


@FEW
@given(GROUPS)
def test_percentiles_are_in_order_and_inside_their_intervals(groups: list[list[float]]) -> None:
    found = latency(made(groups))
    assert found is not None
    ends = (found.p50_low_ms, found.p50_high_ms, found.p90_low_ms, found.p90_high_ms)
    p50_low, p50_high, p90_low, p90_high = (value for value in ends if value is not None)
    middle, ninety = found.p50_ms, found.p90_ms
    assert found.minimum_ms is not None and found.maximum_ms is not None
    assert middle is not None and ninety is not None and found.p99_ms is not None
    tiny = 1e-9
    assert found.minimum_ms <= middle <= ninety <= found.p99_ms <= found.maximum_ms
    assert found.minimum_ms - tiny <= p50_low <= middle <= p50_high <= found.maximum_ms + tiny
    assert p90_low <= ninety <= p90_high
    every = np.concatenate(groups)
    assert found.queries == len(every)
    assert found.seconds == pytest.approx(every.sum() / 1e3)
    assert found.throughput * found.seconds == pytest.approx(len(every))
    assert middle == pytest.approx(np.median(every))


def test_the_same_input_gives_the_same_figures() -> None:
    assert latency(blocks([5.0] * 20)) == latency(blocks([5.0] * 20))


def test_a_drift_that_lasts_asks_for_longer_runs_and_a_wider_interval() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.02, 300)
    drift = np.zeros(300)
    for at in range(1, 300):
        drift[at] = 0.9 * drift[at - 1] + np.sqrt(1 - 0.9**2) * noise[at]
    assert run_length(noise) <= 5 < 15 < run_length(drift)
    wide, narrow = (latency(blocks((5 * np.exp(series)).tolist())) for series in (drift, noise))
    assert wide is not None and narrow is not None
    assert wide.p50_high_ms is not None and wide.p50_low_ms is not None
    assert narrow.p50_high_ms is not None and narrow.p50_low_ms is not None
    assert wide.p50_high_ms - wide.p50_low_ms > 1.5 * (narrow.p50_high_ms - narrow.p50_low_ms)


@pytest.mark.parametrize("blocks_", [[], [Block(0, 0, 0.0, ())]])
def test_nothing_measured_has_no_figures(blocks_: list[Block]) -> None:
    assert latency(blocks_) is None
    assert distribution(pooled(blocks_)) is None
    assert over_time(blocks_) == ()


@FEW
@given(TIMES)
def test_a_histogram_counts_every_inference_once(times: list[float]) -> None:
    found = distribution(np.array(times))
    assert found is not None
    assert sum(found.counts) == len(times)
    assert len(found.edges_ms) == len(found.counts) + 1 <= 81
    assert all(np.diff(found.edges_ms) > 0)


def test_an_outlier_does_not_stretch_the_histogram() -> None:
    times = np.append(np.random.default_rng(0).normal(5, 0.1, 2000), 500.0)
    found = distribution(times)
    assert found is not None
    assert found.edges_ms[-1] < 6
    assert found.counts[-1] >= 1


def test_a_long_run_is_thinned_without_losing_a_moment() -> None:
    levels = [5.0] * 1495 + [50.0] * 5
    found = over_time(blocks(levels))
    assert len(found) == 300
    assert found[-1].p90_ms > 40
    assert found[0].p50_ms == pytest.approx(5.1, rel=0.02)


def test_repetitions_of_a_native_benchmark_are_put_together() -> None:
    rng = np.random.default_rng(3)
    runs = [rng.normal(5, 0.2, count) for count in (100, 300, 200)]
    summaries = [
        Summary(
            *(0, "native", len(run), float(run.sum() / 1e3), float(run.mean())),
            minimum_ms=float(run.min()),
            maximum_ms=float(run.max()),
            std_ms=float(run.std()),
            p50_ms=float(np.median(run)),
        )
        for run in runs
    ]
    found, every = latency_of_summaries(summaries), np.concatenate(runs)
    assert found is not None
    assert found.mean_ms == pytest.approx(every.mean())
    assert found.std_ms == pytest.approx(every.std())
    assert (found.minimum_ms, found.maximum_ms) == (every.min(), every.max())
    assert found.p50_ms == np.median([np.median(run) for run in runs])
    assert found.p90_ms is None and found.p50_low_ms is None
    many = latency_of_summaries(summaries * 3)
    assert many is not None and many.p50_low_ms is not None and many.p50_ms is not None
    assert many.p50_low_ms <= many.p50_ms
    assert latency_of_summaries([]) is None
