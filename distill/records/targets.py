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
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from edgedf.distill.datasets.dataset import Sample
from edgedf.distill.fakes import (
    ALIGNED_FACE_CENTRE,
    ALIGNED_FACE_EXTENT,
    blob_mask,
    self_blend,
)
from edgedf.distill.fakes.portrait import portrait
from edgedf.distill.optics.batch import worker_pool
from edgedf.distill.optics.maps import PhysicalProfile, defocus_map
from edgedf.distill.optics.render import (
    add_camera_noise,
    random_depth,
    random_lens,
    render,
)
from edgedf.distill.records.augment import random_square
from edgedf.errors import ConfigError, DataError, EdgedfError, ImageError
from edgedf.evaluation import Skipped, check_skipped
from edgedf.files import sha256_of, write_bytes
from edgedf.imaging import RGBImage, load_image, prepare
from edgedf.progress import Progress, silent
from edgedf.spec import MAP_STRIDE

__all__ = [
    "FACE_SETS",
    "SHARP_SETS",
    "Job",
    "Records",
    "TargetSettings",
    "at_stride",
    "compute",
    "evaluation_plan",
    "plan",
]

Kind = Literal["whole", "crop", "self_blend", "portrait", "rendered"]

# Sets that the manifests known so far use for aligned faces and for all-in-focus photographs.
FACE_SETS = ("faces256",)
SHARP_SETS = ("sharp",)

SHARD = 64
# Raise when the meaning of a record or the layout of a shard changes.
_VERSION = 2
_METADATA_KEY = "edgedf"


@dataclass(frozen=True)
class TargetSettings:
    """How records are made.

    Args:
        size: Side of the picture in pixels.
        stride: Picture pixels per map pixel.
        profile: Of the physical map.
        seed: Of everything random.
    """

    size: int = 256
    stride: int = MAP_STRIDE
    profile: PhysicalProfile = field(default_factory=PhysicalProfile)
    seed: int = 0


@dataclass(frozen=True)
class Job:
    """What one record is made of.

    Args:
        sample: The picture.
        kind: ``whole``: as the app prepares it. ``crop``: a random square. ``self_blend``: a face
            swapped with itself, so the record is fake. ``portrait``: a real photograph with its
            background blurred as phones do it, which stays real. ``rendered``: synthetic depth of
            field with the exact map; it has no label.
        variant: Number of the random variant.
    """

    sample: Sample
    kind: Kind
    variant: int = 0

    @property
    def label(self) -> float:
        """1.0 for fake, 0.0 for real, NaN where neither is meant."""
        if self.kind == "rendered":
            return float("nan")
        return float(self.kind == "self_blend" or self.sample.label == "fake")


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

    def subset(self, indices: NDArray[np.integer]) -> Records:
        """Some of the records, by their numbers, in that order; skipped pictures are not told."""
        jobs = tuple(self.jobs[index] for index in indices)
        return Records(jobs, self.images[indices], self.maps[indices], self.labels[indices])


def plan(
    samples: Sequence[Sample],
    *,
    crops: int,
    renderings: int,
    face_sets: Sequence[str],
    sharp_sets: Sequence[str],
    self_blends: int,
    portraits: int,
) -> tuple[Job, ...]:
    """Which records to make of some pictures.

    Args:
        samples: The pictures.
        crops: Random squares a picture.
        renderings: Synthetic depths of field a sharp picture; these get nothing else.
        face_sets: Sets of aligned faces, whose real pictures are blended with themselves.
        sharp_sets: Sets of pictures that are sharp everywhere.
        self_blends: Self-blends a real face.
        portraits: Portrait-mode copies a real photograph of a set that has no fakes.

    Raises:
        ConfigError: A negative number.
    """
    if min(crops, renderings, self_blends, portraits) < 0:
        raise ConfigError(
            "A number of records is negative.", expected="0 or more", next_step="0 leaves them out"
        )
    with_fakes = {sample.set for sample in samples if sample.label == "fake"}
    jobs: list[Job] = []
    for sample in samples:
        if sample.set in sharp_sets:
            jobs += [Job(sample, "rendered", variant) for variant in range(renderings)]
            continue
        jobs.append(Job(sample, "whole"))
        jobs += [Job(sample, "crop", variant) for variant in range(crops)]
        if sample.set in face_sets and sample.label == "real":
            jobs += [Job(sample, "self_blend", variant) for variant in range(self_blends)]
        if sample.set not in with_fakes:
            jobs += [Job(sample, "portrait", variant) for variant in range(portraits)]
    return tuple(jobs)


