"""A plain folder: ``real/`` and ``fake/``, with or without ``train/``, ``val/`` and ``test/``."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgedf.distill.datasets.dataset import (
    LABELS,
    SPLITS,
    ClassName,
    Dataset,
    Layout,
    Sample,
    Split,
    list_samples,
)
from edgedf.distill.datasets.files import existing_folder, folders_in, pictures_below
from edgedf.distill.datasets.near_duplicates import near_duplicates, picture_hash
from edgedf.distill.datasets.readable import in_threads
from edgedf.distill.datasets.splits import RATIO, TRAIN_AND_VAL, assign, components
from edgedf.errors import DataError, ImageError
from edgedf.files import sha256_of
from edgedf.imaging import decode_image, read_image_bytes
from edgedf.picture_folders import class_of_folder, left_out_text
from edgedf.progress import Progress, silent

__all__ = ["LAYOUT", "MAX_COMPARED", "read_folders"]

_NAME = "folders"
_SHAPE = "real/ and fake/, or train/real/, train/fake/, test/real/, test/fake/ (val/ if you like)"

MAX_COMPARED = 20_000
"""Most pictures that are decoded to find near-duplicates; of more, only equal files are tied."""

_SPLIT_FOLDERS: Mapping[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}


@dataclass(frozen=True)
class _Fingerprint:
    """SHA-256 of a file, and the perceptual hash of its picture; None where there is none."""

    sha256: str
    picture: int | None


def _fits(folder: Path) -> bool:
    places = [folder, *_split_folders(folder).values()]
    return any(_class_folders(place) for place in places)


def read_folders(
    folder: str | Path, *, compare: bool | None = None, progress: Progress = silent
) -> Dataset:
    """Read a plain folder of real and fake pictures.

    A folder in ``real/`` or ``fake/`` is a source; a folder in that is a video (or anything else
    whose pictures belong together). The set has the name of the folder.

    Without ``train/`` and so on, pictures are split 7:1:2, real and fake alike, by the SHA-256 of
    their files. Kept together are equal files, near-duplicates, frames of one video, and a real and
    a fake picture of one name (``real/17.jpg``, ``fake/17.png``), since one is often made from the
    other. With ``train/`` and ``test/`` but no ``val/``, an eighth of ``train/`` becomes ``val``.

    Args:
        folder: The folder.
        compare: Whether pictures are decoded to find near-duplicates; None for up to
            :data:`MAX_COMPARED` pictures.
        progress: Told about each picture that is read.

    Raises:
        DataError: No such folders, or a class without a picture.
    """
    root = existing_folder(folder)
    name = root.resolve().name or _NAME
    split_folders = _split_folders(root)
    left_out: Counter[str] = Counter()
    notes: list[str] = []
    samples: list[Sample] = []
    if not split_folders:
        part = _pictures(root, name, "train", "", left_out)
        samples = _divided(root, part, RATIO, compare, progress, notes)
    for split, place in split_folders.items():
        part = _pictures(place, name, split, f"{split}/", left_out)
        if split == "train" and "val" not in split_folders:
            notes.append(f"{place.name}/ is split 7:1 into train and val: there is no val folder.")
            part = _divided(place, part, TRAIN_AND_VAL, compare, progress, notes)
        samples += part
    if left_out:
        notes.append(f"{left_out_text(left_out)}.")
    return list_samples(
        root, samples, _NAME, notes, has_splits=bool(split_folders), left_out=left_out
    )


LAYOUT = Layout(
    _NAME, _SHAPE, _fits, lambda folder, how: read_folders(folder, progress=how.progress)
)


def _split_folders(folder: Path) -> dict[Split, Path]:
    """Folders of splits that hold a class."""
    places: dict[Split, Path] = {}
    for split in SPLITS:
        for place in folders_in(folder):
            if place.name.lower() in _SPLIT_FOLDERS[split] and _class_folders(place):
                places.setdefault(split, place)
    return places


def _class_folders(folder: Path) -> dict[ClassName, Path]:
    places: dict[ClassName, Path] = {}
    for place in folders_in(folder):
        label = class_of_folder(place.name)
        if label is not None and places.setdefault(label, place) != place:
            raise DataError(
                f"{folder} has two folders of {label} pictures, {places[label].name} and "
                f"{place.name}.",
                expected="one of each class",
                next_step="put the pictures of one into the other",
            )
    return {label: places[label] for label in LABELS if label in places}


def _pictures(
    place: Path, name: str, split: Split, prefix: str, left_out: Counter[str]
) -> list[Sample]:
    """Pictures below the class folders, some of each; each a group, but for those of a video."""
    samples = []
    for label, root in _class_folders(place).items():
        for path in pictures_below(root, left_out):
            inside = path.relative_to(root).parts
            source = inside[0] if len(inside) > 1 else label
            video = "/".join((prefix + label, *inside[:-1])) if len(inside) > 2 else ""
            group = video or f"{prefix}{label}/{'/'.join(inside)}"
            samples.append(Sample(path, name, label, group, split, source, video=video))
    for label in LABELS:
        if not any(sample.label == label for sample in samples):
            others = f" {left_out_text(left_out)}." if left_out else ""
            raise DataError(
                f"{place} has no {label} picture.{others}",
                expected=f"{_SHAPE}, with JPEG, PNG or WebP files",
                next_step=f"put {label} pictures into {place / label}",
            )
    return samples


def _divided(
    place: Path,
    samples: list[Sample],
    ratio: Mapping[Split, int],
    compare: bool | None,
    progress: Progress,
    notes: list[str],
) -> list[Sample]:
    """The samples with groups of what belongs together, and a split for each group."""
    compare = len(samples) <= MAX_COMPARED if compare is None else compare
    if not compare:
        notes.append(
            f"Near-duplicates among {len(samples)} pictures were not looked for; only equal files "
            "are kept together."
        )
    prints = _fingerprints(samples, compare, progress)
    links = [
        [sample.group, f"sha256/{one.sha256}"] for sample, one in zip(samples, prints, strict=True)
    ]
    hashed = [index for index, one in enumerate(prints) if one.picture is not None]
    for cluster in near_duplicates([prints[index].picture or 0 for index in hashed]):
        links.append([samples[hashed[index]].group for index in cluster])
    links += _namesakes(place, samples)
    tied = components(links)
    # A group is named by the smallest SHA-256 in it: moving or renaming files changes no split.
    names: dict[str, str] = {}
    for sample, one in zip(samples, prints, strict=True):
        root = tied[sample.group]
        names[root] = min(names.get(root, one.sha256), one.sha256)
    groups = [names[tied[sample.group]] for sample in samples]
    labels: dict[str, set[str]] = defaultdict(set)
    for sample, group in zip(samples, groups, strict=True):
        labels[group].add(sample.label)
    split_of: dict[str, Split] = {}
    for kind in ({"real"}, {"fake"}, {"real", "fake"}):
        sizes = Counter(group for group in groups if labels[group] == kind)
        split_of.update(assign(sizes, ratio))
    return [
        replace(sample, group=group, split=split_of[group])
        for sample, group in zip(samples, groups, strict=True)
    ]


def _namesakes(place: Path, samples: Sequence[Sample]) -> list[list[str]]:
    """Groups of real and fake pictures of one name; which source they are from does not matter."""
    roots = _class_folders(place)
    by_name: dict[tuple[str, ...], list[Sample]] = defaultdict(list)
    for sample in samples:
        inside = sample.path.relative_to(roots[sample.label]).with_suffix("").parts
        by_name[inside[1:] or inside].append(sample)
    return [
        [sample.group for sample in namesakes]
        for namesakes in by_name.values()
        if len({sample.label for sample in namesakes}) > 1
    ]


def _fingerprints(
    samples: Sequence[Sample], compare: bool, progress: Progress
) -> list[_Fingerprint]:
    def read(sample: Sample) -> _Fingerprint:
        try:
            data = read_image_bytes(sample.path)
        except ImageError:  # reported when the picture is used
            return _Fingerprint(sha256_of(sample.group.encode("utf-8", "surrogateescape")), None)
        try:
            picture = picture_hash(decode_image(data)) if compare else None
        except ImageError:
            picture = None
        return _Fingerprint(sha256_of(data), picture)

    return in_threads(read, samples, step="comparing pictures", progress=progress)
