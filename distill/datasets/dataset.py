"""A folder of pictures with a manifest: what is there, what it is, and which split it is in.

``manifest.csv`` has a line a picture and at least the columns of :data:`COLUMNS`; those of
:data:`OPTIONAL_COLUMNS` may be there or not, and any other is ignored. Paths are relative to the
manifest. ``group`` ties pictures together that must not be separated by a split (crops of one
photograph, frames of one video, one person).

Other layouts than a manifest are read by :mod:`edgedf.distill.datasets`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgedf.distill.settings import FRAMES
from edgedf.errors import DataError
from edgedf.files import sha256_of
from edgedf.manifest import (
    COLUMNS,
    LABELS,
    MANIFEST,
    OPTIONAL_COLUMNS,
    SPLITS,
    ClassName,
    Sample,
    Split,
    read_samples,
)
from edgedf.progress import Progress, silent

__all__ = [
    "COLUMNS",
    "LABELS",
    "LAYOUT",
    "MANIFEST",
    "OPTIONAL_COLUMNS",
    "SPLITS",
    "ClassName",
    "Count",
    "Dataset",
    "Layout",
    "Reading",
    "Sample",
    "Split",
    "check_groups",
    "list_samples",
    "read_manifest",
    "torn_groups",
]


@dataclass(frozen=True)
class Count:
    """How many pictures of one kind there are.

    Args:
        set: The set.
        source: The source.
        label: ``real`` or ``fake``.
        split: The split.
        pictures: Number of pictures, frames included.
        videos: Number of videos that frames among them are from.
    """

    set: str
    source: str
    label: ClassName
    split: Split
    pictures: int
    videos: int


@dataclass(frozen=True)
class Dataset:
    """All pictures of a data set.

    Args:
        folder: Its folder.
        samples: The pictures, in the order of the manifest or of their paths.
        sha256: Of the manifest, or of what :func:`list_samples` says.
        layout: Name of the layout that was read.
        notes: Remarks of its loader, such as what it left out.
        has_splits: Whether the splits came with the data; else the loader made them, for training.
        left_out: Files that were left out for their suffix, by suffix.
    """

    folder: Path
    samples: tuple[Sample, ...]
    sha256: str
    layout: str = "manifest"
    notes: tuple[str, ...] = ()
    has_splits: bool = True
    left_out: Mapping[str, int] = field(default_factory=dict)

    def select(
        self,
        *,
        split: Split | None = None,
        sets: Iterable[str] | None = None,
        label: ClassName | None = None,
    ) -> tuple[Sample, ...]:
        """Pictures of a split, of some sets, of a class; None means any."""
        wanted = None if sets is None else frozenset(sets)
        return tuple(
            sample
            for sample in self.samples
            if (split is None or sample.split == split)
            and (wanted is None or sample.set in wanted)
            and (label is None or sample.label == label)
        )

    @property
    def sets(self) -> tuple[str, ...]:
        """Names of the sets, sorted."""
        return tuple(sorted({sample.set for sample in self.samples}))

    @property
    def counts(self) -> tuple[Count, ...]:
        """Pictures and videos of each set, source, label and split, sorted."""
        pictures = Counter((s.set, s.source, s.label, s.split) for s in self.samples)
        videos: dict[tuple[str, str, ClassName, Split], set[str]] = defaultdict(set)
        for s in self.samples:
            if s.video:
                videos[s.set, s.source, s.label, s.split].add(s.video)
        order = sorted(pictures, key=lambda key: (key[0], key[1], key[2], SPLITS.index(key[3])))
        return tuple(Count(*key, pictures[key], len(videos.get(key, ()))) for key in order)


@dataclass(frozen=True)
class Reading:
    """How a folder is read, as far as its layout cares.

    Args:
        frames: Frames of each video, evenly spaced.
        cache: Where frames are put that have to be extracted; None for nowhere.
        allow_torn: Whether groups of a manifest may be in several splits; for an audit.
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
        name: Its name.
        shape: What a folder has, for people.
        fits: Whether a folder has it.
        read: Reads it.
    """

    name: str
    shape: str
    fits: Callable[[Path], bool]
    read: Callable[[Path, Reading], Dataset]


def list_samples(
    folder: Path,
    samples: Iterable[Sample],
    layout: str,
    notes: Iterable[str] = (),
    *,
    has_splits: bool = True,
    left_out: Mapping[str, int] | None = None,
) -> Dataset:
    """Make a data set of samples that no manifest lists.

    Its ``sha256`` is that of the lines a manifest would have, with the size of each file: another
    list, another split or a changed file of another length gives another one.

    Args:
        folder: Folder of the data set.
        samples: The pictures.
        layout: Name of the layout.
        notes: Remarks of the loader.
        has_splits: Whether the splits came with the data.
        left_out: Files that were left out for their suffix, by suffix.

    Raises:
        DataError: There is no picture, one cannot be asked for its size, or a group is in two
            splits.
    """
    kept = tuple(samples)
    if not kept:
        raise DataError(
            f"{folder} has no picture to read.",
            expected=f"the layout {layout}, with pictures in it",
            next_step="check the path of the folder",
        )
    check_groups(kept)
    lines = []
    for sample in kept:
        try:
            size = sample.path.stat().st_size
        except OSError as error:
            raise DataError(
                f"Cannot read {sample.path}: {error.strerror or error}.",
                expected="pictures that stay where they are while they are listed",
                next_step="check the folder and its permissions",
            ) from error
        parts = (sample.set, sample.label, sample.group, sample.split, sample.source, sample.video)
        lines.append("\0".join((_name_in(folder, sample.path), str(size), *parts)))
    text = "\n".join(sorted(lines))
    # surrogateescape: file names are bytes and need not be valid text.
    sha256 = sha256_of(text.encode("utf-8", "surrogateescape"))
    return Dataset(folder, kept, sha256, layout, tuple(notes), has_splits, left_out or {})


def torn_groups(samples: Iterable[Sample]) -> dict[str, tuple[Split, ...]]:
    """Groups that are in more than one split, sorted by name, with those splits."""
    splits: dict[str, set[Split]] = defaultdict(set)
    for sample in samples:
        splits[sample.group].add(sample.split)
    return {
        group: tuple(split for split in SPLITS if split in where)
        for group, where in sorted(splits.items())
        if len(where) > 1
    }


def check_groups(samples: Iterable[Sample]) -> None:
    """Stop where a group is in more than one split.

    Raises:
        DataError: Such a group.
    """
    torn = torn_groups(samples)
    if torn:
        group, where = next(iter(torn.items()))
        count = "1 group is" if len(torn) == 1 else f"{len(torn)} groups are"
        raise DataError(
            f"{count} in more than one split, such as {group!r} in {', '.join(where)}.",
            expected="each group in one split: a test on pictures seen in training says nothing",
            next_step="give all pictures of a group the same split",
        )


def read_manifest(folder: str | Path, *, allow_torn: bool = False) -> Dataset:
    """Read ``manifest.csv`` in a folder and check it.

    Args:
        folder: The folder.
        allow_torn: Whether groups may be in several splits; for an audit, which lists them.

    Returns:
        The data set; pictures are not opened, but all are there.

    Raises:
        DataError: No manifest, a missing column, an unknown label or split, a picture, mask or map
            that is not there or outside the folder, or a group in two splits.
    """
    root = Path(folder)
    path = root / MANIFEST
    samples = read_samples(path)
    if not allow_torn:
        check_groups(samples)
    return Dataset(root, samples, sha256_of(path))


LAYOUT = Layout(
    "manifest",
    f"{MANIFEST}, a line a picture",
    lambda folder: (folder / MANIFEST).exists(),
    lambda folder, how: read_manifest(folder, allow_torn=how.allow_torn),
)


def _name_in(folder: Path, path: Path) -> str:
    """Path below the folder; of a file elsewhere, such as an extracted frame, its name alone."""
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name
