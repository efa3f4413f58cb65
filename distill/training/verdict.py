"""The student's fake head, fitted in closed form to statistics of its frozen encoder."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from edgedf.distill.networks.probe import balance, calibrate, distilled_targets, fit_probe
from edgedf.distill.networks.running import as_pixels, batches_of, run
from edgedf.distill.networks.student import Student
from edgedf.distill.records.augment import change
from edgedf.distill.records.targets import Records
from edgedf.progress import Progress, silent

__all__ = ["fit_verdict", "set_thresholds", "statistics_of"]

_BATCH = 32
# Records from which the usual range of each channel is taken.
_RANGED = 1024


def fit_verdict(
    student: Student,
    training: Records,
    validation: Records,
    *,
    penalty: float,
    views: int,
    seed: int,
    teacher: NDArray[np.float64] | None = None,
    distilled: float = 0.5,
    progress: Progress = silent,
) -> None:
    """Set thresholds, centre, deviation and weights of the fake head.

    The head's targets are the labels, -1 for real and 1 for fake, mixed with a teacher's logits of
    the same pictures (Hinton et al., "Distilling the Knowledge in a Neural Network", 2015), on the
    same scale. Its value is then scaled to log odds on the validation records.

    Args:
        student: Changed in place; its encoder has its final weights.
        training: Records to fit to; those without a label take no part.
        validation: Records to calibrate on.
        penalty: See :func:`edgedf.distill.networks.probe.fit_probe`.
        views: How often each record is shown, changed anew each time but the first.
        seed: Of the changes and of the choice of records.
        teacher: (n,): a teacher's logits for the training records; None for labels alone.
        distilled: Share of the teacher in the targets.
        progress: Told about each batch.

    Raises:
        DataError: The validation records have one class only.
    """
    student.eval()
    learned, judged = training.labelled, validation.labelled
    rng = np.random.default_rng(seed)
    some = rng.choice(learned, min(_RANGED, len(learned)), replace=False)
    set_thresholds(student, training.images[np.sort(some)], progress)
    # One step for all views, so that a progress bar does not start again.
    batches = (
        (as_pixels(np.stack([_changed(training.images[i], seed, view, int(i)) for i in part])),)
        for view in range(views)
        for part in np.split(learned, range(_BATCH, len(learned), _BATCH))
    )
    (statistics,) = run(
        student.statistics, batches, views * len(learned), step="statistics", progress=progress
    )
    labels = training.labels[learned]
    targets = distilled_targets(labels, None if teacher is None else teacher[learned], distilled)
    weights = balance(training.domains[learned], labels)
    probe = fit_probe(statistics, np.tile(targets, views), np.tile(weights, views), penalty=penalty)
    # Rounded around the usual value of each statistic, so that rounding moves no mean.
    exact = torch.from_numpy(probe.weight / probe.deviation)
    probe = replace(probe, weight=student.storable(exact).numpy() * probe.deviation)
    values = probe(statistics_of(student, validation.images[judged], silent))
    calibration = calibrate(values, validation.labels[judged])
    with torch.no_grad():
        student.centre.copy_(torch.from_numpy(probe.centre))
        student.deviation.copy_(torch.from_numpy(probe.deviation))
        student.fake.weight.copy_(torch.from_numpy(probe.weight * calibration.scale)[None])
        student.fake.bias.fill_(probe.bias * calibration.scale + calibration.offset)


def set_thresholds(student: Student, images: NDArray[np.uint8], progress: Progress) -> None:
    """Put the thresholds of a student's channels at their means over some pictures.

    Args:
        student: Changed in place.
        images: uint8 RGB, (n, size, size, 3); a thousand are enough.
        progress: Told about each batch.
    """
    moments = run(
        student.channel_moments,
        batches_of(images, size=_BATCH),
        len(images),
        step="channel ranges",
        progress=progress,
    )
    mean, square = (torch.from_numpy(moment).mean(dim=0) for moment in moments)
    student.set_thresholds(mean, (square - mean.square()).clamp_min(0).sqrt())


def statistics_of(
    student: Student, images: NDArray[np.uint8], progress: Progress
) -> NDArray[np.float32]:
    """Statistics by which the fake head of a student judges pictures.

    Args:
        student: In evaluation mode, its thresholds set.
        images: uint8 RGB, (n, size, size, 3).
        progress: Told about each batch.

    Returns:
        float32, (n, features).
    """
    batches = batches_of(images, size=_BATCH)
    (values,) = run(student.statistics, batches, len(images), step="statistics", progress=progress)
    return values


def _changed(image: NDArray[np.uint8], seed: int, view: int, index: int) -> NDArray[np.uint8]:
    if view == 0:
        return image
    rng = np.random.default_rng([seed, view, index])
    return change(image, np.zeros((1, 1), np.float32), rng)[0]
