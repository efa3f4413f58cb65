"""Pictures for quantization-aware training: bytes of the student's size, and labels where known."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgedf.ahead import run_ahead
from edgedf.distill.datasets.dataset import Dataset, Sample, Split
from edgedf.distill.records.augment import change
from edgedf.errors import DataError, ImageError
from edgedf.evaluation import Skipped, check_skipped
from edgedf.imaging import RGBImage, preprocess
from edgedf.machine import available_cores
from edgedf.progress import Progress, silent

__all__ = ["MIN_PICTURES", "Batch", "Batches", "Pictures", "as_batch", "divided", "of_split"]

MIN_PICTURES = 12
"""Fewest pictures that training without a manifest can be divided from."""

# Of the pictures that training without a manifest is given, the share that its score is taken on.
_HELD_OUT = 0.25


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures in memory.

    Args:
        images: uint8 RGB, (n, size, size, 3).
        labels: float32, (n,): 1 fake, 0 real, NaN not known.
        files: Where each came from, for messages.
        groups: Pictures that belong together have the same.
        skipped: Pictures that could not be read.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.float32]
    files: tuple[str, ...]
    groups: tuple[str, ...]
    skipped: tuple[Skipped, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, indices: NDArray[np.intp]) -> Pictures:
        """Some of them, by their numbers."""
        return Pictures(
            self.images[indices],
            self.labels[indices],
            tuple(self.files[i] for i in indices),
            tuple(self.groups[i] for i in indices),
        )


@dataclass(frozen=True, eq=False)
class Batch:
    """What a step sees.

    Args:
        images: float32, (N, 3, size, size), whole numbers in [0, 255].
        labels: float32, (N,): 1 fake, 0 real, NaN not known.
        count: Records of the whole batch a process.
        labelled: Labels of the whole batch a process.
    """

    images: Tensor
    labels: Tensor
    count: float
    labelled: float

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        images, labels = (x.to(device, non_blocking=True) for x in (self.images, self.labels))
        return Batch(images, labels, self.count, self.labelled)


class Batches:
    """Draws batches from pictures, each picture changed anew as training changes them.

    A batch depends on the seed and the step's number alone.

    Args:
        pictures: What is drawn from.
        size: Pictures a batch, over all processes.
        seed: Of everything random.
    """

    def __init__(self, pictures: Pictures, *, size: int, seed: int) -> None:
        self._pictures, self._size, self._seed = pictures, size, seed

    def indices(self, step: int) -> NDArray[np.intp]:
        """Which pictures the whole batch of a step is made of; every picture once an epoch."""
        wanted = np.arange(step * self._size, (step + 1) * self._size)
        count = len(self._pictures)
        orders = {
            epoch: np.random.default_rng([self._seed, epoch]).permutation(count)
            for epoch in np.unique(wanted // count).tolist()
        }
        return np.array([orders[at // count][at % count] for at in wanted.tolist()], np.intp)

    def files(self, step: int) -> tuple[str, ...]:
        """The pictures that the whole batch of a step is made of."""
        return tuple(self._pictures.files[index] for index in self.indices(step))

    def part(self, step: int, rank: int, ranks: int) -> Batch:
        """What one of several processes sees of a step's batch.

        Args:
            step: Number of the step, from 0.
            rank: Number of the process, from 0.
            ranks: Number of processes, by which the size can be divided.
        """
        chosen, size = self.indices(step), self._size // ranks
        mine = range(rank * size, (rank + 1) * size)
        nothing = np.zeros((1, 1), np.float32)  # there is no map to change along
        images = [
            # From 1: numpy takes [seed, step, 0] for [seed, step].
            change(
                self._pictures.images[chosen[position]],
                nothing,
                np.random.default_rng([self._seed, step, position + 1]),
            )[0]
            for position in mine
        ]
        labels = self._pictures.labels[chosen]
        return Batch(
            as_batch(np.stack(images)),
            torch.from_numpy(labels[mine.start : mine.stop].copy()),
            size,
            float((~np.isnan(labels)).sum()) / ranks,
        )


def as_batch(images: NDArray[np.uint8]) -> Tensor:
    """uint8 (N, size, size, 3) → float32 (N, 3, size, size), channels last in memory."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    return pixels.contiguous(memory_format=torch.channels_last)


