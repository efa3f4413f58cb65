"""The student's fake head, fitted in closed form to statistics of its frozen encoder."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgedf.distill.networks.probe import balance, calibrate, distilled_targets, fit_probe
from edgedf.distill.networks.student import Student
from edgedf.distill.records.augment import change
from edgedf.distill.records.preparation import domains, labelled
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

    The head's targets are the labels, -1 for real and 1 for fake, mixed with what a teacher made of
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
    learned = labelled(training)
    rng = np.random.default_rng(seed)
    some = rng.choice(learned, min(_RANGED, len(learned)), replace=False)
    set_thresholds(student, training.images[np.sort(some)], progress)
    parts = []
    for view in range(views):
        # One step for all views, so that a progress bar does not start again.
        done = view * len(learned)

        def tell(_: str, count: int, __: int, done: int = done) -> None:
            progress("statistics", done + count, views * len(learned))

        images = (_changed(training.images[i], seed, view, int(i)) for i in learned)
        parts.append(statistics_of(student, images, len(learned), tell))
    labels = training.labels[learned]
    said = None if teacher is None else teacher[learned]
    targets = distilled_targets(labels, said, distilled)
    probe = fit_probe(
        np.concatenate(parts),
        np.tile(targets, views),
        np.tile(balance(domains(training, learned), labels), views),
        penalty=penalty,
    )
    # Rounded around the usual value of each statistic, so that rounding moves no mean.
    weights = torch.from_numpy(probe.weight / probe.deviation)
    probe = replace(probe, weight=student.storable(weights).numpy() * probe.deviation)
    judged = labelled(validation)
    found = statistics_of(student, (validation.images[i] for i in judged), len(judged), silent)
    calibration = calibrate(probe(found), validation.labels[judged])
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
    means, squares = [], []
    with torch.inference_mode():
        for at in range(0, len(images), _BATCH):
            mean, square = student.channel_moments(_pixels(images[at : at + _BATCH]))
            means.append(mean)
            squares.append(square)
            progress("channel ranges", min(at + _BATCH, len(images)), len(images))
    mean, square = torch.cat(means).mean(dim=0), torch.cat(squares).mean(dim=0)
    student.set_thresholds(mean, (square - mean.square()).clamp_min(0).sqrt())


def _changed(image: NDArray[np.uint8], seed: int, view: int, index: int) -> NDArray[np.uint8]:
    if view == 0:
        return image
    rng = np.random.default_rng([seed, view, index])
    return change(image, np.zeros((1, 1), np.float32), rng)[0]


def statistics_of(
    student: Student, images: Iterable[NDArray[np.uint8]], count: int, tell: Progress
) -> NDArray[np.float32]:
    """What the fake head of a student judges pictures by.

    Args:
        student: In evaluation mode, its thresholds set.
        images: uint8 RGB, (size, size, 3) each.
        count: How many there are.
        tell: Told about each batch.

    Returns:
        float32, (count, features).
    """
    found: list[NDArray[np.float32]] = []
    batch: list[NDArray[np.uint8]] = []
    done = 0

    def run() -> None:
        nonlocal done
        with torch.inference_mode():
            found.append(student.statistics(_pixels(np.stack(batch))).numpy())
        done += len(batch)
        batch.clear()
        tell("statistics", done, count)

    for image in images:
        batch.append(image)
        if len(batch) == _BATCH:
            run()
    if batch:
        run()
    return np.concatenate(found)


def _pixels(images: NDArray[np.uint8]) -> Tensor:
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    return pixels.contiguous(memory_format=torch.channels_last)