def evaluation_plan(
    samples: Sequence[Sample],
    *,
    face_sets: Sequence[str] = FACE_SETS,
    sharp_sets: Sequence[str] = SHARP_SETS,
) -> tuple[Job, ...]:
    """What validation and test look at: whole pictures and one of everything made from them.

    Args:
        samples: The pictures.
        face_sets: As for :func:`plan`.
        sharp_sets: As for :func:`plan`.
    """
    return plan(
        samples,
        crops=0,
        renderings=1,
        self_blends=1,
        portraits=1,
        face_sets=face_sets,
        sharp_sets=sharp_sets,
    )


def compute(
    jobs: Sequence[Job],
    folder: str | Path,
    settings: TargetSettings | None = None,
    *,
    workers: int = 1,
    rank: int = 0,
    ranks: int = 1,
    barrier: Callable[[], object] = lambda: None,
    progress: Progress = silent,
) -> Records:
    """Compute records, or read those that are there already.

    Args:
        jobs: What to compute.
        folder: Where the shards are kept; safe to delete. Ranks on several machines need one that
            all of them see.
        settings: How.
        workers: Processes.
        rank: Number of this one among the programs that share the work, from 0: it computes the
            shards whose number modulo ``ranks`` is this, and reads all.
        ranks: Number of programs that share the work.
        barrier: Returns once all ranks have called it.
        progress: Told how many records are there.

    Returns:
        All records, in memory.

    Raises:
        DataError: There is nothing to compute, more than 5 % of the pictures cannot be read, or
            another rank's shard is not there.
        OutputError: The folder cannot be written.
    """
    if not jobs:
        raise DataError(
            "There is no picture to work on.",
            expected="at least one",
            next_step="check the manifest's split and set columns",
        )
    work = _Work(jobs, Path(folder), settings or TargetSettings(), progress)
    waiting = work.missing(range(len(work.shards)))
    _compute_all(work, [index for index in waiting if index % ranks == rank], workers)
    barrier()
    absent = work.missing(index for index in waiting if index % ranks != rank)
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
        content = _read(path, len(shard), self.settings)
        if content is None:
            return False
        start = index * SHARD
        good = [position for position in range(len(shard)) if position not in content.skipped]
        where = np.array(good, int) + start
        self._images[where], self._maps[where] = content.images, content.maps
        self._kept[where] = True
        for position, reason in content.skipped.items():
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
            pool.submit(_compute_shard, work.shards[index], work.paths[index], work.settings): index
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


@dataclass(frozen=True, eq=False)
class _Shard:
    """Content of a shard: the records that could be made, and why the others could not."""

    images: NDArray[np.uint8]
    maps: NDArray[np.float16]
    skipped: Mapping[int, str]


def _read(path: Path, jobs: int, settings: TargetSettings) -> _Shard | None:
    """The shard, or None when it is missing, cut off or damaged."""
    try:
        with safetensors.safe_open(str(path), framework="np") as file:
            described = json.loads((file.metadata() or {})[_METADATA_KEY])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        skipped = {int(position): str(why) for position, why in described["skipped"].items()}
        if described["sha256"] != _checksum(arrays, skipped):
            return None
    except (
        OSError,
        SafetensorError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        RecursionError,
    ):
        return None
    small, records = settings.size // settings.stride, jobs - len(skipped)
    expected = {
        "images": ((records, settings.size, settings.size, 3), np.uint8),
        "maps": ((records, small, small), np.float16),
    }
    if {name: (array.shape, array.dtype.type) for name, array in arrays.items()} != expected:
        return None
    return _Shard(arrays["images"], arrays["maps"], skipped)


