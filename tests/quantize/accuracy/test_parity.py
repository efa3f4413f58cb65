import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedf.precision import PRECISIONS, Tolerance
from edgedf.quantize.accuracy.parity import (
    Comparison,
    PairStatistics,
    compare,
    output_parity,
)
from edgedf.quantize.models.run import Outputs, as_outputs
from edgedf.result import Threshold

THRESHOLD = Threshold(0.6, 0.4)
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 3, 40)
MAPS = RNG.uniform(0, 5, (40, 16, 16)).astype(np.float32)


def outputs(logits: np.ndarray, maps: np.ndarray) -> list[Outputs]:
    return [as_outputs(float(logit), dense) for logit, dense in zip(logits, maps, strict=True)]


def against_original(
    logits: np.ndarray, maps: np.ndarray, tolerance: Tolerance = PRECISIONS["int8"].tolerance
) -> Comparison:
    return compare(
        "made",
        outputs(logits, maps),
        "original",
        outputs(LOGITS[: len(logits)], MAPS[: len(logits)]),
        images="held out",
        threshold=THRESHOLD,
        tolerance=tolerance,
    )


def test_equal_outputs_agree() -> None:
    comparison = against_original(LOGITS, MAPS, PRECISIONS["fp32"].tolerance)
    assert comparison.passed
    for output in comparison.outputs:
        assert output.max_abs == output.mean_abs == 0.0
        assert output.correlation == pytest.approx(1.0)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), noise=st.floats(0.001, 0.5))
def test_the_figures_are_those_of_numpy(seed: int, noise: float) -> None:
    rng = np.random.default_rng(seed)
    found = LOGITS + rng.normal(0, noise, LOGITS.shape)
    maps = MAPS + rng.normal(0, noise, MAPS.shape).astype(np.float32)
    logit, dense = against_original(found, maps).outputs
    found32, wanted32 = found.astype(np.float32), LOGITS.astype(np.float32)
    assert logit.max_abs == pytest.approx(np.abs(found32 - wanted32).max(), rel=1e-5)
    assert logit.mean_abs == pytest.approx(np.abs(found32 - wanted32).mean(), rel=1e-5)
    assert logit.correlation == pytest.approx(np.corrcoef(found, LOGITS)[0, 1], rel=1e-5)
    error = np.abs(maps.astype(np.float64) - MAPS).mean()
    assert dense.mean_relative == pytest.approx(error / (MAPS.max() - MAPS.min()), rel=1e-5)
    assert dense.passed == (dense.mean_relative <= 0.02)


@pytest.mark.parametrize("value", [0.0, 2.5])
def test_an_output_that_does_not_vary_is_dead(value: float) -> None:
    logit, dense = against_original(np.full(40, value), np.full_like(MAPS, value)).outputs
    assert logit.dead
    assert dense.dead
    assert not logit.passed
    assert not dense.passed
    assert logit.correlation is None


def test_a_dead_map_fails_even_where_its_mean_error_is_tiny() -> None:
    flat = np.full((40, 16, 16), 1.0, np.float32)
    spikes = flat.copy()
    spikes[0, 0, 0] = 6.0
    comparison = compare(
        "made",
        outputs(LOGITS, flat),
        "original",
        outputs(LOGITS, spikes),
        images="held out",
        threshold=THRESHOLD,
        tolerance=PRECISIONS["int8"].tolerance,
    )
    dense = comparison.outputs[1]
    assert dense.mean_relative < 0.001
    assert dense.dead
    assert not comparison.passed


def test_an_original_that_does_not_vary_proves_nothing() -> None:
    same = outputs(np.zeros(40), np.zeros_like(MAPS))
    comparison = compare(
        "made",
        same,
        "original",
        same,
        images="held out",
        threshold=THRESHOLD,
        tolerance=PRECISIONS["int8"].tolerance,
    )
    assert not comparison.passed


@pytest.mark.parametrize("where", ["fake_logit", "defocus_map"])
def test_one_nan_fails_without_a_warning(where: str) -> None:
    logits, maps = LOGITS.copy(), MAPS.copy()
    if where == "fake_logit":
        logits[5] = math.nan
    else:
        maps[5, 3, 3] = math.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        comparison = against_original(logits, maps)
    failed = [output.output for output in comparison.outputs if not output.passed]
    assert failed == [where]
    assert not comparison.passed


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), pieces=st.integers(1, 12), centre=st.floats(-1e4, 1e4))
def test_statistics_gathered_in_pieces_are_those_of_the_whole(
    seed: int, pieces: int, centre: float
) -> None:
    rng = np.random.default_rng(seed)
    wanted = centre + rng.normal(0, 1, 60)
    found = wanted + rng.normal(0, 0.2, 60)
    gathered = PairStatistics()
    for one, other in zip(
        np.array_split(found, pieces), np.array_split(wanted, pieces), strict=True
    ):
        gathered.add(one, other)
    whole = PairStatistics().add(found.reshape(4, 15), wanted.reshape(4, 15))
    for statistics in (gathered, whole):
        assert statistics.max_abs == np.abs(found - wanted).max()
        assert statistics.mean_abs == pytest.approx(np.abs(found - wanted).mean())
        assert statistics.original_range == wanted.max() - wanted.min()
        assert statistics.original_mean == pytest.approx(wanted.mean())
        assert statistics.spreads == pytest.approx((found.std(), wanted.std()), rel=1e-6)
        assert statistics.correlation == pytest.approx(np.corrcoef(found, wanted)[0, 1], rel=1e-6)


def test_equal_values_have_no_spread_whatever_rounding_leaves() -> None:
    statistics = PairStatistics()
    for _ in range(7):
        statistics.add(np.full(3, 0.1), np.full(3, 0.7))
    assert statistics.spreads == (0.0, 0.0)
    assert output_parity("logit", statistics).dead


def test_without_limits_an_output_passes_that_varies() -> None:
    statistics = PairStatistics().add(np.array([3.0, 2.0, 1.0]), np.array([1.0, 2.0, 3.0]))
    parity = output_parity("logit", statistics)
    assert parity.correlation == pytest.approx(-1.0)
    assert (parity.passed, parity.limit) == (True, "")


def test_flips_are_limited_and_changes_to_unsure_are_not() -> None:
    tolerance = PRECISIONS["int8"].tolerance
    logits = LOGITS.copy()
    logits[:10] = 0.0  # unsure
    assert against_original(logits, MAPS).verdicts.flips == 0
    assert against_original(logits, MAPS).verdicts.changes > 0
    decided = np.flatnonzero(np.abs(LOGITS) > 1)
    for flips in range(4):
        logits = LOGITS.copy()
        logits[decided[:flips]] *= -1
        verdicts = against_original(logits, MAPS).verdicts
        assert verdicts.flips == flips
        assert verdicts.passed == (flips <= tolerance.flips_allowed(40))


def test_one_flip_in_a_hundred_is_allowed_and_none_for_fp16() -> None:
    int8, fp16 = PRECISIONS["int8"].tolerance, PRECISIONS["fp16"].tolerance
    assert [int8.flips_allowed(n) for n in (4, 99, 199, 200, 1000)] == [1, 1, 1, 2, 10]
    assert [fp16.flips_allowed(n) for n in (4, 1000)] == [0, 0]
