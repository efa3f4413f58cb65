"""What is wrong with a data set before anything is trained on it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edgedf.distill.datasets.dataset import (
    LABELS,
    SPLITS,
    ClassName,
    Count,
    Dataset,
    Sample,
    Split,
    torn_groups,
)
from edgedf.distill.datasets.leakage import FEATURES, Leakage, Metadata, leakage
from edgedf.distill.datasets.near_duplicates import NEAR, near_duplicates, picture_hash
from edgedf.distill.datasets.readable import each_picture
from edgedf.errors import DataError
from edgedf.evaluation import ALL, MAX_SKIPPED, Skipped
from edgedf.image_header import read_header
from edgedf.imaging import decode_image, read_image_bytes
from edgedf.jpeg_tables import quantisation_tables, tables_name
from edgedf.progress import Progress, silent

__all__ = ["Audit", "Spread", "audit"]

MAX_AUC = 0.6
"""Largest AUC of metadata that is no reason to warn."""

MAX_SHARE = 0.8
"""Largest share of one class in a set that is no reason to warn."""


@dataclass(frozen=True)
class Spread:
    """Smallest, middle and largest of some numbers."""

    least: float
    median: float
    most: float


@dataclass(frozen=True)
class Sizes:
    """How large the pictures of one class of a set are.

    Args:
        set: The set.
        label: The class.
        pictures: How many.
        width: Pixels, as stored.
        height: Pixels, as stored.
        bytes: Of the files.
        bytes_per_pixel: Of the files.
        distinct: Number of different pairs of width and height.
    """

    set: str
    label: ClassName
    pictures: int
    width: Spread
    height: Spread
    bytes: Spread
    bytes_per_pixel: Spread
    distinct: int


@dataclass(frozen=True)
class Encoding:
    """How some pictures of one class of a set are encoded.

    Args:
        set: The set.
        label: The class.
        format: ``jpeg``, ``png`` or ``webp``.
        tables: Name of a JPEG's quantisation tables; empty for other formats.
        pictures: How many.
    """

    set: str
    label: ClassName
    format: str
    tables: str
    pictures: int


@dataclass(frozen=True)
class Cluster:
    """Pictures that show the same and are in more than one split.

    Args:
        files: Their paths.
        splits: The splits.
        labels: The classes.
    """

    files: tuple[str, ...]
    splits: tuple[Split, ...]
    labels: tuple[ClassName, ...]


@dataclass(frozen=True)
class TornGroup:
    """A group that is in more than one split."""

    group: str
    splits: tuple[Split, ...]


@dataclass(frozen=True)
class MetadataAuc:
    """How well metadata tell real from fake in a set.

    Args:
        set: The set; ``all`` for all pictures together.
        leakage: The figures; None with too few pictures of a class.
    """

    set: str
    leakage: Leakage | None


@dataclass(frozen=True)
class Audit:
    """What is in a data set, and what is wrong with it.

    Args:
        folder: The folder.
        layout: Its layout.
        sha256: Of the manifest or the list of pictures.
        pictures: Number of pictures.
        counts: Pictures of each set, source, class and split.
        sizes: By set and class.
        encodings: By set and class.
        metadata: Of each set with both classes, and of all pictures together.
        duplicates: Near-duplicates in several splits.
        torn_groups: Groups in several splits.
        skipped: Pictures that cannot be read.
        notes: What the loader says.
        warnings: What is wrong, a sentence each; empty for a data set without a fault.
    """

    folder: str
    layout: str
    sha256: str
    pictures: int
    counts: tuple[Count, ...]
    sizes: tuple[Sizes, ...]
    encodings: tuple[Encoding, ...]
    metadata: tuple[MetadataAuc, ...]
    duplicates: tuple[Cluster, ...]
    torn_groups: tuple[TornGroup, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class _Facts:
    """What one file says."""

    sample: Sample
    metadata: Metadata
    tables: str
    hash: int


def audit(dataset: Dataset, *, progress: Progress = silent) -> Audit:
    """Look through a data set: every picture is read once.

    Args:
        dataset: The data set; its groups may be in several splits.
        progress: Told about each picture and each set.

    Returns:
        The figures. Pictures that cannot be read are listed and take no part in the rest.

    Raises:
        DataError: No picture can be read.
    """
    step = "reading pictures"
    facts, skipped = each_picture(_facts, dataset.samples, step=step, progress=progress)
    if not facts:
        raise DataError(
            f"None of the {len(dataset.samples)} pictures in {dataset.folder} can be read, such as "
            f"{skipped[0].file}: {skipped[0].reason}",
            expected="JPEG, PNG or WebP files",
            next_step="download them again",
        )
    torn = tuple(TornGroup(*entry) for entry in torn_groups(dataset.samples).items())
    clusters = tuple(_clusters(facts))
    metadata = _metadata(facts, progress)
    return Audit(
        folder=str(dataset.folder),
        layout=dataset.layout,
        sha256=dataset.sha256,
        pictures=len(dataset.samples),
        counts=dataset.counts,
        sizes=tuple(_sizes(facts)),
        encodings=tuple(_encodings(facts)),
        metadata=metadata,
        duplicates=clusters,
        torn_groups=torn,
        skipped=skipped,
        notes=dataset.notes,
        warnings=(
            *_class_warnings(dataset),
            *_split_warnings(torn, clusters),
            *_metadata_warnings(metadata),
            *_skipped_warnings(skipped, len(dataset.samples)),
        ),
    )


def _facts(sample: Sample) -> _Facts:
    data = read_image_bytes(sample.path)
    header, image = read_header(data), decode_image(data)
    tables = quantisation_tables(data)
    metadata = Metadata(header.width, header.height, len(data), header.format, tables)
    return _Facts(sample, metadata, tables_name(tables), picture_hash(image))


def _sizes(facts: Sequence[_Facts]) -> Iterator[Sizes]:
    parts: dict[tuple[str, ClassName], list[Metadata]] = defaultdict(list)
    for one in facts:
        parts[one.sample.set, one.sample.label].append(one.metadata)
    for name, label in sorted(parts, key=lambda key: (key[0], LABELS.index(key[1]))):
        part = parts[name, label]
        yield Sizes(
            name,
            label,
            len(part),
            width=_spread([one.width for one in part]),
            height=_spread([one.height for one in part]),
            bytes=_spread([one.bytes for one in part]),
            bytes_per_pixel=_spread([one.bytes / (one.width * one.height) for one in part]),
            distinct=len({(one.width, one.height) for one in part}),
        )


def _spread(values: Sequence[float]) -> Spread:
    return Spread(float(min(values)), float(np.median(values)), float(max(values)))


def _encodings(facts: Sequence[_Facts]) -> Iterator[Encoding]:
    counts = Counter(
        (one.sample.set, one.sample.label, one.metadata.format, one.tables) for one in facts
    )
    # The most frequent first within set and class, real before fake.
    order = sorted(
        counts, key=lambda key: (key[0], LABELS.index(key[1]), -counts[key], key[2], key[3])
    )
    for key in order:
        yield Encoding(*key, counts[key])


def _clusters(facts: Sequence[_Facts]) -> Iterator[Cluster]:
    for members in near_duplicates([one.hash for one in facts]):
        samples = [facts[index].sample for index in members]
        splits, labels = {s.split for s in samples}, {s.label for s in samples}
        if len(splits) > 1:
            yield Cluster(
                tuple(str(sample.path) for sample in samples),
                tuple(split for split in SPLITS if split in splits),
                tuple(label for label in LABELS if label in labels),
            )


def _metadata(facts: Sequence[_Facts], progress: Progress) -> tuple[MetadataAuc, ...]:
    parts: dict[str, list[_Facts]] = defaultdict(list)
    for one in facts:
        parts[one.sample.set].append(one)
    tasks = [(name, part) for name, part in sorted(parts.items()) if _has_both(part)]
    if len(parts) > 1 and _has_both(facts):
        tasks.append((ALL, list(facts)))
    entries = []
    for done, (name, part) in enumerate(tasks, 1):
        figures = leakage(
            [one.metadata for one in part],
            [one.sample.label == "fake" for one in part],
            [one.sample.group for one in part],
        )
        entries.append(MetadataAuc(name, figures))
        progress("fitting metadata", done, len(tasks))
    return tuple(entries)


def _has_both(facts: Sequence[_Facts]) -> bool:
    return len({one.sample.label for one in facts}) == 2


def _class_warnings(dataset: Dataset) -> Iterator[str]:
    for label in LABELS:
        if not any(sample.label == label for sample in dataset.samples):
            yield f"There is no {label} picture: nothing can be learned from one class."
    for name in dataset.sets:
        part = dataset.select(sets=[name])
        labels = Counter(sample.label for sample in part)
        if len(labels) < 2:
            continue
        label, most = labels.most_common(1)[0]
        if most > MAX_SHARE * len(part):
            yield f"{name}: {most} of {len(part)} pictures are {label}."
        kinds = {(sample.split, sample.label) for sample in part}
        for split in SPLITS:
            absent = [label for label in LABELS if (split, label) not in kinds]
            if absent:
                yield f"{name}: no {' and no '.join(absent)} picture in the {split} split."


def _split_warnings(torn: Sequence[TornGroup], clusters: Sequence[Cluster]) -> Iterator[str]:
    if torn:
        count = "1 group is" if len(torn) == 1 else f"{len(torn)} groups are"
        splits = ", ".join(torn[0].splits)
        yield f"{count} in more than one split, such as {torn[0].group!r} in {splits}."
    if clusters:
        files, splits = clusters[0].files, ", ".join(clusters[0].splits)
        count = "1 picture is" if len(clusters) == 1 else f"{len(clusters)} pictures are"
        yield (
            f"{count} in more than one split, as near-duplicates (at most {NEAR} of 64 bits of "
            f"their hashes differ): {files[0]} and {files[1]} in {splits}."
        )


def _metadata_warnings(metadata: Sequence[MetadataAuc]) -> Iterator[str]:
    for entry in metadata:
        if entry.leakage is None or entry.leakage.auc.value <= MAX_AUC:
            continue
        auc, features = entry.leakage.auc, entry.leakage.features
        leaking = [one for one in features if one.auc > MAX_AUC]
        named = ", ".join(f"{one.name} ({one.auc:.2f})" for one in leaking)
        together = f"no one of the {len(FEATURES)} features alone, {features[0].name} most"
        name = "All sets together" if entry.set == ALL else entry.set
        yield (
            f"{name}: metadata alone tell real from fake with AUC {auc.value:.2f} "
            f"({auc.low:.2f} to {auc.high:.2f}): {named or together}."
        )


def _skipped_warnings(skipped: Sequence[Skipped], pictures: int) -> Iterator[str]:
    if skipped:
        stop = len(skipped) > MAX_SKIPPED * pictures
        consequence = f": more than {MAX_SKIPPED:.0%}, training would stop" if stop else ""
        yield f"{len(skipped)} of {pictures} pictures cannot be read{consequence}."
