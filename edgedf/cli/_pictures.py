"""Which pictures the verbs that measure a model are given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgedf.evaluation import Picture
    from edgedf.progress import Progress

__all__ = ["labelled_pictures"]


def labelled_pictures(
    data: Path, layout: str, split: str | None, sets: Sequence[str], progress: Progress
) -> tuple[tuple[Picture, ...], str]:
    """What to judge, and the name of the split that is.

    Args:
        data: Folder of a data set.
        layout: Name of its layout, or ``auto``.
        split: ``train``, ``val``, ``test`` or ``all``; None for ``test`` where the data have
            splits of their own, else ``all``.
        sets: Names of sets; none for all.
        progress: Told about long steps.

    Raises:
        ConfigError: There is no such layout, split or set.
        DataError: The folder is not laid out as expected, or nothing is left of it.
    """
    from edgedf.distill.data import LABELS, SPLITS
    from edgedf.distill.datasets import open_dataset
    from edgedf.errors import ConfigError, DataError
    from edgedf.evaluation import Picture

    known = (*SPLITS, "all")
    if split is not None and split not in known:
        raise ConfigError(
            f"There is no split {split!r}.", expected=", ".join(known), next_step="--split test"
        )
    dataset = open_dataset(data, layout, progress=progress)
    unknown = [name for name in sets if name not in dataset.sets]
    if unknown:
        raise ConfigError(
            f"{data} has no set {unknown[0]!r}.",
            expected=", ".join(dataset.sets),
            next_step="leave --set out for all of them",
        )
    if split is None:
        # Folders without splits get some from their loader, for training.
        divided = dataset.layout != "folders" or not any((data / name).is_dir() for name in LABELS)
        split = "test" if divided else "all"
    pictures = tuple(
        Picture(str(s.path), s.set, s.source, s.group, s.label, s.video)
        for s in dataset.select(sets=sets or None)
        if split in ("all", s.split)
    )
    if not pictures:
        raise DataError(
            f"The {split} split of {data} has no picture" + (" in these sets." if sets else "."),
            expected="at least one",
            next_step="choose another split with --split; all takes every one",
        )
    return pictures, split
