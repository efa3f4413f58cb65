from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedf.quantize.making.thresholds import MIN_PICTURES, operating_point, recalibrated
from edgedf.result import Threshold, sigmoid

THRESHOLD = Threshold(0.7, 0.3, "on a validation split")
LOGITS = st.floats(-30.0, 30.0)


@st.composite
def answers(draw: st.DrawFn) -> tuple[list[str], list[float], list[float]]:
    """Labels, and what parent and artifact say."""
    real = draw(st.integers(MIN_PICTURES, 30))
    fake = draw(st.integers(MIN_PICTURES, 30))
    count = real + fake
    parent = draw(st.lists(LOGITS, min_size=count, max_size=count))
    steps = st.integers(-8, 8).map(lambda value: value / 4)  # equal logits, as int8 has them
    artifact = draw(st.lists(LOGITS | steps, min_size=count, max_size=count))
    return ["real"] * real + ["fake"] * fake, parent, artifact


def called_fake(logits: Sequence[float], threshold: Threshold, among: Sequence[bool]) -> int:
    return sum(
        threshold.label(sigmoid(logit)) == "fake"
        for logit, is_in in zip(logits, among, strict=True)
        if is_in
    )


@given(answers())
def test_as_many_real_pictures_are_called_fake_as_the_parent_calls_unless_some_are_equal(
    given_answers: tuple[list[str], list[float], list[float]],
) -> None:
    labels, parent, artifact = given_answers
    found = recalibrated(labels, parent, artifact, THRESHOLD)  # type: ignore[arg-type]
    assert found is not None
    threshold, change = found
    real = [label == "real" for label in labels]
    wanted = called_fake(parent, THRESHOLD, real)
    scores = [sigmoid(logit) for logit, is_real in zip(artifact, real, strict=True) if is_real]
    got = called_fake(artifact, threshold, real)
    # Fewer, where equal scores have to stay together; never more.
    assert got <= wanted
    assert got == wanted or len(set(scores)) < len(scores) or threshold.fake_at == 1.0
    assert 0.0 <= threshold.real_at <= threshold.fake_at <= 1.0
    assert change.parent == THRESHOLD
    assert change.chosen.real_called_fake == pytest.approx(got / sum(real), abs=1e-4)


@given(answers())
def test_an_artifact_that_says_the_same_keeps_its_thresholds(
    given_answers: tuple[list[str], list[float], list[float]],
) -> None:
    labels, parent, _ = given_answers
    found = recalibrated(labels, parent, parent, THRESHOLD)  # type: ignore[arg-type]
    assert found is not None
    assert found[0] is THRESHOLD
    assert found[1].of_parent == found[1].kept == found[1].chosen


def test_a_logit_that_lost_a_little_gets_a_lower_threshold() -> None:
    rng = np.random.default_rng(0)
    labels = ["real"] * 200 + ["fake"] * 200
    parent = np.concatenate([rng.normal(-1, 1, 200), rng.normal(1, 1, 200)])
    artifact = 0.8 * parent - 0.1
    found = recalibrated(labels, parent.tolist(), artifact.tolist(), THRESHOLD)  # type: ignore[arg-type]
    assert found is not None
    threshold, change = found
    exact = sigmoid(0.8 * math.log(0.7 / 0.3) - 0.1)
    assert threshold.fake_at == pytest.approx(exact, abs=0.03)
    assert change.kept.fake_called_fake < change.of_parent.fake_called_fake
    assert change.chosen.real_called_fake == change.of_parent.real_called_fake
    assert change.chosen.fake_called_real == change.of_parent.fake_called_real
    assert "parent's rates kept on 200 real and 200 fake" in threshold.how


def test_too_few_pictures_of_a_class_change_nothing() -> None:
    labels = ["real"] * 50 + ["fake"] * (MIN_PICTURES - 1)
    logits = np.linspace(-2, 2, len(labels)).tolist()
    assert recalibrated(labels, logits, logits, THRESHOLD) is None  # type: ignore[arg-type]
    assert recalibrated([None] * 4, [0.0] * 4, [0.0] * 4, THRESHOLD) is None


def test_a_broken_artifact_changes_nothing() -> None:
    labels = ["real"] * 20 + ["fake"] * 20
    logits = np.linspace(-2, 2, 40).tolist()
    broken = [*logits[:-1], math.nan]
    assert recalibrated(labels, logits, broken, THRESHOLD) is None  # type: ignore[arg-type]


def test_the_operating_point_counts_each_class_by_itself() -> None:
    fakes = np.array([False, False, True, True])
    point = operating_point(fakes, np.array([0.1, 0.9, 0.5, 0.8]), THRESHOLD)
    assert (point.real_called_real, point.real_called_fake) == (0.5, 0.5)
    assert (point.fake_called_real, point.fake_called_fake) == (0.0, 0.5)
