"""Which pictures a step of training sees.

A batch depends on the seed and the step's number alone, so a run that goes on after a kill sees
what it would have seen. Several processes share a batch: each makes its own slice of it, and as
every picture has a random stream of its own, together they see what one process would see alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgedf.distill.networks.running import as_pixels
from edgedf.distill.records.augment import change
from edgedf.distill.records.targets import Indices, Records
from edgedf.errors import ConfigError

__all__ = ["Batch", "Batches", "RecordBatches"]

# Kinds of records that are drawn apart from the pictures they are made from.
_APART = ("self_blend", "portrait", "rendered")
# Share of each batch that is rendered: its maps are exact, those of other pictures are estimates.
_RENDERED_SHARE = 0.4


@dataclass(frozen=True, eq=False)
class Batch:
    """Input and targets of a step.

    Args:
        images: float32, (N, 3, size, size) in [0, 255], channels last in memory.
        labels: float32, (N,): 1 fake, 0 real, NaN neither.
        count: What a loss over all records is divided by: records of the whole batch a process.
        labelled: What a loss over labels is divided by: labels of the whole batch a process.
        maps: float32, (N, k, size / 4, size / 4), sigma in pixels: k maps of each picture, the
            wanted one first.
    """

    images: Tensor
    labels: Tensor
    count: float
    labelled: float
    maps: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        images, labels, maps = (
            tensor.to(device, non_blocking=True) for tensor in (self.images, self.labels, self.maps)
        )
        return replace(self, images=images, labels=labels, maps=maps)


class Batches(ABC):
    """Batches of pictures that are changed anew at each step, with their maps.

    Args:
        images: uint8 RGB, (n, size, size, 3).
        labels: float32, (n,): 1 fake, 0 real, NaN neither.
        files: Where each picture came from, for messages.
        maps: (n, h, w) each: maps of the pictures.
        size: Pictures a batch, over all processes.
        seed: Of everything random.
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.float32],
        files: Sequence[str],
        maps: Sequence[NDArray[np.floating]] = (),
        *,
        size: int,
        seed: int,
    ) -> None:
        self._images, self._labels, self._files, self._maps = images, labels, files, maps
        self._size, self._seed = size, seed

    @abstractmethod
    def indices(self, step: int) -> Indices:
        """Which pictures the whole batch of a step is made of."""

    def files(self, step: int) -> tuple[str, ...]:
        """The files that the whole batch of a step is made of."""
        return tuple(self._files[index] for index in self.indices(step))

    def part(self, step: int, rank: int = 0, ranks: int = 1) -> Batch:
        """What one of several processes sees of a step's batch.

        Args:
            step: Number of the step, from 0.
            rank: Number of the process, from 0.
            ranks: Number of processes.

        Raises:
            ConfigError: The batch cannot be shared evenly.
        """
        if self._size % ranks:
            raise ConfigError(
                f"A batch of {self._size} records cannot be shared by {ranks} processes.",
                expected="a multiple of the number of processes",
                next_step=f"a batch of {ranks * max(1, self._size // ranks)}",
            )
        chosen, size = self.indices(step), self._size // ranks
        mine = slice(rank * size, (rank + 1) * size)
        images, maps = [], []
        for position, index in enumerate(chosen[mine].tolist(), mine.start):
            # From 1: numpy takes [seed, step, 0] for [seed, step], which the plan is drawn with.
            rng = np.random.default_rng([self._seed, step, position + 1])
            layers = [stack[index].astype(np.float32) for stack in self._maps]
            defocus = np.stack(layers, axis=2) if layers else np.zeros((1, 1, 0), np.float32)
            image, defocus = change(self._images[index], defocus, rng)
            images.append(image)
            maps.append(defocus)
        labels = self._labels[chosen]
        return Batch(
            as_pixels(np.stack(images)),
            torch.from_numpy(labels[mine].copy()),
            size,
            float((~np.isnan(labels)).sum()) / ranks,
            torch.from_numpy(np.stack(maps)).permute(0, 3, 1, 2).contiguous(),
        )


class RecordBatches(Batches):
    """Batches of records.

    Each set counts by the square root of its size, so that a large one does not drown the others.
    Within a set with both classes they are drawn equally often, whatever the set holds; real
    pictures of sets without fakes and self-blends, which have no counterpart, count half.

    Args:
        records: Records of the training split.
        size: Records a batch, over all processes.
        seed: Of everything random.
        beside: (n, h, w): another map of each record, which changes with the picture as its own
            does; None for none.
    """

    def __init__(
        self,
        records: Records,
        *,
        size: int,
        seed: int,
        beside: NDArray[np.floating] | None = None,
    ) -> None:
        files = [str(job.sample.path) for job in records.jobs]
        maps = [records.maps, *([] if beside is None else [beside])]
        super().__init__(records.images, records.labels, files, maps, size=size, seed=seed)
        pools: dict[tuple[str, str], list[int]] = defaultdict(list)
        for index, job in enumerate(records.jobs):
            kind = job.kind if job.kind in _APART else job.sample.label
            pools[job.sample.set, kind].append(index)
        self._pools = [np.array(members) for members in pools.values()]
        weights = np.array([_weight(key, pools) for key in pools])
        rendered = np.array([kind == "rendered" for _, kind in pools])
        if rendered.any() and not rendered.all():
            weights[rendered] *= _RENDERED_SHARE / weights[rendered].sum()
            weights[~rendered] *= (1 - _RENDERED_SHARE) / weights[~rendered].sum()
        self._weights = weights / weights.sum()

    def indices(self, step: int) -> Indices:
        """Which records the whole batch of a step is made of."""
        rng = np.random.default_rng([self._seed, step])
        chosen = rng.choice(len(self._pools), size=self._size, p=self._weights)
        return np.array([rng.choice(self._pools[pool]) for pool in chosen], np.intp)


def _weight(key: tuple[str, str], pools: dict[tuple[str, str], list[int]]) -> float:
    name, kind = key
    has_both = (name, "real") in pools and (name, "fake") in pools
    if kind in ("real", "fake") and has_both:
        return float(np.sqrt(len(pools[name, "real"]) + len(pools[name, "fake"])))
    return float(np.sqrt(len(pools[key]))) / 2
