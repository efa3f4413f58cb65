"""One way into every layout."""

from __future__ import annotations

import difflib
from pathlib import Path

import edgedf.distill.datasets.celebdf as celebdf
import edgedf.distill.datasets.cifake as cifake
import edgedf.distill.datasets.dataset as manifest
import edgedf.distill.datasets.diffusiondb as diffusiondb
import edgedf.distill.datasets.faceforensics as faceforensics
import edgedf.distill.datasets.folders as folders
from edgedf.distill.datasets.dataset import MANIFEST, Dataset, Layout, Reading
from edgedf.distill.datasets.files import existing_folder
from edgedf.distill.settings import FRAMES
from edgedf.errors import ConfigError, DataError
from edgedf.progress import Progress, silent

__all__ = ["AUTO", "LAYOUTS", "detect_layout", "open_dataset"]

AUTO = "auto"

_PLAIN = (manifest.LAYOUT, faceforensics.LAYOUT, celebdf.LAYOUT, cifake.LAYOUT, folders.LAYOUT)
LAYOUTS: dict[str, Layout] = {layout.name: layout for layout in (*_PLAIN, *diffusiondb.LAYOUTS)}
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
