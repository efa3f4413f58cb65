from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from edgedf.distill.evaluate import (
    CONFIDENT_ERROR,
    _weighted_auc,
    auc_with_interval,
    choose_threshold,
    evaluate_checkpoint,
    map_error_with_interval,
    predict,
)
from edgedf.distill.student import Student, StudentConfig, save_checkpoint
from edgedf.errors import ConfigError, DataError
from tests.distill.pictures import write_dataset

singles = [str(index) for index in range(400)]


def noisy(shift: float, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.repeat([0.0, 1.0], n)
    return labels, rng.normal(0, 1, 2 * n) + shift * labels


def test_auc_is_the_share_of_pairs_in_the_right_order() -> None:
    labels, scores = np.array([0, 0, 1, 1.0]), np.array([0.1, 0.4, 0.35, 0.8])
    assert auc_with_interval(labels, scores, ["a", "b", "c", "d"]).value == 0.75


def test_the_interval_holds_the_true_auc_and_is_as_wide_as_theory_says() -> None:
    labels, scores = noisy(1.0)
    figure = auc_with_interval(labels, scores, singles)
    assert figure.low < 0.760 < figure.high  # Phi(1 / sqrt 2)
    # Hanley & McNeil (1982) give a standard error of 0.024 for that AUC and 200 of each class.
    assert 0.07 < figure.high - figure.low < 0.12
    assert figure.n == 400


def test_pictures_of_one_group_are_drawn_together() -> None:
    labels, scores = noisy(1.0)
    pairs = [str(index % 20) for index in range(400)]
    single, grouped = (
        auc_with_interval(np.tile(labels, 4), np.tile(scores, 4), groups)
        for groups in ([str(i) for i in range(1600)], singles * 4)
    )
    # Four copies of each picture tell nothing new; as one group they do not narrow the interval.
    assert grouped.high - grouped.low > 1.6 * (single.high - single.low)
    assert auc_with_interval(labels, scores, pairs).value == grouped.value


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 30))
def test_weighted_aucs_are_the_aucs_of_repeated_pictures(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([[0.0, 1.0], rng.integers(0, 2, n)])
    scores = rng.integers(0, 5, n + 2).astype(float)  # many ties
    counts = rng.integers(1, 4, (3, n + 2))
    found = _weighted_auc(labels, scores, counts.astype(float))
    for row, count in zip(found, counts, strict=True):
        expected = roc_auc_score(np.repeat(labels, count), np.repeat(scores, count))
        assert row == pytest.approx(expected, abs=1e-12)


def test_one_class_has_no_auc_and_no_threshold() -> None:
    with pytest.raises(DataError, match="both classes"):
        auc_with_interval(np.zeros(3), np.arange(3.0), ["a", "b", "c"])
    with pytest.raises(DataError, match="both classes"):
        choose_threshold(np.ones(3), np.arange(3.0), "x")


@settings(max_examples=40, deadline=None)
@given(st.floats(-0.5, 4), st.integers(0, 1000))
def test_thresholds_keep_their_promise_on_the_pictures_they_were_chosen_on(
    shift: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    labels = np.repeat([0.0, 1.0], 60)
    logits = rng.normal(0, 1, 120) + shift * labels
    threshold = choose_threshold(labels, logits, "noise")
    scores = 1 / (1 + np.exp(-logits))
    verdicts = np.array([threshold.label(score) for score in scores])
    false_positive = (verdicts[labels == 0] == "fake").mean()
    false_negative = (verdicts[labels == 1] == "real").mean()
    assert threshold.real_at <= threshold.fake_at
    if threshold.real_at < threshold.fake_at:
        assert false_positive <= CONFIDENT_ERROR
        assert false_negative <= CONFIDENT_ERROR
    else:
        assert abs(false_positive - false_negative) <= 0.04
        assert "equal error rate" in threshold.how


def test_map_error_is_the_mean_over_pictures() -> None:
    wanted = np.zeros((3, 2, 2))
    found = wanted + np.array([1.0, 2.0, 6.0])[:, None, None]
    figure = map_error_with_interval(found, wanted, ["a", "b", "c"])
    assert figure.value == 3.0
    assert (figure.low, figure.high) == (1.0, 6.0)


def test_predictions_do_not_depend_on_the_batch_and_leave_the_mode_alone() -> None:
    student = Student(StudentConfig(input_size=32, decoder_channels=8, texture_channels=8))
    student.train()
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    one, all_at_once = (predict(student, images, batch=batch) for batch in (1, 5))
    assert student.training
    assert np.allclose(one.logits, all_at_once.logits, atol=1e-5)
    assert np.allclose(one.maps, all_at_once.maps, atol=1e-5)
    assert one.maps.shape == (5, 8, 8)


def test_a_checkpoint_is_measured_by_set_and_a_wrong_split_is_named(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", groups=3)
    checkpoint = tmp_path / "student.safetensors"
    threshold = {"fake_at": 0.0, "real_at": 0.0, "how": "everything is fake"}
    student = Student(StudentConfig(input_size=64))
    save_checkpoint(checkpoint, student, {"threshold": threshold})
    figures = evaluate_checkpoint(checkpoint, data, "val", cache=tmp_path / "cache")
    shares = [figure for figure in figures if "called fake" in figure.metric]
    assert [figure.value for figure in shares] == [1.0] * 4
    rest = [figure for figure in figures if figure not in shares]
    found = {(figure.dataset, figure.metric.split()[0]): figure.n for figure in rest}
    assert found == {
        ("faces256 val", "AUC"): 6,
        ("faces256 self-blended val", "AUC"): 6,
        ("scenes val", "AUC"): 6,
        ("faces256 val", "map"): 6,
        ("scenes val", "map"): 6,
        ("rendered depth of field val", "map"): 1,
    }
    assert all(figure.low <= figure.value <= figure.high for figure in figures)
    with pytest.raises(ConfigError, match="no split 'dev'"):
        evaluate_checkpoint(checkpoint, data, "dev")
