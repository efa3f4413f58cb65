import itertools
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    confusion_matrix,
    roc_auc_score,
    roc_curve,
)

from edgedf import bootstrap, metrics
from edgedf.bootstrap import RESAMPLES, GroupResamples
from edgedf.errors import DataError
from edgedf.figures import Figure
from edgedf.metrics import (
    Confusion,
    Metrics,
    Verdicts,
    auc_with_interval,
    detection_metrics,
    logit,
    mean_auc_with_interval,
    paired_metrics,
)
from edgedf.result import Threshold, sigmoid
from edgedf.roc import CURVE_FIGURES, Ranking

Array = np.ndarray
CUTS = Threshold(0.6, 0.4)
CURVE = ("auc", "average_precision", "eer", "tpr_at_1_percent_fpr", "tpr_at_5_percent_fpr")
SCORED = (*CURVE, "accuracy", "brier", "ece")
SINGLES = [str(index) for index in range(400)]


def drawn(seed: int, n: int, *, ties: bool = False) -> tuple[Array, Array]:
    """Labels with both classes, and logits that know something of them."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([[0.0, 1.0], rng.integers(0, 2, n - 2)])
    logits = rng.normal(0, 1, n) + labels
    return labels, np.round(logits) if ties else logits


def scores_of(logits: Array) -> Array:
    return np.array([sigmoid(value) for value in logits])


def expected_eer(labels: Array, scores: Array) -> float:
    """Where the polyline through scikit-learn's ROC meets the falling diagonal."""
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        # The mean of both ends of a vertical piece; the search ends at the right rate either way.
        low, high = (middle, high) if np.interp(middle, fpr, tpr) < 1 - middle else (low, middle)
    return low


def expected_tpr(labels: Array, scores: Array, most: float) -> float:
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    return float(tpr[fpr <= most].max())


def expected_ece(labels: Array, scores: Array) -> float:
    edges = np.linspace(0, 1, 16)
    total = 0.0
    for low, high in itertools.pairwise(edges):
        inside = (scores >= low) & ((scores < high) | (high == 1))
        if inside.any():
            total += inside.sum() * abs(scores[inside].mean() - labels[inside].mean())
    return float(total / len(labels))


EXPECTED: dict[str, Callable[[Array, Array], float]] = {
    "auc": roc_auc_score,
    "average_precision": average_precision_score,
    "eer": expected_eer,
    "tpr_at_1_percent_fpr": lambda y, s: expected_tpr(y, s, 0.01),
    "tpr_at_5_percent_fpr": lambda y, s: expected_tpr(y, s, 0.05),
    "accuracy": lambda y, s: accuracy_score(y, s >= 0.5),
    "brier": brier_score_loss,
    "ece": expected_ece,
}


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 200), st.booleans())
def test_every_value_is_that_of_scikit_learn(seed: int, n: int, ties: bool) -> None:
    labels, logits = drawn(seed, n, ties=ties)
    found = detection_metrics(labels, logits, SINGLES[:n], CUTS)
    scores = scores_of(logits)
    for name, expected in EXPECTED.items():
        assert getattr(found, name).value == pytest.approx(expected(labels, scores), abs=1e-9), name
    verdicts = np.array([CUTS.label(score) for score in scores])
    order = ["real", "unsure", "fake"]
    matrix = confusion_matrix(np.where(labels == 1, "fake", "real"), verdicts, labels=order)
    assert found.confusion == Confusion(Verdicts(*matrix[0]), Verdicts(*matrix[2]))
    assert found.false_alarms is not None and found.detections is not None
    assert found.false_alarms.value == pytest.approx((verdicts[labels == 0] == "fake").mean())
    assert found.detections.value == pytest.approx((verdicts[labels == 1] == "fake").mean())
    assert (found.false_alarms.n, found.detections.n) == (found.real, found.fake)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 40), st.booleans())
def test_a_resample_is_measured_like_the_repeated_pictures(seed: int, n: int, ties: bool) -> None:
    """The interval's ends are those of measuring every resample by itself."""
    labels, logits = drawn(seed, n, ties=ties)
    groups = np.random.default_rng(seed).integers(0, n, n).astype(str)
    counts = next(GroupResamples(groups).chunks())[:3].astype(int)
    scores = scores_of(logits)
    rates = {
        **metrics._score_rates(labels == 1, scores),
        **metrics._verdict_rates(labels == 1, scores, CUTS),
    }

    weights = counts.astype(float)
    curve = Ranking(labels == 1, logits)(weights)
    found = {name: figure(curve) for name, figure in CURVE_FIGURES.items()}
    found |= {name: rate(weights) for name, rate in rates.items()}
    for row, count in enumerate(counts):
        y, s = np.repeat(labels, count), np.repeat(scores, count)
        if 0 < y.sum() < len(y):
            for name, expected in EXPECTED.items():
                assert found[name][row] == pytest.approx(expected(y, s), abs=1e-9), name
        else:
            assert all(np.isnan(found[name][row]) for name in CURVE)
        for name, label in (("false_alarms", 0), ("detections", 1)):
            of_class = s[y == label]
            wanted = (of_class >= CUTS.fake_at).mean() if of_class.size else np.nan
            assert found[name][row] == pytest.approx(wanted, nan_ok=True)


