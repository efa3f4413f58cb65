"""Pictures for quantization-aware training: bytes of the student's size, and labels where known."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgedf.distill.datasets.dataset import Dataset, Sample, Split
from edgedf.distill.datasets.readable import each_picture
from edgedf.distill.records.batches import Batches
from edgedf.errors import DataError
from edgedf.evaluation import Skipped, check_skipped
from edgedf.imaging import RGBImage, preprocess
from edgedf.progress import Progress, silent

__all__ = ["MIN_PICTURES", "PictureBatches", "Pictures", "divided", "of_split"]

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


class PictureBatches(Batches):
    """Batches of pictures, each of them once an epoch.

    Args:
        pictures: What is drawn from.
        size: Pictures a batch, over all processes.
        seed: Of everything random.
    """

    def __init__(self, pictures: Pictures, *, size: int, seed: int) -> None:
        super().__init__(pictures.images, pictures.labels, pictures.files, size=size, seed=seed)

    def indices(self, step: int) -> NDArray[np.intp]:
        """Which pictures the whole batch of a step is made of."""
        wanted = np.arange(step * self._size, (step + 1) * self._size)
        count = len(self._images)
        orders = {
            epoch: np.random.default_rng([self._seed, epoch]).permutation(count)
            for epoch in np.unique(wanted // count).tolist()
        }
        return np.array([orders[at // count][at % count] for at in wanted.tolist()], np.intp)


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
    read, skipped = each_picture(
        lambda sample: (sample, preprocess(sample.path, size)),
        samples,
        step=f"read {split}",
        progress=progress,
    )
    check_skipped(skipped, len(samples))
    return Pictures(
        np.stack([image for _, image in read]),
        np.array([sample.label == "fake" for sample, _ in read], np.float32),
        tuple(str(sample.path) for sample, _ in read),
        tuple(sample.group for sample, _ in read),
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
