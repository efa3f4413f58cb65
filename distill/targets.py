"""Training pictures with their defocus maps, computed once and kept on disk.

A *job* says what one record is made of: a file, and what is done to it. Records are computed in
shards by several processes. A shard's name is a hash of all that goes into it (the files' content
included), so a killed run goes on where it stopped, and a changed picture or setting makes a new
shard instead of a stale one.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from edgedf.distill.augment import random_square
from edgedf.distill.data import Sample
from edgedf.distill.fakes import (
    ALIGNED_FACE_CENTRE,
    ALIGNED_FACE_EXTENT,
    blob_mask,
    self_blend,
)
from edgedf.distill.optics.batch import start_worker
from edgedf.distill.optics.maps import PhysicalProfile, defocus_map
from edgedf.distill.optics.render import (
    add_camera_noise,
    random_depth,
    random_lens,
    render,
)
from edgedf.errors import ConfigError, DataError, EdgedfError
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
    "compute",
    "evaluation_plan",
    "plan",
]

Kind = Literal["whole", "crop", "self_blend", "rendered"]

# Sets that the manifests known so far use for aligned faces and for all-in-focus photographs.
FACE_SETS = ("faces256",)
SHARP_SETS = ("sharp",)

SHARD = 64
# Raise when the meaning of a record changes.
_VERSION = 1


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
            swapped with itself, so the record is fake. ``rendered``: synthetic depth of field with
            the exact map; it has no label.
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
        jobs: What each record is.
        images: uint8 RGB, (n, size, size, 3).
        maps: float16, (n, size / stride, size / stride): sigma in pixels of the picture.
        labels: float32, (n,): 1 fake, 0 real, NaN for neither.
    """

    jobs: tuple[Job, ...]
    images: NDArray[np.uint8]
    maps: NDArray[np.float16]
    labels: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.jobs)


def plan(
    samples: Sequence[Sample],
    *,
    crops: int,
    renderings: int,
    face_sets: Sequence[str],
    sharp_sets: Sequence[str],
    self_blends: int,
) -> tuple[Job, ...]:
    """Which records to make of some pictures.

    Args:
        samples: The pictures.
        crops: Random squares a picture.
        renderings: Synthetic depths of field a sharp picture; these get nothing else.
        face_sets: Sets of aligned faces, whose real pictures are blended with themselves.
        sharp_sets: Sets of pictures that are sharp everywhere.
        self_blends: Self-blends a real face.

    Raises:
        ConfigError: A negative number.
    """
    if min(crops, renderings, self_blends) < 0:
        raise ConfigError(
            "A number of records is negative.", expected="0 or more", next_step="0 leaves them out"
        )
    jobs: list[Job] = []
    for sample in samples:
        if sample.set in sharp_sets:
            jobs += [Job(sample, "rendered", variant) for variant in range(renderings)]
            continue
        jobs.append(Job(sample, "whole"))
        jobs += [Job(sample, "crop", variant) for variant in range(crops)]
        if sample.set in face_sets and sample.label == "real":
            jobs += [Job(sample, "self_blend", variant) for variant in range(self_blends)]
    return tuple(jobs)