def test_intervals_are_the_same_however_many_resamples_fit_into_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    labels, logits = drawn(3, 60)
    whole = detection_metrics(labels, logits, SINGLES[:60], CUTS)
    monkeypatch.setattr(bootstrap, "_CHUNK", 60 * 7)  # 2,000 is no multiple of 7
    sizes = [len(chunk) for chunk in GroupResamples(SINGLES[:60]).chunks()]
    assert (max(sizes), sum(sizes)) == (7, RESAMPLES)
    assert detection_metrics(labels, logits, SINGLES[:60], CUTS) == whole


def test_the_interval_holds_the_true_auc_and_is_as_wide_as_theory_says() -> None:
    labels = np.repeat([0.0, 1.0], 200)
    logits = np.random.default_rng(0).normal(0, 1, 400) + labels
    figure = auc_with_interval(labels, logits, SINGLES)
    assert figure.low < 0.760 < figure.high  # Phi(1 / sqrt 2)
    # Hanley & McNeil (1982) give a standard error of 0.024 for that AUC and 200 of each class.
    assert 0.07 < figure.high - figure.low < 0.12
    assert figure.n == 400
    assert detection_metrics(labels, logits, SINGLES).auc == figure


def test_pictures_of_one_group_are_drawn_together() -> None:
    labels, logits = drawn(0, 400)
    single, grouped = (
        detection_metrics(np.tile(labels, 4), np.tile(logits, 4), groups, CUTS)
        for groups in ([str(index) for index in range(1600)], SINGLES * 4)
    )
    # Four copies of each picture tell nothing new; as one group they do not narrow the interval.
    for name in (*SCORED, "false_alarms", "detections"):
        one, other = getattr(single, name), getattr(grouped, name)
        assert one.value == other.value
        assert other.high - other.low > 1.5 * (one.high - one.low), name
    assert (single.groups, grouped.groups) == (1600, 400)


def test_one_class_has_rates_alone() -> None:
    logits = np.array([-3.0, 0.0, 3.0, 4.0])
    real = detection_metrics(np.zeros(4), logits, SINGLES[:4], CUTS)
    assert real.false_alarms is not None
    assert (real.false_alarms.value, real.false_alarms.n) == (0.5, 4)
    assert (real.real, real.fake, real.detections) == (4, 0, None)
    assert real.confusion == Confusion(Verdicts(1, 1, 2), Verdicts(0, 0, 0))
    fake = detection_metrics(np.ones(4), logits, SINGLES[:4], CUTS)
    assert fake.detections is not None and fake.detections.value == 0.5
    assert fake.false_alarms is None
    assert all(getattr(found, name) is None for name in SCORED for found in (real, fake))
    assert detection_metrics(np.zeros(4), logits, SINGLES[:4]) == Metrics(4, 0, 4)


def test_a_mean_over_sets_counts_each_the_same_and_leaves_those_with_one_class_out() -> None:
    labels = np.array([0, 1, 0, 1, 0, 0, 1, 1, 0.0])
    scores = np.array([0, 1, 2, 3, 4, 5, 4, 5, 9.0])
    sets = ["perfect"] * 4 + ["chance"] * 4 + ["real only"]
    perfect = auc_with_interval(labels[:4], np.array([0, 1, 0, 1.0]), SINGLES[:4])
    assert perfect == Figure(1.0, 1.0, 1.0, 4)
    figure = mean_auc_with_interval(labels, scores, SINGLES[:9], sets)
    assert figure.value == (0.75 + 0.5) / 2
    assert figure.n == 8
    one = mean_auc_with_interval(labels[:4], scores[:4], SINGLES[:4], sets[:4])
    assert one == auc_with_interval(labels[:4], scores[:4], SINGLES[:4])
    with pytest.raises(DataError, match="a set with both classes"):
        mean_auc_with_interval(labels[8:], scores[8:], SINGLES[:1], sets[8:])


