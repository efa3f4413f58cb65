import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedf.distill.networks.probe import (
    LEAST_DEVIATION,
    Calibration,
    Probe,
    balance,
    calibrate,
    fit_probe,
)
from edgedf.errors import ConfigError, DataError

RULE = np.array([2.0, -1.0, 0.5, 0.0])


def measured(rows: int = 400, seed: int = 0) -> np.ndarray:
    """Features with different means and spreads, as statistics of channels have."""
    rng = np.random.default_rng(seed)
    return rng.normal([0, 3, -1, 5], [1.0, 0.2, 4.0, 1.0], (rows, 4)).astype(np.float32)


# Ridge regression


def test_a_linear_rule_is_found() -> None:
    features = measured()
    targets = features @ RULE + 7
    probe = fit_probe(features, targets, np.ones(len(features)), penalty=1e-7)
    np.testing.assert_allclose(probe.weight / probe.deviation, RULE, rtol=0, atol=1e-3)
    unseen = measured(seed=1)
    np.testing.assert_allclose(probe(unseen), unseen @ RULE + 7, rtol=0, atol=0.01)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), penalty=st.floats(0.01, 30))
def test_the_fit_is_ridge_regression_by_its_normal_equations(seed: int, penalty: float) -> None:
    rng = np.random.default_rng(seed)
    features, weights = measured(60, seed), rng.uniform(0.2, 3.0, 60)
    targets = rng.choice([-1.0, 1.0], 60)
    probe = fit_probe(features, targets, weights, penalty=penalty)
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    alpha = penalty * np.average((scaled**2).sum(axis=1), weights=weights)
    # The intercept is not penalised: it makes the weighted mean right.
    middle, level = np.average(scaled, 0, weights), np.average(targets, weights=weights)
    left = (scaled - middle).T * weights
    slope = np.linalg.solve(left @ (scaled - middle) + alpha * np.eye(4), left @ (targets - level))
    np.testing.assert_allclose(probe.weight, slope, rtol=1e-3, atol=1e-5)
    assert probe.bias == pytest.approx(level - middle @ slope, rel=1e-3, abs=1e-5)
    found = probe(features)
    np.testing.assert_allclose(found, scaled @ probe.weight + probe.bias, rtol=1e-4, atol=1e-5)


def test_a_penalty_makes_the_weights_smaller() -> None:
    features = measured()
    targets = features @ RULE + np.random.default_rng(1).normal(0, 1, len(features))

    def size(penalty: float) -> float:
        probe = fit_probe(features, targets, np.ones(len(features)), penalty=penalty)
        return float(np.linalg.norm(probe.weight))

    sizes = [size(penalty) for penalty in (1e-6, 0.1, 1.0, 10.0, 1000.0)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 0.15 * sizes[0]


def test_the_unit_of_a_feature_does_not_matter() -> None:
    features, ones = measured(), np.ones(400)
    unit = np.array([10, 3, 1, 100], np.float32)
    targets = np.sign(features @ RULE)
    before = fit_probe(features, targets, ones, penalty=1.0)(features)
    after = fit_probe(features * unit, targets, ones, penalty=1.0)(features * unit)
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-4)


def test_a_feature_that_hardly_varies_has_no_say() -> None:
    """Divided by its own deviation it would say as much as any other."""
    features = measured()
    features[:, 3] = 2.0
    features[::2, 3] += 1e-4
    targets = np.where(np.arange(len(features)) % 2, -1.0, 1.0)
    probe = fit_probe(features, targets, np.ones(len(features)), penalty=1.0)
    assert probe.deviation[3] == np.float32(LEAST_DEVIATION)
    assert abs(probe(features)).max() < 0.2
    features[:, 3] = 2.0
    again = fit_probe(features, targets, np.ones(len(features)), penalty=1.0)
    assert again.weight[3] == 0
    assert np.isfinite(again(features)).all()


