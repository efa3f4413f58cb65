"""Learning defocus maps step by step: what teacher and student have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgedf import typed_json
from edgedf.distill.distributed import World
from edgedf.distill.networks.running import batches_of, run
from edgedf.distill.optics.maps import PhysicalProfile, defocus_map
from edgedf.distill.records.batches import Batch, RecordBatches
from edgedf.distill.records.making import at_stride
from edgedf.distill.records.statistics import cached_statistics
from edgedf.distill.records.targets import Indices, Records
from edgedf.distill.training.losses import map_loss
from edgedf.progress import Progress, silent
from edgedf.spec import MAP_STRIDE

__all__ = ["Judged", "MapTask", "maps_of", "physical_maps"]

Maps = NDArray[np.float16]


class Judged(NamedTuple):
    """Records that maps are learned from or measured on.

    Args:
        records: Pictures with the wanted maps.
        beside: (n, h, w): another map of each that the network may look at; None for none.
    """

    records: Records
    beside: Maps | None = None

    def subset(self, indices: Indices) -> Judged:
        """Some of them, by their numbers."""
        beside = None if self.beside is None else self.beside[indices]
        return Judged(self.records.subset(indices), beside)


class MapTask:
    """The task: maps, and where asked for to keep inner features where they are.

    The network takes pictures, and the maps beside them where there are any, and gives its maps and
    a penalty for the drift of its features.

    Args:
        training: What is learned from.
        validation: What the score is taken on: the renderings among them, whose maps are exact, or
            all of them where there is none.
        size: Records a batch, over all processes.
        seed: Of everything random.
        features: Weight of the penalty.
        save: Writes the averaged network, the best so far, with its step.
    """

    def __init__(
        self,
        training: Judged,
        validation: Judged,
        *,
        size: int,
        seed: int,
        features: float,
        save: Callable[[Path, nn.Module, int], None],
    ) -> None:
        self.weights: Mapping[str, float] = {"map": 1.0, "features": features}
        self.batches = RecordBatches(training.records, size=size, seed=seed, beside=training.beside)
        exact = validation.records.rendered
        self._validation = validation.subset(exact) if len(exact) else validation
        self.save_best = save

    def losses(self, module: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Error of the maps, and drift of the features."""
        wanted, *beside = batch.maps.split(1, dim=1)
        predicted, drift = module(batch.images, *beside)
        return {"map": map_loss(predicted, wanted, count=batch.count), "features": drift}

    def evaluate(self, averaged: nn.Module, progress: Progress) -> dict[str, float]:
        """Error of the averaged network's maps, in pixels; the smaller, the better."""
        records, device = self._validation.records, next(averaged.parameters()).device
        maps = maps_of(
            lambda *batch: averaged(*batch)[0], self._validation, device=device, progress=progress
        )
        # NaN where the network has diverged: the loop says at which step.
        error = float(np.abs(maps - records.maps.astype(np.float64)).mean())
        return {"map error on validation": error, "score": -error}


def maps_of(
    predict: Callable[..., Tensor],
    judged: Judged,
    *,
    device: torch.device | None = None,
    progress: Progress = silent,
) -> NDArray[np.float32]:
    """A network's maps of records.

    Args:
        predict: (N, 3, H, W) in [0, 255], and (N, 1, h, w) where there are maps beside → (N, 1, h,
            w).
        judged: Pictures, and the maps beside them.
        device: Where the network is; None for the CPU.
        progress: Told about each batch.

    Returns:
        float32, (n, h, w).
    """
    batches = batches_of(judged.records.images, judged.beside, device=device)
    count = len(judged.records)
    (maps,) = run(predict, batches, count, step="maps", progress=progress)
    return np.asarray(maps[:, 0], np.float32)


def physical_maps(
    records: Records,
    cache: str | Path,
    *,
    world: World | None = None,
    progress: Progress = silent,
) -> Maps:
    """The physical map of each record; of renderings too, whose own maps are the exact ones.

    Args:
        records: Pictures.
        cache: Folder where those of renderings are kept.
        world: The processes that share the work.
        progress: Told how many are there.

    Returns:
        float16, (n, h, w), sigma in pixels at stride 4.

    Raises:
        OutputError: The cache cannot be written.
    """
    maps, exact = np.array(records.maps), records.rendered
    if len(exact):
        described = typed_json.encode(PhysicalProfile())
        values = cached_statistics(
            records.subset(exact),
            _physical,
            f"physical map {described}",
            cache,
            world=world,
            step="physical maps of renderings",
            progress=progress,
        )
        maps[exact] = values.reshape(len(exact), *maps.shape[1:])
    return maps


def _physical(images: Tensor, maps: Tensor) -> Tensor:
    pixels = images.permute(0, 2, 3, 1).to(torch.uint8).cpu().numpy()
    physical = [
        at_stride(defocus_map(np.ascontiguousarray(x), "physical"), MAP_STRIDE) for x in pixels
    ]
    return torch.from_numpy(np.stack(physical)).flatten(1)
