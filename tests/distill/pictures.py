"""A small data set on disk: photographs bundled with scikit-image and fakes made from them."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from skimage import data

from edgedf.distill.datasets.dataset import COLUMNS
from edgedf.distill.fakes.blend import blob_mask, self_blend

SIDE = 96
SETS = ("faces256", "scenes")


@cache
def photographs() -> list[np.ndarray]:
    """Four photographs, uint8 RGB; do not change them."""
    return [data.astronaut(), data.coffee(), data.chelsea(), data.rocket()]


def crop(rng: np.random.Generator) -> np.ndarray:
    """A random square of a random photograph, SIDE pixels wide."""
    picture = photographs()[rng.integers(4)]
    side = int(rng.integers(SIDE, 2 * SIDE))
    top = rng.integers(picture.shape[0] - side + 1)
    left = rng.integers(picture.shape[1] - side + 1)
    square = picture[top : top + side, left : left + side]
    return np.asarray(cv2.resize(square, (SIDE, SIDE), interpolation=cv2.INTER_AREA))


def write_dataset(
    folder: Path, *, groups: int = 4, held_out: int | None = None, seed: int = 0
) -> Path:
    """``groups`` real pictures, and a fake of each, per set and split; one sharp set.

    ``held_out`` is the number in the splits that are not trained with, where it is another one.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for name in SETS:
        for split in ("train", "val", "test"):
            for number in range(groups if split == "train" else held_out or groups):
                real = crop(rng)
                fake = self_blend(real, blob_mask(SIDE, SIDE, rng), rng)
                for label, picture in (("real", real), ("fake", fake)):
                    file = f"{name}/{split}-{number}-{label}.png"
                    rows.append((file, name, label, f"{name}-{split}-{number}", split, "skimage"))
                    write(folder / file, picture)
    for split in ("train", "val", "test"):
        file = f"sharp/{split}.png"
        rows.append((file, "sharp", "real", f"sharp-{split}", split, "skimage"))
        write(folder / file, crop(rng))
    write_manifest(folder, rows)
    return folder


def write_manifest(folder: Path, rows: list[tuple[str, ...]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(COLUMNS)
        writer.writerows(rows)


def write(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", picture[:, :, ::-1])[1].tobytes())