def test_halves_are_fitted_as_well_as_floats() -> None:
    """Statistics are kept as float16, in which a sum over records would overflow."""
    features = np.repeat(measured() + 100, 40, axis=0)
    targets = np.sign((features - 100) @ RULE)
    ones = np.ones(len(features))
    halves = fit_probe(features.astype(np.float16), targets, ones, penalty=1.0)
    floats = fit_probe(features.astype(np.float16).astype(np.float32), targets, ones, penalty=1.0)
    assert halves.weight.dtype == np.float32
    np.testing.assert_allclose(halves.centre, floats.centre, rtol=1e-6)
    np.testing.assert_allclose(halves.weight, floats.weight, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("penalty", [0.0, -1.0])
def test_a_penalty_that_does_not_bind_is_refused(penalty: float) -> None:
    with pytest.raises(ConfigError, match=f"penalty {penalty:g} does not bind") as caught:
        fit_probe(measured(8), np.ones(8), np.ones(8), penalty=penalty)
    assert caught.value.expected == "above 0"


def test_a_probe_is_a_linear_function() -> None:
    two = np.array([1, 2], np.float32)
    probe = Probe(centre=two, deviation=2 * two, weight=np.array([3, -4], np.float32), bias=0.5)
    found = probe(np.array([[1.0, 2.0], [3.0, 2.0], [1.0, 6.0]]))
    assert found.tolist() == [0.5, 3.5, -3.5]
    assert found.dtype == np.float64


# Weights of records


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([0.0, 1.0])), min_size=1))
def test_each_class_of_each_domain_counts_by_the_root_of_its_size(
    rows: list[tuple[str, float]],
) -> None:
    weights = balance([domain for domain, _ in rows], np.array([label for _, label in rows]))
    assert weights.mean() == pytest.approx(1.0)
    totals = {row: weights[[other == row for other in rows]] for row in set(rows)}
    roots = {row: np.sqrt(rows.count(row)) for row in totals}
    for row, part in totals.items():
        assert part.std() == pytest.approx(0.0, abs=1e-9)
        share = roots[row] / sum(roots.values())
        assert part.sum() / weights.sum() == pytest.approx(share)


def test_domains_and_labels_must_be_of_one_length() -> None:
    with pytest.raises(ValueError, match="shorter"):
        balance(["a", "b"], np.zeros(1))


# Calibration


def two_classes(real: int, fake: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Values around -1 and 1 with deviation 1, whose log odds are twice the value."""
    labels = np.repeat([0.0, 1.0], [real, fake])
    rng = np.random.default_rng(seed)
    return rng.normal(2 * labels - 1, 1.0), labels


@pytest.mark.parametrize(("real", "fake"), [(8000, 8000), (12000, 3000), (3000, 12000)])
def test_values_become_log_odds_whatever_the_classes_numbers(real: int, fake: int) -> None:
    found = calibrate(*two_classes(real, fake))
    assert found.scale == pytest.approx(2.0, abs=0.12)
    assert found.offset == pytest.approx(0.0, abs=0.12)


def test_few_values_are_fitted_as_well_as_many() -> None:
    """Where logistic regression fits best, its errors and their product with the value sum to 0."""
    values, labels = two_classes(30, 10)
    found = calibrate(values, labels)
    errors = 1 / (1 + np.exp(-(found.scale * values + found.offset))) - labels
    errors *= np.where(labels == 1, 40 / 20, 40 / 60)  # both classes count alike
    assert errors.sum() == pytest.approx(0.0, abs=0.02)
    assert (errors * values).sum() == pytest.approx(0.0, abs=0.02)


@settings(max_examples=20, deadline=None)
@given(unit=st.floats(1e-3, 1e3), shift=st.floats(-3, 3))
def test_other_units_of_the_value_give_the_same_log_odds(unit: float, shift: float) -> None:
    values, labels = two_classes(300, 300)
    plain, other = calibrate(values, labels), calibrate((values + shift) * unit, labels)
    wanted = plain.scale * values + plain.offset
    found = other.scale * (values + shift) * unit + other.offset
    # A few thousandths: the fit is regularised a little, in units of the spread.
    np.testing.assert_allclose(found, wanted, rtol=0, atol=0.05)


@pytest.mark.parametrize("shift", [0.0, 5.0])
def test_values_that_mislead_are_not_turned_round_but_hardly_believed(shift: float) -> None:
    values, labels = two_classes(50, 50)
    found = calibrate(shift - values, labels)
    assert 0 < found.scale < 0.01
    assert np.abs(found.scale * (shift - values) + found.offset).max() < 0.1


def test_values_that_separate_or_say_nothing_give_finite_log_odds() -> None:
    labels = np.repeat([0.0, 1.0], 20)
    sure = calibrate(2 * labels - 1, labels)
    assert 2 < sure.scale < 100
    assert sure.offset == pytest.approx(0.0, abs=1e-3)
    mute = calibrate(np.full(40, 3.0), labels)
    assert np.isfinite([mute.scale, mute.offset]).all()
    assert mute.scale * 3.0 + mute.offset == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_class_alone_cannot_be_calibrated_on(label: float) -> None:
    with pytest.raises(DataError, match="Calibration needs"):
        calibrate(np.arange(4.0), np.full(4, label))


def test_calibrating_what_is_calibrated_changes_nothing() -> None:
    values, labels = two_classes(500, 200)
    once = calibrate(values, labels)
    again = calibrate(once.scale * values + once.offset, labels)
    assert again == Calibration(pytest.approx(1.0, abs=0.01), pytest.approx(0.0, abs=0.01))
