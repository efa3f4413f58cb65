"""Which pictures the verbs that measure a model are given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Generic, TypeVar

import typer

if TYPE_CHECKING:
    from edgedf.evaluation import Picture
    from edgedf.progress import Progress
    from edgedf.quantize.accuracy.verify import Pictures

__all__ = [
    "SHIPPED",
    "Chosen",
    "ComparedData",
    "ComparedLayout",
    "SetNames",
    "SplitName",
    "compared_pictures",
    "labelled_pictures",
]

SplitName = Annotated[
    str | None,
    typer.Option(
        "--split",
        metavar="NAME",
        help="train, val, test or all. Default: test where there are splits, else all.",
    ),
]
SetNames = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME", help="This set of the data; may be repeated."),
]

ComparedData = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Folder with manifest.csv, with the folders real and fake, …; or of unlabelled "
        "images, for which there is no AUC. Default: the sample that edgedf carries, which "
        "shows that things work and is too small for more.",
        show_default=False,
    ),
]
ComparedLayout = Annotated[
    str,
    typer.Option(
        "--layout",
        metavar="NAME",
        help="How DIR is laid out, see docs/datasets.md; 'images' for unlabelled ones.",
    ),
]

SHIPPED = "the shipped sample"
PLAIN = "images"

_Kind = TypeVar("_Kind", bound="Pictures", covariant=True)


@dataclass(frozen=True)
class Chosen(Generic[_Kind]):
    """What a model is measured on.

    Args:
        pictures: Labelled pictures, or paths of others.
        split: Name of their split; ``all`` for everything.
        left_out: Files of the folder that were left out for their suffix, by suffix.
    """

    pictures: _Kind
    split: str
    left_out: Mapping[str, int]


def labelled_pictures(
    data: Path, layout: str, split: str | None, sets: Sequence[str], progress: Progress
) -> Chosen[tuple[Picture, ...]]:
    """What to judge.

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
    from edgedf.distill.datasets import open_dataset
    from edgedf.distill.datasets.dataset import SPLITS
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
        split = "test" if dataset.has_splits else "all"
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
    return Chosen(pictures, split, dataset.left_out)


def compared_pictures(
    data: Path | None,
    layout: str,
    split: str | None,
    sets: Sequence[str],
    progress: Progress,
) -> Chosen[Pictures]:
    """What two models are compared on.

    Args:
        data: Folder of a data set or of unlabelled images; None for the shipped sample.
        layout: As for :func:`labelled_pictures`, or ``images`` for unlabelled ones.
        split: As for :func:`labelled_pictures`, like all that follows.
        sets: Names of sets.
        progress: Told about long steps.

    Raises:
        ConfigError: There is nothing that an option could choose.
        DataError: The folder cannot be used.
        ImageError: It holds no image.
    """
    from edgedf.errors import ConfigError

    if data is not None and _is_labelled(data, layout):
        return labelled_pictures(data, layout, split, sets, progress)
    given = {
        "--layout": data is None and layout != "auto",
        "--split": split not in (None, "all"),
        "--set": bool(sets),
    }
    unused = [name for name, is_given in given.items() if is_given]
    if unused:
        raise ConfigError(
            f"{SHIPPED if data is None else data} has nothing that {unused[0]} could choose.",
            expected="--data with labelled pictures, such as a folder with manifest.csv",
            next_step=f"leave {unused[0]} out, or name other data",
        )
    if data is None:
        return Chosen(_sample(), "all", {})
    left_out: Counter[str] = Counter()
    return Chosen(_unlabelled(data, left_out), "all", left_out)


def _is_labelled(data: Path, layout: str) -> bool:
    from edgedf.distill.datasets import LAYOUTS
    from edgedf.distill.datasets.files import existing_folder

    folder = existing_folder(data)
    if layout != "auto":
        return layout != PLAIN
    return any(known.fits(folder) for known in LAYOUTS.values())


def _unlabelled(data: Path, left_out: Counter[str]) -> list[str]:
    from edgedf.runtime.folder import Failure, find_images

    files = []
    for image in find_images(data, left_out=left_out):
        if isinstance(image, Failure):
            raise image.error
        files.append(image)
    return files


def _sample() -> Pictures:
    import edgedf.sample
    from edgedf.evaluation import Picture

    return [
        Picture(str(image.path), "sample", image.kind, image.group, image.label)
        for image in edgedf.sample.images()
    ]
