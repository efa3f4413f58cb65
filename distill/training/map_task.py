"""Learning defocus maps step by step: what teacher and student have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgedf import typed_json
from edgedf.distill.distributed import World
from edgedf.distill.optics.maps import PhysicalProfile, defocus_map
from edgedf.distill.records.batches import Batch, Batches
from edgedf.distill.records.statistics import cached_statistics
from edgedf.distill.records.targets import Records, at_stride
from edgedf.distill.training.losses import map_loss
from edgedf.progress import Progress, silent
from edgedf.spec import MAP_STRIDE

__all__ = ["Judged", "MapTask", "maps_of", "physical_maps", "rendered"]

_BATCH = 32

Maps = NDArray[np.float16]


class Judged(NamedTuple):
    """Records that maps are learned from or measured on.

    Args:
        records: Pictures with the wanted maps.
        beside: (n, h, w): another map of each that the network may look at; None for none.
    """

    records: Records
    beside: Maps | None = None


class MapTask:
    """The task: maps, and where asked for to keep inner features where they are.

    The network takes pictures and the maps beside them (None where there are none), and gives its
    maps and a penalty for how far its features have moved.

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
        self._batches = Batches(training.records, size=size, seed=seed, beside=training.beside)
        exact = rendered(validation.records)
        self._validation = _chosen(validation, exact) if len(exact) else validation
        self.save_best = save

    def batch(self, step: int, rank: int, ranks: int) -> Batch:
        """One process's slice of a step's batch."""
        return self._batches.part(step, rank, ranks)

    def files(self, step: int, ranks: int) -> Sequence[str]:
        """The pictures of a step's whole batch."""
        return self._batches.files(step)

    def losses(self, module: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Error of the maps, and how far the features have moved."""
        found, moved = module(batch.images, batch.beside)
        return {"map": map_loss(found, batch.maps, count=batch.count), "features": moved}

    def evaluate(self, averaged: nn.Module, progress: Progress) -> dict[str, float]:
        """Error of the averaged network's maps, in pixels; the smaller, the better."""
        records, device = self._validation.records, next(averaged.parameters()).device
        found = maps_of(
            lambda x, y: averaged(x, y)[0], self._validation, device=device, progress=progress
        )
        # NaN where the network has diverged: the loop says at which step.
        error = float(np.abs(found - records.maps.astype(np.float64)).mean())
        return {"map error on validation": error, "score": -error}


def maps_of(
    predict: Callable[[Tensor, Tensor | None], Tensor],
    judged: Judged,
    *,
    device: torch.device | None = None,
    progress: Progress = silent,
) -> NDArray[np.float32]:
    """What a network makes of records, batch by batch.

    Args:
        predict: (N, 3, H, W) in [0, 255] and (N, 1, h, w) or None → (N, 1, h, w).
        judged: Pictures, and the maps beside them.
        device: Where the network is; None for the CPU.
        progress: Told about each batch.

    Returns:
        float32, (n, h, w).
    """
    images, beside = judged.records.images, judged.beside
    device, found = device or torch.device("cpu"), []
    with torch.inference_mode():
        for at in range(0, len(images), _BATCH):
            pixels = torch.from_numpy(images[at : at + _BATCH]).permute(0, 3, 1, 2).float()
            seen = None
            if beside is not None:
                part = beside[at : at + _BATCH].astype(np.float32)
                seen = torch.from_numpy(part)[:, None].to(device)
            pixels = pixels.contiguous(memory_format=torch.channels_last).to(device)
            found.append(predict(pixels, seen)[:, 0].float().cpu().numpy())
            progress("maps", min(at + _BATCH, len(images)), len(images))
    return np.concatenate(found)


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
    found, exact = np.array(records.maps), rendered(records)
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
        found[exact] = values.reshape(len(exact), *found.shape[1:])
    return found


def rendered(records: Records) -> NDArray[np.intp]:
    """Numbers of the records whose depth of field is synthetic, so that their maps are exact."""
    return np.flatnonzero([job.kind == "rendered" for job in records.jobs])


def _chosen(judged: Judged, indices: NDArray[np.intp]) -> Judged:
    beside = None if judged.beside is None else judged.beside[indices]
    return Judged(judged.records.subset(indices), beside)


def _physical(images: Tensor, maps: Tensor) -> Tensor:
    pixels = images.permute(0, 2, 3, 1).to(torch.uint8).cpu().numpy()
    found = [
        at_stride(defocus_map(np.ascontiguousarray(x), "physical"), MAP_STRIDE) for x in pixels
    ]
    return torch.from_numpy(np.stack(found)).flatten(1)
