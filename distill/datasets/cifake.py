"""CIFAKE (Bird & Lotfi, IEEE Access 2024): CIFAR-10 and what Stable Diffusion made after it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgedf.distill.datasets.dataset import (
    ClassName,
    Dataset,
    Layout,
    Sample,
    Split,
    list_samples,
)
from edgedf.distill.datasets.files import existing_folder, folders_in, pictures_in
from edgedf.distill.datasets.splits import TRAIN_AND_VAL, assign
from edgedf.errors import DataError

__all__ = ["LAYOUT", "read_cifake"]

_NAME = "cifake"
_SHAPE = "train/REAL/, train/FAKE/, test/REAL/ and test/FAKE/, each with pictures of 32 x 32"

_CLASSES: Mapping[str, tuple[ClassName, str]] = {
    "REAL": ("real", "cifar-10"),
    "FAKE": ("fake", "stable diffusion 1.4"),
}
_SPLITS: tuple[Split, ...] = ("train", "test")


def _fits(folder: Path) -> bool:
    names = [
        {place.name for place in folders_in(folder / split)} if (folder / split).is_dir() else set()
        for split in _SPLITS
    ]
    return all(set(_CLASSES) <= classes for classes in names)


def read_cifake(folder: str | Path) -> Dataset:
    """Read CIFAKE. An eighth of ``train``, chosen by the names of the files, becomes ``val``.

    Every picture is a group of its own: near-duplicates, which CIFAR-10 has, are not looked for.

    Args:
        folder: The folder with ``train`` and ``test``.

    Raises:
        DataError: One of the four folders has no picture.
    """
    root = existing_folder(folder)
    samples: list[Sample] = []
    for split in _SPLITS:
        for name, (label, source) in _CLASSES.items():
            place = root / split / name
            pictures = pictures_in(place) if place.is_dir() else ()
            if not pictures:
                raise DataError(
                    f"CIFAKE has no picture in {place}.",
                    expected=_SHAPE,
                    next_step="download it again, or pass the folder that holds train and test",
                )
            groups = {path: f"cifake {split}/{name}/{path.name}" for path in pictures}
            given: dict[str, Split] = dict.fromkeys(groups.values(), split)
            if split == "train":
                given = assign(dict.fromkeys(groups.values(), 1), TRAIN_AND_VAL)
            samples += [
                Sample(path, _NAME, label, group, given[group], source)
                for path, group in groups.items()
            ]
    return list_samples(root, samples, _NAME)


LAYOUT = Layout(_NAME, _SHAPE, _fits, lambda folder, how: read_cifake(folder))
