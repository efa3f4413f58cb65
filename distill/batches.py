"""Which records a step of training sees.

A batch depends on the seed and the step's number alone, so a run that goes on after a kill sees
what it would have seen.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from edgedf.distill.augment import change
from edgedf.distill.targets import Records

__all__ = ["Batch", "Batches"]

# Share of each batch that has a map only.
_RENDERED_SHARE = 0.12


@dataclass(frozen=True, eq=False)
class Batch:
    """Input and targets of a step.

    Args:
        images: float32, (N, 3, size, size) in [0, 255], channels last in memory.
        maps: float32, (N, 1, size / 4, size / 4), sigma in pixels.
        labels: float32, (N,): 1 fake, 0 real, NaN neither.
    """

    images: Tensor
    maps: Tensor
    labels: Tensor


class Batches:
    """Draws batches from records.

    Each set counts by the square root of its size, so that a large one does not drown the others.
    Within a set with both classes they are drawn equally often, whatever the set holds; real
    pictures of sets without fakes and self-blends, which have no counterpart, count half.

    Args:
        records: Records of the training split.
        size: Records a batch.
        seed: Of everything random.
    """

    def __init__(self, records: Records, *, size: int, seed: int) -> None:
        self._records, self._size, self._seed = records, size, seed
        pools: dict[tuple[str, str], list[int]] = defaultdict(list)
        for index, job in enumerate(records.jobs):
            kind = job.kind if job.kind in ("self_blend", "rendered") else job.sample.label
            pools[job.sample.set, kind].append(index)
        self._pools = [np.array(members) for members in pools.values()]
        weights = np.array([_weight(key, pools) for key in pools])
        rendered = np.array([kind == "rendered" for _, kind in pools])
        if rendered.any() and not rendered.all():
            weights[rendered] *= _RENDERED_SHARE / weights[rendered].sum()
            weights[~rendered] *= (1 - _RENDERED_SHARE) / weights[~rendered].sum()
        self._weights = weights / weights.sum()

    def __getitem__(self, step: int) -> Batch:
        rng = np.random.default_rng([self._seed, step])
        chosen = rng.choice(len(self._pools), size=self._size, p=self._weights)
        images, maps, labels = [], [], []
        for pool in chosen:
            index = int(rng.choice(self._pools[pool]))
            record = self._records
            image, dense = change(record.images[index], record.maps[index].astype(np.float32), rng)
            images.append(image)
            maps.append(dense)
            labels.append(record.labels[index])
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()
        return Batch(
            pixels.contiguous(memory_format=torch.channels_last),
            torch.from_numpy(np.stack(maps))[:, None],
            torch.tensor(np.array(labels, np.float32)),
        )


def _weight(key: tuple[str, str], pools: dict[tuple[str, str], list[int]]) -> float:
    name, kind = key
    has_both = (name, "real") in pools and (name, "fake") in pools
    if kind in ("real", "fake") and has_both:
        return float(np.sqrt(len(pools[name, "real"]) + len(pools[name, "fake"])))
    return float(np.sqrt(len(pools[key]))) / 2
