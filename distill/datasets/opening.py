"""One way into every layout."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgedf.distill.datasets import celebdf, cifake, diffusiondb, faceforensics, folders
from edgedf.distill.datasets.dataset import MANIFEST, Dataset, read_manifest
from edgedf.distill.datasets.files import existing_folder
from edgedf.distill.datasets.frames import FRAMES
from edgedf.errors import ConfigError, DataError
from edgedf.progress import Progress, silent

__all__ = ["AUTO", "LAYOUTS", "Layout", "Reading", "detect_layout", "open_dataset"]

AUTO = "auto"


@dataclass(frozen=True)
class Reading:
    """How a folder is read, as far as its layout cares.

    Args:
        frames: Frames of each video.
        cache: Where frames are put that have to be extracted; None for nowhere.
        allow_torn: Whether groups of a manifest may be in several splits.
        progress: Told about long steps.
    """

    frames: int = FRAMES
    cache: Path | None = None
    allow_torn: bool = False
    progress: Progress = silent


@dataclass(frozen=True)
class Layout:
    """A layout that can be read.

    Args:
        shape: What a folder has, for people.
        fits: Whether a folder has it.
        read: Reads it.
    """

    shape: str
    fits: Callable[[Path], bool]
    read: Callable[[Path, Reading], Dataset]


LAYOUTS = {
    "manifest": Layout(
        f"{MANIFEST}, a line a picture",
        lambda folder: (folder / MANIFEST).exists(),
        lambda folder, how: read_manifest(folder, allow_torn=how.allow_torn),
    ),
    faceforensics.LAYOUT: Layout(
        faceforensics.SHAPE,
        faceforensics.fits,
        lambda folder, how: faceforensics.read_faceforensics(
            folder, frames=how.frames, cache=how.cache, progress=how.progress
        ),
    ),
    celebdf.LAYOUT: Layout(
        celebdf.SHAPE,
        celebdf.fits,
        lambda folder, how: celebdf.read_celebdf(
            folder, frames=how.frames, cache=how.cache, progress=how.progress
        ),
    ),
    cifake.LAYOUT: Layout(
        cifake.SHAPE, cifake.fits, lambda folder, how: cifake.read_cifake(folder)
    ),
    folders.LAYOUT: Layout(
        folders.SHAPE,
        folders.fits,
        lambda folder, how: folders.read_folders(folder, progress=how.progress),
    ),
    diffusiondb.PAIR_LAYOUT: Layout(
        diffusiondb.PAIR_SHAPE,
        diffusiondb.fits_pair,
        lambda folder, how: diffusiondb.read_diffusiondb_coco(folder),
    ),
    diffusiondb.LAYOUT: Layout(
        diffusiondb.SHAPE,
        diffusiondb.fits,
        lambda folder, how: diffusiondb.read_diffusiondb(folder),
    ),
    diffusiondb.COCO_LAYOUT: Layout(
        diffusiondb.COCO_SHAPE,
        diffusiondb.fits_coco,
        lambda folder, how: diffusiondb.read_coco(folder),
    ),
}
"""Every layout by name, in the order in which :func:`detect_layout` tries them."""


def open_dataset(
    folder: str | Path,
    layout: str = AUTO,
    *,
    frames: int = FRAMES,
    cache: str | Path | None = None,
    allow_torn: bool = False,
    progress: Progress = silent,
) -> Dataset:
    """Read a data set of any layout that is known here.

    For what only one layout has (manipulations, official splits, limits), call its reader.

    Args:
        folder: The folder.
        layout: Of :data:`LAYOUTS`, or ``auto`` for the first that fits.
        frames: Frames of each video, evenly spaced.
        cache: Where frames are put that have to be extracted, a folder for this data set alone.
        allow_torn: Whether groups of a manifest may be in several splits; for an audit.
        progress: Told about long steps.

    Raises:
        ConfigError: No such layout.
        DataError: No layout fits, or the one that does is incomplete.

    Example:
        >>> from edgedf.distill.datasets import open_dataset
        >>> dataset = open_dataset("FaceForensics++", frames=20, cache="frames")  # doctest: +SKIP
        >>> len(dataset.select(split="test", label="fake"))  # doctest: +SKIP
        2800
    """
    root = existing_folder(folder)
    if layout == AUTO:
        layout = detect_layout(root)
    elif layout not in LAYOUTS:
        close = difflib.get_close_matches(layout, LAYOUTS, n=1, cutoff=0.4)
        raise ConfigError(
            f"There is no layout {layout!r}.",
            expected=", ".join((AUTO, *LAYOUTS)),
            next_step=f"did you mean {close[0]}?" if close else "choose one of these",
        )
    how = Reading(frames, None if cache is None else Path(cache), allow_torn, progress)
    return LAYOUTS[layout].read(root, how)


def detect_layout(folder: str | Path) -> str:
    """Name of the first of :data:`LAYOUTS` that a folder has.

    Raises:
        DataError: None of them.
    """
    root = existing_folder(folder)
    for name, layout in LAYOUTS.items():
        if layout.fits(root):
            return name
    known = "".join(f"\n  {name}: {layout.shape}" for name, layout in LAYOUTS.items())
    raise DataError(
        f"{root} has no layout that is known here.",
        expected=f"one of these{known}",
        next_step=f"pass the folder that holds these, or list the pictures in {MANIFEST}",
    )
