"""Training pictures with their defocus maps, computed once and kept on disk.

A *job* says what one record is made of: a file, and what is done to it. Records are computed in
shards by several processes, on one machine or, each its share, on several. A shard's name is a hash
of all that goes into it (the files' content included), so a killed run goes on where it stopped,
and a changed picture or setting makes a new shard instead of a stale one. A shard carries a hash of
its own content, which is checked whenever it is read. Pictures that cannot be read are left out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgedf.distill.distributed import World
from edgedf.distill.optics.batch import worker_pool
from edgedf.distill.records.making import TargetSettings, compute_shard
from edgedf.distill.records.plan import Job
from edgedf.distill.records.shards import read_shard
from edgedf.errors import DataError
from edgedf.evaluation import Skipped, check_skipped
from edgedf.files import sha256_of
from edgedf.progress import Progress, silent

__all__ = ["Indices", "Records", "compute"]

SHARD = 64
# Raise when the meaning of a record or the layout of a shard changes.
_VERSION = 2

Indices = NDArray[np.intp]
"""Numbers of some records."""


@dataclass(frozen=True, eq=False)
class Records:
    """Everything computed, in the order of the jobs.

    Args:
        jobs: What each record is; those of pictures that cannot be read are not among them.
        images: uint8 RGB, (n, size, size, 3).
        maps: float16, (n, size / stride, size / stride): sigma in pixels of the picture.
        labels: float32, (n,): 1 fake, 0 real, NaN for neither.
        skipped: Pictures that could not be read, each once.
    """

    jobs: tuple[Job, ...]
    images: NDArray[np.uint8]
    maps: NDArray[np.float16]
    labels: NDArray[np.float32]
    skipped: tuple[Skipped, ...] = ()

    def __len__(self) -> int:
        return len(self.jobs)

    @property
    def kinds(self) -> NDArray[np.str_]:
        """(n,): the kind of each job."""
        return np.array([job.kind for job in self.jobs], np.str_)

    @property
    def sets(self) -> NDArray[np.str_]:
        """(n,): the set that each picture is of."""
        return np.array([job.sample.set for job in self.jobs], np.str_)

    @property
    def groups(self) -> NDArray[np.object_]:
        """(n,): the group of each picture."""
        return np.array([job.sample.group for job in self.jobs], dtype=object)

    @property
    def labelled(self) -> Indices:
        """Numbers of the records that are known to be real or fake."""
        return np.flatnonzero(~np.isnan(self.labels))

    @property
    def rendered(self) -> Indices:
        """Numbers of those whose depth of field is synthetic, so that their maps are exact."""
        return np.flatnonzero(self.kinds == "rendered")

    @property
    def domains(self) -> NDArray[np.str_]:
        """(n,): source and kind of each record, which the fits of verdicts balance."""
        return np.array([f"{job.sample.source} {job.kind}" for job in self.jobs], np.str_)

    def subset(self, indices: NDArray[np.integer]) -> Records:
        """Some of the records, by their numbers, in that order; skipped pictures are not told."""
        jobs = tuple(self.jobs[index] for index in indices)
        return Records(jobs, self.images[indices], self.maps[indices], self.labels[indices])


def compute(
    jobs: Sequence[Job],
    folder: str | Path,
    settings: TargetSettings | None = None,
    *,
    workers: int = 1,
    world: World | None = None,
    progress: Progress = silent,
) -> Records:
    """Compute records, or read those that are there already.

    Args:
        jobs: What to compute.
        folder: Where the shards are kept; safe to delete. Processes on several machines need one
            that all of them see.
        settings: How.
        workers: Processes that compute maps.
        world: The processes that share the work, each its shards; each reads all. None for this
            one alone.
        progress: Told how many records are there.

    Returns:
        All records, in memory.

    Raises:
        DataError: There is nothing to compute, more than 5 % of the pictures cannot be read, or
            another process's shard is not there.
        OutputError: The folder cannot be written.
    """
    if not jobs:
        raise DataError(
            "There is no picture to work on.",
            expected="at least one",
            next_step="check the manifest's split and set columns",
        )
    world = world or World()
    work = _Work(jobs, Path(folder), settings or TargetSettings(), progress)
    waiting = work.missing(range(len(work.shards)))
    own = [index for index in waiting if index % world.size == world.rank]
    _compute_all(work, own, workers)
    world.barrier()
    absent = work.missing(sorted(set(waiting) - set(own)))
    if absent:
        raise DataError(
            f"{len(absent)} shards that other processes computed are not in {folder}, such as "
            f"{work.paths[absent[0]].name}.",
            expected="a folder that the processes on all machines share",
            next_step="name one with --cache, then run it again",
        )
    return work.records()


class _Work:
    """The shards of some jobs, and what has been read of them so far."""

    def __init__(
        self, jobs: Sequence[Job], folder: Path, settings: TargetSettings, progress: Progress
    ) -> None:
        hashes = _content_hashes(jobs)
        self.settings, self._progress = settings, progress
        self._jobs, self._pictures = tuple(jobs), len(hashes)
        self._skipped: dict[str, str] = {}
        self.shards = [
            self._jobs[start : start + SHARD] for start in range(0, len(self._jobs), SHARD)
        ]
        self.paths = [
            folder / f"{_shard_name(shard, hashes, settings)}.safetensors" for shard in self.shards
        ]
        side, small = settings.size, settings.size // settings.stride
        self._images = np.empty((len(jobs), side, side, 3), np.uint8)
        self._maps = np.empty((len(jobs), small, small), np.float16)
        self._kept = np.zeros(len(jobs), bool)
        self._done = 0

    def missing(self, indices: Iterable[int]) -> list[int]:
        """Read these shards and say which of them are not there or damaged."""
        return [index for index in indices if not self.take(index)]

    def take(self, index: int) -> bool:
        """Read a shard, if it can be."""
        shard, path = self.shards[index], self.paths[index]
        arrays, skipped = read_shard(path) or ({}, {})
        good = [position for position in range(len(shard)) if position not in skipped]
        where = np.array(good, int) + index * SHARD
        expected = {
            "images": ((len(good), *self._images.shape[1:]), np.uint8),
            "maps": ((len(good), *self._maps.shape[1:]), np.float16),
        }
        if {name: (array.shape, array.dtype) for name, array in arrays.items()} != expected:
            return False
        self._images[where], self._maps[where] = arrays["images"], arrays["maps"]
        self._kept[where] = True
        for position, reason in skipped.items():
            self._skipped[str(shard[position].sample.path)] = reason
        # Now rather than at the end: the rest of the maps may take hours.
        check_skipped(self._listed(), self._pictures)
        self._done += len(shard)
        self._progress("defocus maps", self._done, len(self._jobs))
        return True

    def records(self) -> Records:
        """All that has been read."""
        jobs, images, maps = self._jobs, self._images, self._maps
        if not self._kept.all():
            jobs = tuple(job for job, kept in zip(jobs, self._kept, strict=True) if kept)
            images, maps = images[self._kept], maps[self._kept]
        labels = np.array([job.label for job in jobs], np.float32)
        return Records(jobs, images, maps, labels, self._listed())

    def _listed(self) -> tuple[Skipped, ...]:
        return tuple(Skipped(*entry) for entry in sorted(self._skipped.items()))


def _compute_all(work: _Work, waiting: Sequence[int], workers: int) -> None:
    if not waiting:
        return
    with worker_pool(max(1, workers)) as pool:
        tasks = {
            pool.submit(compute_shard, work.shards[index], work.paths[index], work.settings): index
            for index in waiting
        }
        try:
            for task in as_completed(tasks):
                task.result()
                if not work.take(tasks[task]):
                    raise DataError(
                        f"{work.paths[tasks[task]]} was written and cannot be read back.",
                        next_step="check the disk, then run it again",
                    )
        except BrokenProcessPool as error:
            raise DataError(
                "A worker that computes defocus maps died.",
                expected="enough memory for every worker",
                next_step="run it again, with fewer workers; what is done is kept",
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _content_hashes(jobs: Sequence[Job]) -> dict[Path, str]:
    hashes: dict[Path, str] = {}
    for path in {job.sample.path for job in jobs}:
        try:
            hashes[path] = sha256_of(path)
        except OSError:  # whoever loads it will say why it cannot be read
            hashes[path] = ""
    return hashes


def _shard_name(shard: Sequence[Job], hashes: Mapping[Path, str], settings: TargetSettings) -> str:
    content = [
        [hashes[job.sample.path], job.sample.path.name, job.kind, job.variant] for job in shard
    ]
    text = json.dumps([_VERSION, asdict(settings), content], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
