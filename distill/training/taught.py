"""What a teacher passes on: verdicts and maps of records, computed once and kept in the cache."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from edgedf.distill.distributed import World
from edgedf.distill.networks.teacher import Branch, Teacher
from edgedf.distill.records.statistics import cached_statistics
from edgedf.distill.records.targets import Records
from edgedf.distill.settings import TeacherConfig
from edgedf.progress import Progress, silent

__all__ = ["judged_by", "statistics_of_branch", "with_taught_maps"]


def judged_by(
    teacher: Teacher, records: Records, cache: str | Path, progress: Progress = silent
) -> NDArray[np.float64]:
    """A teacher's logits for records.

    What its branches see is kept in the cache, keyed by the pictures and the branch, so nothing is
    looked at twice, and another teacher's verdicts cannot be mistaken for this one's.

    Args:
        teacher: On the CPU.
        records: Pictures and maps.
        cache: Folder of the shards.
        progress: Told how many records are there.

    Returns:
        float64, (n,).

    Raises:
        OutputError: The cache cannot be written.
    """
    seen = [
        torch.from_numpy(statistics.astype(np.float32))
        for statistics in (
            statistics_of_branch(branch, teacher.config, records, cache, progress=progress)
            for branch in teacher.each()
        )
    ]
    return np.asarray(teacher.fuse(seen).fake_logit.double().numpy())


def statistics_of_branch(
    branch: Branch,
    config: TeacherConfig,
    records: Records,
    cache: str | Path,
    *,
    world: World | None = None,
    progress: Progress = silent,
) -> NDArray[np.float16]:
    """What a branch judges records by, computed once and kept in the cache.

    Args:
        branch: With ImageNet's weights.
        config: Of its teacher.
        records: Pictures and maps.
        cache: Folder of the shards.
        world: The processes that share the work; None for this one alone.
        progress: Told how many records are there.

    Returns:
        float16, (n, features).

    Raises:
        OutputError: The cache cannot be written.
    """
    # The layout decides how sums are rounded: the same one whoever asks.
    branch.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    architecture = (config.backbone, config.first_block, config.last_block)
    return cached_statistics(
        records,
        branch.statistics,
        json.dumps(["branch", branch.modality, *architecture]),
        cache,
        world=world,
        step=f"{branch.modality} statistics",
        progress=progress,
    )


def with_taught_maps(
    teacher: Teacher,
    sha256: str,
    records: Records,
    cache: str | Path,
    *,
    world: World | None = None,
    progress: Progress = silent,
) -> Records:
    """Records with a teacher's maps in the place of the physical ones; exact ones stay.

    Args:
        teacher: On the world's device.
        sha256: Of what the teacher judges by, so that another one's maps are not mistaken for its.
        records: Pictures with physical maps, renderings with exact ones.
        cache: Folder of the shards.
        world: The processes that share the work.
        progress: Told how many maps are there.

    Returns:
        The same records where the teacher has no map head.

    Raises:
        OutputError: The cache cannot be written.
    """
    if teacher.map_head is None:
        return records
    others = np.flatnonzero(records.kinds != "rendered")
    if not len(others):
        return records
    values = cached_statistics(
        records.subset(others),
        lambda images, maps: teacher.defocus_map(images, maps).flatten(1),
        f"map of the teacher {sha256}",
        cache,
        world=world,
        step="the teacher's maps",
        progress=progress,
    )
    maps = np.array(records.maps)
    maps[others] = values.reshape(len(others), *maps.shape[1:])
    return replace(records, maps=maps)
