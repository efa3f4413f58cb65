"""What frozen branches see in records, computed once and kept on disk.

A shard's name is the hash of the pictures, the maps and the branch, so a run that is killed goes
on where it was, and another picture or another branch makes another shard.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from edgedf.distill.distributed import World
from edgedf.distill.networks.running import batches_of, run
from edgedf.distill.records.shards import read_shard, write_shard
from edgedf.distill.records.targets import Records
from edgedf.progress import Progress, silent

__all__ = ["cached_statistics"]

SHARD = 256
_BATCH = 32
# Raise when what a branch computes changes.
_VERSION = 1


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
    starts = range(0, len(records), SHARD)
    parts: dict[int, NDArray[np.float16]] = {}

    def take(start: int) -> None:
        images = records.images[start : start + SHARD]
        maps = records.maps[start : start + SHARD]
        path = Path(folder) / f"statistics-{_key(images, maps, described)}.safetensors"
        values = _read(path, len(images))
        if values is None:
            batches = batches_of(images, maps, size=_BATCH, device=world.device)
            (values,) = run(lambda *batch: compute(*batch).half(), batches, len(images))
            write_shard(path, {"values": values})
        parts[start] = values
        progress(step, sum(map(len, parts.values())), len(records))

    for start in starts[world.rank :: world.size]:
        take(start)
    world.barrier()
    for start in starts:
        if start not in parts:
            take(start)
    return np.concatenate([parts[start] for start in starts])


def _key(images: NDArray[np.uint8], maps: NDArray[np.float16], described: str) -> str:
    digest = hashlib.sha256(json.dumps([_VERSION, described, images.shape]).encode())
    digest.update(np.ascontiguousarray(images).data)
    digest.update(np.ascontiguousarray(maps).data)
    return digest.hexdigest()[:32]


def _read(path: Path, records: int) -> NDArray[np.float16] | None:
    arrays, _ = read_shard(path) or ({}, {})
    values = arrays.get("values")
    if values is None or values.dtype != np.float16 or values.ndim != 2 or len(values) != records:
        return None
    return values
