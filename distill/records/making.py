"""Records: what a job makes of its photograph, and the defocus map of that.

Processes that compute records import this module, so it does without torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edgedf.distill.fakes.blend import (
    ALIGNED_FACE_CENTRE,
    ALIGNED_FACE_EXTENT,
    blob_mask,
    self_blend,
)
from edgedf.distill.fakes.portrait import portrait
from edgedf.distill.optics.lens import random_lens
from edgedf.distill.optics.maps import PhysicalProfile, defocus_map
from edgedf.distill.optics.render import add_camera_noise, random_depth, render
from edgedf.distill.records.augment import random_square
from edgedf.distill.records.plan import Job
from edgedf.distill.records.shards import write_shard
from edgedf.errors import DataError, EdgedfError, ImageError
from edgedf.imaging import RGBImage, load_image, prepare
from edgedf.spec import MAP_STRIDE

__all__ = ["TargetSettings", "at_stride", "compute_shard", "make_record"]


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


def compute_shard(jobs: Sequence[Job], path: Path, settings: TargetSettings) -> None:
    """Make the records of some jobs and write them to a shard.

    Args:
        jobs: One a record; those whose photograph cannot be read are listed in the shard.
        path: Where to.
        settings: Sizes and the seed.

    Raises:
        DataError: A photograph cannot be used; names it.
        OutputError: The shard cannot be written.
    """
    side, small = settings.size, settings.size // settings.stride
    records, skipped = [], {}
    for position, job in enumerate(jobs):
        try:
            photograph = load_image(job.sample.path)
        except ImageError as error:
            skipped[position] = error.message
            continue
        records.append(make_record(job, photograph, settings))
    images = np.array([image for image, _ in records], np.uint8).reshape(-1, side, side, 3)
    maps = np.array([values for _, values in records], np.float16).reshape(-1, small, small)
    write_shard(path, {"images": images, "maps": maps}, skipped)


def make_record(
    job: Job, photograph: RGBImage, settings: TargetSettings
) -> tuple[RGBImage, NDArray[np.float16]]:
    """A record's picture and map.

    Args:
        job: What is to be done to the photograph.
        photograph: uint8 RGB of any size.
        settings: Sizes and the seed.

    Returns:
        uint8 RGB, (size, size, 3), and the map, float16, (size / stride, size / stride), sigma in
        pixels: the exact one of a rendering, else the physical one.

    Raises:
        DataError: The photograph cannot be used; names it.
    """
    rng = _rng(job, settings.seed)
    try:
        if job.kind == "crop":
            image = random_square(photograph, settings.size, rng)
        else:
            image = prepare(photograph, settings.size)
        if job.kind == "rendered":
            image, defocus = _rendered(image, rng)
            return image, at_stride(defocus, settings.stride)
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


def at_stride(defocus: NDArray[np.float32], stride: int) -> NDArray[np.float16]:
    """A map averaged over squares of pixels.

    Args:
        defocus: (H, W), sigma in pixels.
        stride: Side of the squares.

    Returns:
        float16, (H / stride, W / stride), still in pixels of the picture.
    """
    size = defocus.shape[1] // stride, defocus.shape[0] // stride
    return np.asarray(cv2.resize(defocus, size, interpolation=cv2.INTER_AREA), np.float16)
