"""How good a student is, with intervals: AUC, verdicts and the error of its defocus map."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from edgedf import typed_json
from edgedf.distill.data import SPLITS, read_manifest
from edgedf.distill.student import Student, load_checkpoint
from edgedf.distill.targets import Records, TargetSettings, compute, evaluation_plan
from edgedf.errors import CheckpointError, ConfigError, DataError
from edgedf.progress import Progress, silent
from edgedf.result import Threshold, sigmoid
from edgedf.spec import Accuracy

__all__ = [
    "Figure",
    "Predictions",
    "auc_with_interval",
    "choose_threshold",
    "evaluate_checkpoint",
    "map_error_with_interval",
    "measure",
    "predict",
]

Groups = Sequence[str] | NDArray[np.object_]

RESAMPLES = 2000
# On the validation split at most this share of the real pictures may be called fake, and at most
# this share of the fakes real; what lies between is "unsure".
CONFIDENT_ERROR = 0.1
STEPS = 10_000  # of a threshold between 0 and 1
SEED = 0


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a student says about records.

    Args:
        logits: float64, (n,).
        maps: float32, (n, size / 4, size / 4), sigma in pixels.
    """

    logits: NDArray[np.float64]
    maps: NDArray[np.float32]


@dataclass(frozen=True)
class Figure:
    """A measured value with its 95 % interval.

    Args:
        value: The value.
        low: Lower end.
        high: Upper end.
        n: Number of pictures.
    """

    value: float
    low: float
    high: float
    n: int


def predict(
    student: Student,
    images: NDArray[np.uint8],
    *,
    batch: int = 32,
    step: str = "evaluate",
    progress: Progress = silent,
) -> Predictions:
    """Run a student on prepared pictures.

    Args:
        student: The student; its mode is left as it was.
        images: uint8 RGB, (n, size, size, 3).
        batch: Pictures at a time.
        step: Name of the step for ``progress``.
        progress: Told about each batch.
    """
    was_training = student.training
    student.eval()
    logits, maps = [], []
    with torch.inference_mode():
        for at in range(0, len(images), batch):
            pixels = torch.from_numpy(images[at : at + batch]).permute(0, 3, 1, 2).float()
            output = student(pixels.contiguous(memory_format=torch.channels_last))
            logits.append(output.fake_logit[:, 0].double().numpy())
            maps.append(output.defocus_map[:, 0].float().numpy())
            progress(step, min(at + batch, len(images)), len(images))
    student.train(was_training)
    return Predictions(np.concatenate(logits), np.concatenate(maps))


def auc_with_interval(
    labels: NDArray[np.floating], scores: NDArray[np.floating], groups: Groups
) -> Figure:
    """Area under the ROC curve with a percentile bootstrap interval.

    Whole groups are drawn, since pictures of one group are not independent.

    Args:
        labels: (n,): 1 fake, 0 real.
        scores: (n,): higher means fake.
        groups: (n,): group of each picture.

    Raises:
        DataError: Only one class is there.
    """
    _check_both_classes(labels, "An AUC needs")

    resampled = _weighted_auc(labels, scores, _bootstrap_weights(groups))
    low, high = np.nanpercentile(resampled, [2.5, 97.5])
    return Figure(float(roc_auc_score(labels, scores)), float(low), float(high), len(labels))


def map_error_with_interval(
    found: NDArray[np.floating], wanted: NDArray[np.floating], groups: Groups
) -> Figure:
    """Mean absolute error of defocus maps in pixels with a percentile bootstrap interval.

    Args:
        found: (n, H, W), sigma in pixels.
        wanted: The same shape.
        groups: (n,): group of each picture.
    """
    errors = np.abs(found.astype(np.float64) - wanted.astype(np.float64)).mean(axis=(1, 2))
    return _mean_with_interval(errors, groups)


