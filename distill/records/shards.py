"""Shards: arrays on disk with a hash of their content, which is checked when they are read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from edgedf.files import write_bytes

__all__ = ["read_shard", "write_shard"]

_METADATA_KEY = "edgedf"

Arrays = Mapping[str, NDArray[Any]]


def write_shard(path: Path, arrays: Arrays, skipped: Mapping[int, str] | None = None) -> None:
    """Write a shard, whole or not at all; the same content gives the same bytes.

    Args:
        path: Where to.
        arrays: By name.
        skipped: Why records are missing, by their positions.

    Raises:
        OutputError: The file cannot be written.
    """
    skipped = skipped or {}
    # One entry, as safetensors writes several in any order.
    described = json.dumps({"skipped": skipped, "sha256": _checksum(arrays, skipped)})
    write_bytes(path, safetensors.numpy.save(dict(arrays), {_METADATA_KEY: described}))


def read_shard(path: Path) -> tuple[dict[str, NDArray[Any]], dict[int, str]] | None:
    """Arrays and skipped records of a shard; None where it is missing, cut off or damaged."""
    try:
        with safetensors.safe_open(str(path), framework="np") as file:
            described = json.loads((file.metadata() or {})[_METADATA_KEY])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        skipped = {int(position): str(why) for position, why in described["skipped"].items()}
        is_intact = described["sha256"] == _checksum(arrays, skipped)
    except (
        OSError,
        safetensors.SafetensorError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        RecursionError,
    ):
        return None
    return (arrays, skipped) if is_intact else None


def _checksum(arrays: Arrays, skipped: Mapping[int, str]) -> str:
    digest = hashlib.sha256(json.dumps(skipped).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()
