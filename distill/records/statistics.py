"""What frozen branches see in records, computed once and kept on disk.

A shard's name is the hash of the pictures, the maps and the branch, so a run that is killed goes
on where it was, and another picture or another branch makes another shard. Shards carry a hash of
their content, which is checked when they are read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors
import safetensors.numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgedf.distill.distributed import World
from edgedf.distill.records.targets import Records
from edgedf.files import write_bytes
from edgedf.progress import Progress, silent

__all__ = ["cached_statistics"]

SHARD = 256
_BATCH = 32
# Raise when what a branch computes changes.
_VERSION = 1
_CHECKSUM = "sha256"


def cached_statistics(
    records: Records,
    compute: Callable[[Tensor, Tensor], Tensor],
    described: str,
    folder: str | Path,
    *,
    world: World | None = None,
    step: str = "statistics",
    progress: Progress = silent,
) -> NDArray[np.float16]:
    """Statistics of all records, from disk where they are there.

    Args:
        records: Pictures and maps.
        compute: (N, 3, H, W) in [0, 255] and (N, 1, h, w) in pixels → (N, features).
        described: Says all that ``compute`` depends on besides its arguments.
        folder: Where the shards are kept; safe to delete. Processes on several machines need one
            that all of them see.
        world: The processes that share the work, each its shards; None for this one alone. Their
            device is where ``compute`` wants its arguments.
        step: Name of the step for ``progress``.
        progress: Told how many records are there.

    Returns:
        float16, (n, features).

    Raises:
        OutputError: The folder cannot be written.
    """
    world = world or World()
    shards = list(_shards(records, described, Path(folder)))
    found: dict[int, NDArray[np.float16]] = {}

    def take(index: int) -> None:
        shard = shards[index]
        values = _read(shard.path, len(shard.images))
        if values is None:
            values = _computed(shard, compute, world.device)
            checksum = hashlib.sha256(values.tobytes()).hexdigest()
            data = safetensors.numpy.save({"values": values}, {_CHECKSUM: checksum})
            write_bytes(shard.path, data)
        found[index] = values
        done = sum(len(part) for part in found.values())
        progress(step, done, len(records))

    for index in range(world.rank, len(shards), world.size):
        take(index)
    world.barrier()
    for index in range(len(shards)):
        if index not in found:
            take(index)
    return np.concatenate([found[index] for index in range(len(shards))])


class _Shard(NamedTuple):
    images: NDArray[np.uint8]
    maps: NDArray[np.float16]
    path: Path


def _shards(records: Records, described: str, folder: Path) -> Iterator[_Shard]:
    for start in range(0, len(records), SHARD):
        images = records.images[start : start + SHARD]
        maps = records.maps[start : start + SHARD]
        name = _name(images, maps, described)
        yield _Shard(images, maps, folder / f"statistics-{name}.safetensors")


def _computed(
    shard: _Shard, compute: Callable[[Tensor, Tensor], Tensor], device: torch.device
) -> NDArray[np.float16]:
    found = []
    with torch.inference_mode():
        for at in range(0, len(shard.images), _BATCH):
            images = torch.from_numpy(shard.images[at : at + _BATCH]).to(device)
            maps = torch.from_numpy(shard.maps[at : at + _BATCH].astype(np.float32)).to(device)
            pixels = images.permute(0, 3, 1, 2).float()
            values = compute(pixels.contiguous(memory_format=torch.channels_last), maps[:, None])
            found.append(values.to(torch.float16).cpu().numpy())
    return np.concatenate(found)


def _name(images: NDArray[np.uint8], maps: NDArray[np.float16], described: str) -> str:
    digest = hashlib.sha256(json.dumps([_VERSION, described, images.shape]).encode())
    digest.update(np.ascontiguousarray(images).data)
    digest.update(np.ascontiguousarray(maps).data)
    return digest.hexdigest()[:32]


def _read(path: Path, records: int) -> NDArray[np.float16] | None:
    """The shard, or None when it is missing, cut off or damaged."""
    try:
        with safetensors.safe_open(str(path), framework="np") as file:
            checksum = (file.metadata() or {})[_CHECKSUM]
            values = file.get_tensor("values")
    except (OSError, safetensors.SafetensorError, KeyError):
        return None
    if values.dtype != np.float16 or values.ndim != 2 or len(values) != records:
        return None
    if hashlib.sha256(values.tobytes()).hexdigest() != checksum:
        return None
    return np.asarray(values)