def _checksum(arrays: Mapping[str, NDArray[Any]], skipped: Mapping[int, str]) -> str:
    digest = hashlib.sha256(json.dumps(skipped).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()


def _compute_shard(jobs: Sequence[Job], path: Path, settings: TargetSettings) -> None:
    side, small = settings.size, settings.size // settings.stride
    pairs: list[tuple[RGBImage, NDArray[np.float16]]] = []
    skipped: dict[int, str] = {}
    for position, job in enumerate(jobs):
        try:
            photograph = load_image(job.sample.path)
        except ImageError as error:
            skipped[position] = error.message
            continue
        pairs.append(_record(job, photograph, settings))
    arrays: dict[str, NDArray[Any]] = {
        "images": np.array([image for image, _ in pairs], np.uint8).reshape(-1, side, side, 3),
        "maps": np.array([dense for _, dense in pairs], np.float16).reshape(-1, small, small),
    }
    # One entry: safetensors writes several in any order, and the same records give the same file.
    described = json.dumps({"skipped": skipped, "sha256": _checksum(arrays, skipped)})
    write_bytes(path, safetensors.numpy.save(arrays, {_METADATA_KEY: described}))


def _record(
    job: Job, photograph: RGBImage, settings: TargetSettings
) -> tuple[RGBImage, NDArray[np.float16]]:
    rng = _rng(job, settings.seed)
    try:
        if job.kind == "crop":
            image = random_square(photograph, settings.size, rng)
        else:
            image = prepare(photograph, settings.size)
        if job.kind == "rendered":
            image, dense = _rendered(image, rng)
            return image, at_stride(dense, settings.stride)
        if job.kind == "self_blend":
            mask = blob_mask(
                image.shape[0],
                image.shape[1],
                rng,
                centre=ALIGNED_FACE_CENTRE,
                extent=ALIGNED_FACE_EXTENT,
            )
            image = self_blend(image, mask, rng)
        if job.kind == "portrait":
            image, _ = portrait(image, rng)
        return image, at_stride(defocus_map(image, settings.profile), settings.stride)
    except EdgedfError as error:
        raise DataError(
            f"{job.sample.path}: {error.message}",
            expected=error.expected,
            next_step="replace the file, or take its line out of the manifest",
        ) from error


def _rng(job: Job, seed: int) -> np.random.Generator:
    # Not hash(), which Python salts anew in every process.
    text = f"{seed} {job.sample.path.name} {job.kind} {job.variant}"
    return np.random.default_rng(list(hashlib.sha256(text.encode()).digest()[:16]))


def _rendered(image: RGBImage, rng: np.random.Generator) -> tuple[RGBImage, NDArray[np.float32]]:
    height, width = image.shape[:2]
    depth = random_depth(height, width, rng)
    rendering = render(image, depth, random_lens(depth, rng))
    quality = int(rng.integers(75, 98))
    noisy = add_camera_noise(rendering.image, rng, noise=rng.uniform(0, 3), jpeg_quality=quality)
    return noisy, rendering.defocus_map


def at_stride(dense: NDArray[np.float32], stride: int) -> NDArray[np.float16]:
    """A map averaged over squares of pixels.

    Args:
        dense: (H, W), sigma in pixels.
        stride: Side of the squares.

    Returns:
        float16, (H / stride, W / stride), still in pixels of the picture.
    """
    size = dense.shape[1] // stride, dense.shape[0] // stride
    return np.asarray(cv2.resize(dense, size, interpolation=cv2.INTER_AREA), np.float16)
