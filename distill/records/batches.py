"""Which records a step of training sees.

A batch depends on the seed and the step's number alone, so a run that goes on after a kill sees
what it would have seen. Several processes share a batch: each makes its own slice of it, and as
every record has a random stream of its own, together they see what one process would see alone.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgedf.distill.records.augment import change
from edgedf.distill.records.targets import Records
from edgedf.errors import ConfigError

__all__ = ["Batch", "Batches"]

# Kinds of records that are drawn apart from the pictures they are made from.
_MADE = ("self_blend", "portrait", "rendered")
# Share of each batch that is rendered: its maps are exact, those of other pictures are estimates.
_RENDERED_SHARE = 0.4


@dataclass(frozen=True, eq=False)
class Batch:
    """Input and targets of a step.

    Args:
        images: float32, (N, 3, size, size) in [0, 255], channels last in memory.
        maps: float32, (N, 1, size / 4, size / 4), sigma in pixels.
        labels: float32, (N,): 1 fake, 0 real, NaN neither.
        count: What a loss over all records is divided by: records of the whole batch a process.
        labelled: What a loss over labels is divided by: labels of the whole batch a process.
        beside: Another map of each picture, as ``maps``; None where there is none.
    """

    images: Tensor
    maps: Tensor
    labels: Tensor
    count: float
    labelled: float
    beside: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        images, maps, labels = (
            tensor.to(device, non_blocking=True) for tensor in (self.images, self.maps, self.labels)
        )
        beside = None if self.beside is None else self.beside.to(device, non_blocking=True)
        return replace(self, images=images, maps=maps, labels=labels, beside=beside)


class Batches:
    """Draws batches from records.

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
        self._records, self._size, self._seed, self._beside = records, size, seed, beside
        pools: dict[tuple[str, str], list[int]] = defaultdict(list)
        for index, job in enumerate(records.jobs):
            kind = job.kind if job.kind in _MADE else job.sample.label
            pools[job.sample.set, kind].append(index)
        self._pools = [np.array(members) for members in pools.values()]
        weights = np.array([_weight(key, pools) for key in pools])
        rendered = np.array([kind == "rendered" for _, kind in pools])
        if rendered.any() and not rendered.all():
            weights[rendered] *= _RENDERED_SHARE / weights[rendered].sum()
            weights[~rendered] *= (1 - _RENDERED_SHARE) / weights[~rendered].sum()
        self._weights = weights / weights.sum()

    def indices(self, step: int) -> tuple[int, ...]:
        """Which records the whole batch of a step is made of."""
        rng = np.random.default_rng([self._seed, step])
        chosen = rng.choice(len(self._pools), size=self._size, p=self._weights)
        return tuple(int(rng.choice(self._pools[pool])) for pool in chosen)

    def files(self, step: int) -> tuple[str, ...]:
        """The pictures that the whole batch of a step is made of."""
        return tuple(str(self._records.jobs[index].sample.path) for index in self.indices(step))

    def __getitem__(self, step: int) -> Batch:
        return self.part(step)

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
                next_step="change the size of the batch",
            )
        chosen, records, size = self.indices(step), self._records, self._size // ranks
        images, maps = [], []
        stacks = [records.maps, *([] if self._beside is None else [self._beside])]
        mine = range(rank * size, (rank + 1) * size)
        for position in mine:
            # From 1: numpy takes [seed, step, 0] for [seed, step], which the plan is drawn with.
            rng = np.random.default_rng([self._seed, step, position + 1])
            index = chosen[position]
            dense = np.stack([stack[index] for stack in stacks], axis=2).astype(np.float32)
            image, dense = change(records.images[index], dense, rng)
            images.append(image)
            maps.append(dense)
        labels = records.labels[list(chosen)]
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()
        dense_maps = torch.from_numpy(np.stack(maps)).permute(0, 3, 1, 2).contiguous()
        return Batch(
            pixels.contiguous(memory_format=torch.channels_last),
            dense_maps[:, :1],
            torch.from_numpy(labels[mine.start : mine.stop].copy()),
            size,
            float((~np.isnan(labels)).sum()) / ranks,
            None if self._beside is None else dense_maps[:, 1:],
        )


def _weight(key: tuple[str, str], pools: dict[tuple[str, str], list[int]]) -> float:
    name, kind = key
    has_both = (name, "real") in pools and (name, "fake") in pools
    if kind in ("real", "fake") and has_both:
        return float(np.sqrt(len(pools[name, "real"]) + len(pools[name, "fake"])))
    return float(np.sqrt(len(pools[key]))) / 2