def choose_threshold(
    labels: NDArray[np.floating], logits: NDArray[np.floating], how: str
) -> Threshold:
    """Where a score turns into a verdict, chosen on validation pictures.

    ``fake_at`` is the smallest score, in steps of 0.0001, at which at most :data:`CONFIDENT_ERROR`
    of the real pictures are called fake; ``real_at`` the largest at which at most that share of the
    fakes is called real. Where the two cross (a detector better than that), both move to the score
    where the two shares are most alike.

    Args:
        labels: (n,): 1 fake, 0 real.
        logits: (n,).
        how: Description of the pictures for the spec.

    Raises:
        DataError: Only one class is there.
    """
    _check_both_classes(labels, "Thresholds need")
    scores = np.array([sigmoid(logit) for logit in logits])
    real, fake = np.sort(scores[labels == 0]), np.sort(scores[labels == 1])
    # The first picture that must not be on the wrong side, and the next step beyond it.
    last_real = real[len(real) - 1 - int(CONFIDENT_ERROR * len(real))]
    first_fake = fake[int(CONFIDENT_ERROR * len(fake))]
    fake_at = min(1.0, (np.floor(last_real * STEPS) + 1) / STEPS)
    real_at = max(0.0, (np.ceil(first_fake * STEPS) - 1) / STEPS)
    rule = f"at most {CONFIDENT_ERROR:.0%} of real pictures called fake, and of fakes called real"
    if real_at >= fake_at:
        cuts = np.unique(np.rint(scores * STEPS) / STEPS)
        false_positive = 1 - np.searchsorted(real, cuts) / len(real)
        false_negative = np.searchsorted(fake, cuts) / len(fake)
        fake_at = real_at = cuts[np.argmin(np.abs(false_positive - false_negative))]
        rule = "equal error rate"
    return Threshold(float(fake_at), float(real_at), f"{rule}; on {how} (n={len(labels)})")


def measure(
    records: Records,
    predictions: Predictions,
    split: str,
    threshold: Threshold | None = None,
) -> tuple[Accuracy, ...]:
    """All figures of a split, by set, for the model's spec and card.

    Args:
        records: Records of whole pictures and self-blends.
        predictions: What the student says of them.
        split: Its name.
        threshold: Turns scores into verdicts; None leaves the shares of verdicts out.

    Returns:
        AUC for each set with both classes and of self-blended faces against the same set's real
        ones; the share of real pictures called fake, and of fake ones; the map's error against the
        physical map for each set, and against the exact one for renderings.
    """
    kinds = np.array([job.kind for job in records.jobs])
    sets = np.array([job.sample.set for job in records.jobs])
    groups = np.array([job.sample.group for job in records.jobs], dtype=object)
    figures: list[Accuracy] = []

    def add(name: str, metric: str, figure: Figure) -> None:
        figures.append(
            Accuracy(f"{name} {split}", metric, *_rounded(figure), n=figure.n, model="fp32")
        )

    for name in sorted(set(sets)):
        whole = np.flatnonzero((sets == name) & (kinds == "whole"))
        labels = records.labels[whole]
        if len(set(labels.tolist())) == 2:
            add(name, "AUC", auc_with_interval(labels, predictions.logits[whole], groups[whole]))
        swapped = np.flatnonzero((sets == name) & (kinds == "self_blend"))
        if swapped.size:
            both = np.concatenate([whole[labels == 0], swapped])
            figure = auc_with_interval(records.labels[both], predictions.logits[both], groups[both])
            add(f"{name} self-blended", "AUC", figure)
    if threshold is not None:
        called = np.array([threshold.label(sigmoid(x)) == "fake" for x in predictions.logits])
        for label, title in ((0, "real pictures called fake"), (1, "fakes called fake")):
            for name in sorted(set(sets)):
                whole = np.flatnonzero(
                    (sets == name) & (kinds == "whole") & (records.labels == label)
                )
                if whole.size:
                    add(name, title, _mean_with_interval(called[whole], groups[whole]))
    for name in sorted(set(sets)):
        whole = np.flatnonzero((sets == name) & (kinds == "whole"))
        if whole.size:
            found, wanted = predictions.maps[whole], records.maps[whole]
            figure = map_error_with_interval(found, wanted, groups[whole])
            add(name, "map error against the physical map (mean absolute, px)", figure)
    rendered = np.flatnonzero(kinds == "rendered")
    if rendered.size:
        found, wanted = predictions.maps[rendered], records.maps[rendered]
        figure = map_error_with_interval(found, wanted, groups[rendered])
        add("rendered depth of field", "map error against the exact map (px)", figure)
    return tuple(figures)