@pytest.mark.parametrize(
    ("labels", "scores", "groups", "said"),
    [
        ([], [], [], "0 labels"),
        ([0, 1], [0, 1], ["a"], "1 groups"),
        ([0, 1], [0, float("nan")], ["a", "b"], "1 of 2 scores are no finite numbers"),
        ([0, 2], [0, 1], ["a", "b"], "labels other than 0 and 1, such as 2"),
        ([0, float("nan")], [0, 1], ["a", "b"], "such as nan"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    labels: list[float], scores: list[float], groups: list[str], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        detection_metrics(np.array(labels, float), np.array(scores, float), groups)


def test_one_class_has_no_auc() -> None:
    with pytest.raises(DataError, match="both classes"):
        auc_with_interval(np.zeros(3), np.arange(3.0), ["a", "b", "c"])


@given(st.floats(-30, 30))
def test_a_logit_comes_back_from_its_score(value: float) -> None:
    assert logit(sigmoid(value)) == pytest.approx(value, abs=1e-2)


def test_the_logits_of_certainty_are_finite_and_give_it_back() -> None:
    assert [sigmoid(logit(score)) for score in (1.0, 0.5)] == [1.0, 0.5]
    assert sigmoid(logit(0.0)) < 1e-17


# Two models on the same pictures


def two_models(seed: int, n: int, noise: float = 0.5) -> tuple[Array, Array, Array, list[str]]:
    """Labels, logits of a model and of one that is almost the same, groups of pictures."""
    labels, first = drawn(seed, n)
    rng = np.random.default_rng(seed + 1)
    return (
        labels,
        first,
        first + rng.normal(0, noise, n),
        rng.integers(0, n, n).astype(str).tolist(),
    )


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 60))
def test_a_model_loses_exactly_nothing_against_itself(seed: int, n: int) -> None:
    labels, logits, _, groups = two_models(seed, n)
    for pair in (
        paired_metrics(labels, logits, logits, groups).auc,
        paired_metrics(labels, logits, logits.copy(), groups).tpr_at_1_percent_fpr,
    ):
        assert pair.drop == Figure(0.0, 0.0, 0.0, n)
        assert pair.first == pair.second


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 60))
def test_what_one_model_loses_the_other_gains(seed: int, n: int) -> None:
    labels, first, second, groups = two_models(seed, n)
    there = paired_metrics(labels, first, second, groups)
    back = paired_metrics(labels, second, first, groups)
    for one, other in (
        (there.auc, back.auc),
        (there.tpr_at_1_percent_fpr, back.tpr_at_1_percent_fpr),
    ):
        assert (one.first, one.second) == (other.second, other.first)
        assert one.drop.value == -other.drop.value
        assert one.drop.low == pytest.approx(-other.drop.high, abs=1e-12)
        assert one.drop.high == pytest.approx(-other.drop.low, abs=1e-12)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 12))
def test_the_interval_of_a_drop_is_that_of_measuring_both_on_every_resample(
    seed: int, n: int
) -> None:
    labels, first, second, groups = two_models(seed, n)
    drops = []
    for counts in np.concatenate(list(GroupResamples(groups).chunks())).astype(int):
        chosen = np.repeat(np.arange(n), counts)
        fake, real = chosen[labels[chosen] == 1], chosen[labels[chosen] == 0]
        if fake.size and real.size:
            pairs = [
                (np.sign(scores[fake][:, None] - scores[real][None]).mean() + 1) / 2
                for scores in (first, second)
            ]
            drops.append(pairs[0] - pairs[1])
    found = paired_metrics(labels, first, second, groups).auc
    assert found.drop.value == pytest.approx(
        roc_auc_score(labels, first) - roc_auc_score(labels, second)
    )
    low, high = np.percentile(drops, [2.5, 97.5])
    assert (found.drop.low, found.drop.high) == pytest.approx((low, high), abs=1e-9)


def test_figures_of_a_pair_are_those_of_each_and_the_drop_varies_less() -> None:
    labels, first, second, _ = two_models(0, 300, noise=0.1)
    groups = SINGLES[:300]
    pair = paired_metrics(labels, first, second, groups)
    for found, logits in ((pair.auc.first, first), (pair.auc.second, second)):
        assert found == auc_with_interval(labels, logits, groups)
    tpr = detection_metrics(labels, second, groups).tpr_at_1_percent_fpr
    assert pair.tpr_at_1_percent_fpr.second == tpr
    width = pair.auc.first.high - pair.auc.first.low
    assert pair.auc.drop.high - pair.auc.drop.low < width / 4
    assert pair.auc.drop.low < pair.auc.drop.value < pair.auc.drop.high


@pytest.mark.parametrize(
    ("labels", "second", "said"),
    [
        ([0.0, 0.0], [1.0, 2.0], "both classes"),
        ([0.0, 1.0], [1.0, float("inf")], "1 of 2 scores are no finite numbers"),
        ([0.0, 1.0], [1.0], "1 scores"),
    ],
)
def test_what_cannot_be_paired_is_refused(
    labels: list[float], second: list[float], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        paired_metrics(np.array(labels), np.array([1.0, 2.0]), np.array(second), ["a", "b"])


def test_nothing_but_numpy_is_needed() -> None:
    script = "import sys, edgedf.metrics; print(*{'torch', 'sklearn', 'scipy'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