def evaluation_plan(
    samples: Sequence[Sample],
    *,
    face_sets: Sequence[str] = FACE_SETS,
    sharp_sets: Sequence[str] = SHARP_SETS,
) -> tuple[Job, ...]:
    """What validation and test look at: whole pictures, one self-blend a real face, one rendering.

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
        face_sets=face_sets,
        sharp_sets=sharp_sets,
    )


def compute(
    jobs: Sequence[Job],
    folder: str | Path,
    settings: TargetSettings | None = None,
    *,
    workers: int = 1,
    progress: Progress = silent,
) -> Records:
    """Compute records, or read those that are there already.

    Args:
        jobs: What to compute.
        folder: Where the shards are kept; safe to delete.
        settings: How.
        workers: Processes.
        progress: Told how many records are there.

    Returns:
        All records, in memory.

    Raises:
        DataError: A picture cannot be read; names the file.
        OutputError: The folder cannot be written.
    """
    if not jobs:
        raise DataError(
            "There is no picture to work on.",
            expected="at least one",
            next_step="check the manifest's split and set columns",
        )
    settings = settings or TargetSettings()
    hashes = _content_hashes(jobs)
    shards = [tuple(jobs[at : at + SHARD]) for at in range(0, len(jobs), SHARD)]
    paths = [
        Path(folder) / f"{_shard_name(shard, hashes, settings)}.safetensors" for shard in shards
    ]
    side, small = settings.size, settings.size // settings.stride
    images = np.empty((len(jobs), side, side, 3), np.uint8)
    maps = np.empty((len(jobs), small, small), np.float16)
    done = 0

    def take(index: int, arrays: dict[str, NDArray[Any]]) -> None:
        nonlocal done
        where = slice(index * SHARD, index * SHARD + len(shards[index]))
        images[where], maps[where] = arrays["images"], arrays["maps"]
        done += len(shards[index])
        progress("defocus maps", done, len(jobs))

    waiting = []
    for index, path in enumerate(paths):
        arrays = _read(path, len(shards[index]), settings)
        if arrays is None:
            waiting.append(index)
        else:
            take(index, arrays)
    if waiting:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(
            max(1, workers), mp_context=context, initializer=start_worker
        ) as pool:
            tasks = {
                pool.submit(_compute_shard, shards[index], paths[index], settings): index
                for index in waiting
            }
            try:
                for task in as_completed(tasks):
                    task.result()
                    index = tasks[task]
                    fresh = _read(paths[index], len(shards[index]), settings)
                    if fresh is None:
                        raise DataError(
                            f"{paths[index]} was written and cannot be read back.",
                            next_step="check the disk, then run it again",
                        )
                    take(index, fresh)
            except BrokenProcessPool as error:
                raise DataError(
                    "A worker that computes defocus maps died.",
                    expected="enough memory for every worker",
                    next_step="run it again, with fewer workers; what is done is kept",
                ) from error
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    labels = np.array([job.label for job in jobs], np.float32)
    return Records(tuple(jobs), images, maps, labels)


def _content_hashes(jobs: Sequence[Job]) -> dict[Path, str]:
    hashes: dict[Path, str] = {}
    for path in {job.sample.path for job in jobs}:
        try:
            hashes[path] = sha256_of(path)
        except OSError as error:
            raise DataError(
                f"Cannot read {path}: {error.strerror or error}.",
                expected="every picture of the manifest, readable",
                next_step="check its permissions, or take its line out of the manifest",
            ) from error
    return hashes


def _shard_name(shard: Sequence[Job], hashes: dict[Path, str], settings: TargetSettings) -> str:
    content = [
        [hashes[job.sample.path], job.sample.path.name, job.kind, job.variant] for job in shard
    ]
    text = json.dumps([_VERSION, asdict(settings), content], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _read(path: Path, records: int, settings: TargetSettings) -> dict[str, NDArray[Any]] | None:
    """The shard, or None when it is missing or damaged."""
    try:
        arrays = safetensors.numpy.load_file(str(path))
    except (OSError, SafetensorError):
        return None
    small = settings.size // settings.stride
    expected = {
        "images": (records, settings.size, settings.size, 3),
        "maps": (records, small, small),
    }
    if {name: array.shape for name, array in arrays.items()} != expected:
        return None
    return arrays


def _compute_shard(jobs: Sequence[Job], path: Path, settings: TargetSettings) -> None:
    pairs = [_record(job, settings) for job in jobs]
    arrays: dict[str, NDArray[Any]] = {
        "images": np.stack([image for image, _ in pairs]),
        "maps": np.stack([dense for _, dense in pairs]),
    }
    write_bytes(path, safetensors.numpy.save(arrays))


def _record(job: Job, settings: TargetSettings) -> tuple[RGBImage, NDArray[np.float16]]:
    rng = _rng(job, settings.seed)
    try:
        photograph = load_image(job.sample.path)
        if job.kind == "crop":
            image = random_square(photograph, settings.size, rng)
        else:
            image = prepare(photograph, settings.size)
        if job.kind == "rendered":
            image, dense = _rendered(image, rng)
            return image, _shrink(dense, settings.stride)
        if job.kind == "self_blend":
            mask = blob_mask(
                image.shape[0],
                image.shape[1],
                rng,
                centre=ALIGNED_FACE_CENTRE,
                extent=ALIGNED_FACE_EXTENT,
            )
            image = self_blend(image, mask, rng)
        return image, _shrink(defocus_map(image, settings.profile), settings.stride)
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


def _shrink(dense: NDArray[np.float32], stride: int) -> NDArray[np.float16]:
    size = dense.shape[1] // stride, dense.shape[0] // stride
    return np.asarray(cv2.resize(dense, size, interpolation=cv2.INTER_AREA), np.float16)