def _rounded(figure: Figure) -> tuple[float, float, float]:
    return round(figure.value, 4), round(figure.low, 4), round(figure.high, 4)


def _check_both_classes(labels: NDArray[np.floating], what_needs: str) -> None:
    if len(set(labels.tolist())) < 2:
        raise DataError(
            f"{what_needs} both classes.",
            expected="real and fake pictures",
            next_step="add pictures of the other class to the split",
        )


def _threshold_of(metadata: Mapping[str, Any], checkpoint: str | Path) -> Threshold | None:
    """The checkpoint's own thresholds; one saved in the middle of a run has none."""
    if "threshold" not in metadata:
        return None
    try:
        return typed_json.decode(Threshold, metadata["threshold"])
    except (ValueError, ConfigError) as error:
        raise CheckpointError(
            f"The thresholds in {checkpoint} cannot be used: {error}.",
            expected="fake_at, real_at and how",
            next_step="train again, or take the file from where it was made",
        ) from error


def _mean_with_interval(values: NDArray[np.generic], groups: Groups) -> Figure:
    numbers, weights = values.astype(np.float64), _bootstrap_weights(groups)
    low, high = np.percentile(weights @ numbers / weights.sum(axis=1), [2.5, 97.5])
    return Figure(float(numbers.mean()), float(low), float(high), len(numbers))


def _bootstrap_weights(groups: Groups) -> NDArray[np.float64]:
    """How often each picture is in each resample of whole groups, (RESAMPLES, n)."""
    names, member = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    rng = np.random.default_rng(SEED)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=RESAMPLES)
    return drawn[:, member].astype(np.float64)


def _weighted_auc(
    labels: NDArray[np.floating], scores: NDArray[np.floating], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Share of real-fake pairs in the right order, ties counting half, for each row of weights.

    The same as computing the AUC of every resample, without sorting each; NaN where a resample
    holds one class only.
    """
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf) > 0)
    is_fake = labels[order] == 1
    ordered = weights[:, order]
    fake = np.add.reduceat(ordered * is_fake, starts, axis=1)
    real = np.add.reduceat(ordered * ~is_fake, starts, axis=1)
    below = np.cumsum(real, axis=1) - real / 2
    with np.errstate(invalid="ignore"):
        pairs = fake.sum(axis=1) * real.sum(axis=1)
        return np.asarray((fake * below).sum(axis=1) / pairs)


def evaluate_checkpoint(
    checkpoint: str | Path,
    data: str | Path,
    split: str = "test",
    *,
    cache: str | Path | None = None,
    workers: int = 1,
    progress: Progress = silent,
) -> tuple[Accuracy, ...]:
    """Measure a checkpoint on a split of a data set, as training with default settings does.

    Args:
        checkpoint: A ``.safetensors`` file of ours.
        data: Folder with ``manifest.csv``.
        split: ``train``, ``val`` or ``test``.
        cache: Where computed maps are kept; None for a folder that goes afterwards.
        workers: Processes that compute maps.
        progress: Told about maps and batches.

    Raises:
        CheckpointError: The checkpoint cannot be used.
        ConfigError: There is no such split.
        DataError: The manifest or a picture cannot be used, or the split is empty.
    """
    if split not in SPLITS:
        raise ConfigError(
            f"There is no split {split!r}.", expected=", ".join(SPLITS), next_step="--split test"
        )
    student, metadata = load_checkpoint(checkpoint)
    threshold = _threshold_of(metadata, checkpoint)
    samples = read_manifest(data).select(split=split)
    if not samples:
        raise DataError(
            f"The {split} split of {data} is empty.",
            expected="pictures in it",
            next_step="choose another split",
        )
    with contextlib.ExitStack() as stack:
        folder = cache or stack.enter_context(tempfile.TemporaryDirectory(prefix="edgedf-"))
        records = compute(
            evaluation_plan(samples),
            folder,
            TargetSettings(size=student.config.input_size),
            workers=workers,
            progress=progress,
        )
    predictions = predict(student, records.images, progress=progress)
    return measure(records, predictions, split, threshold)