def of_split(
    dataset: Dataset,
    split: Split,
    *,
    most: int,
    size: int,
    seed: int,
    progress: Progress = silent,
) -> Pictures:
    """Pictures of a split; where there are more than wanted, as many of each set and class.

    Args:
        dataset: Pictures of all splits.
        split: Which of them.
        most: How many to read at most.
        size: Side in pixels.
        seed: Of the choice.
        progress: Told about each picture.

    Raises:
        DataError: There are none, or more than 5 % of them cannot be read.
    """
    kinds: dict[tuple[str, str], list[Sample]] = defaultdict(list)
    for sample in dataset.select(split=split):
        kinds[sample.set, sample.label].append(sample)
    rng = np.random.default_rng(seed)
    shuffled = [[kinds[key][i] for i in rng.permutation(len(kinds[key]))] for key in sorted(kinds)]
    turns = (sample for sample in chain.from_iterable(zip_longest(*shuffled)) if sample is not None)
    samples = list(turns)[:most]
    if not samples:
        raise DataError(
            f"The {split} split of {dataset.folder} holds nothing.",
            expected="pictures in each of train, val and test",
            next_step="move some groups between the splits",
        )
    read = _read([sample.path for sample in samples], size, f"read {split}", progress)
    pairs = list(zip(samples, read, strict=True))
    skipped = tuple(found for found in read if isinstance(found, Skipped))
    check_skipped(skipped, len(samples))
    good = [sample for sample, found in pairs if not isinstance(found, Skipped)]
    return Pictures(
        np.stack([found for found in read if not isinstance(found, Skipped)]),
        np.array([sample.label == "fake" for sample in good], np.float32),
        tuple(str(sample.path) for sample in good),
        tuple(sample.group for sample in good),
        skipped,
    )


def divided(
    pictures: Sequence[RGBImage | str | Path], size: int, seed: int
) -> tuple[Pictures, Pictures]:
    """Pictures without labels, and some of them held out.

    Args:
        pictures: uint8 RGB of any size, or files.
        size: Side in pixels.
        seed: Of the choice.

    Returns:
        Those to train on, and those that the score is taken on.

    Raises:
        DataError: There are fewer than :data:`MIN_PICTURES`.
        ImageError: One of them cannot be used.
    """
    if len(pictures) < MIN_PICTURES:
        raise DataError(
            f"{len(pictures)} pictures are too few to train on.",
            expected=f"{MIN_PICTURES} or more",
            next_step="add pictures like those that the model will see",
        )
    images = np.stack([preprocess(picture, size) for picture in pictures])
    names = tuple(
        f"picture {number}" if isinstance(picture, np.ndarray) else str(picture)
        for number, picture in enumerate(pictures, 1)
    )
    whole = Pictures(images, np.full(len(images), np.nan, np.float32), names, names)
    order = np.random.default_rng(seed).permutation(len(images))
    held_out = max(1, round(_HELD_OUT * len(images)))
    return whole.subset(np.sort(order[held_out:])), whole.subset(np.sort(order[:held_out]))


def _read(
    paths: Sequence[Path], size: int, step: str, progress: Progress
) -> list[RGBImage | Skipped]:
    """Pictures as a model takes them, or why one cannot be read."""

    def one(path: Path) -> RGBImage | Skipped:
        try:
            return preprocess(path, size)
        except ImageError as error:
            return Skipped(str(path), error.message)

    found = []
    for image in run_ahead(one, paths, available_cores()):
        found.append(image)
        progress(step, len(found), len(paths))
    return found
