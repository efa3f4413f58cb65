"""A folder of pictures with a manifest: what is there, what it is, and which split it is in.

``manifest.csv`` has a line a picture and at least the columns of :data:`COLUMNS`; paths are
relative to the manifest. ``group`` ties pictures together that must not be separated by a split
(crops of one photograph, frames of one video, one person).
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from edgedf.errors import DataError
from edgedf.files import sha256_of

__all__ = ["COLUMNS", "SPLITS", "Dataset", "Sample", "Split", "read_manifest"]

COLUMNS = ("file", "set", "label", "group", "split", "source")

ClassName = Literal["real", "fake"]
Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

MANIFEST = "manifest.csv"
MAX_MANIFEST_BYTES = 256 * 1024 * 1024

_REPAIR = "correct the manifest"
_LAYOUT = f"a folder with {MANIFEST}, a line a picture, columns {', '.join(COLUMNS)}"


@dataclass(frozen=True)
class Sample:
    """One picture.

    Args:
        path: The file.
        set: Name of the set it belongs to.
        label: ``real`` or ``fake``.
        group: Pictures of one group are never in different splits.
        split: ``train``, ``val`` or ``test``.
        source: Where it came from: a camera, a site, a generator.
    """

    path: Path
    set: str
    label: ClassName
    group: str
    split: Split
    source: str


@dataclass(frozen=True)
class Dataset:
    """All pictures of a manifest.

    Args:
        folder: Folder of the manifest.
        samples: The pictures, in the order of the manifest.
        sha256: Of the manifest.
    """

    folder: Path
    samples: tuple[Sample, ...]
    sha256: str

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


def read_manifest(folder: str | Path) -> Dataset:
    """Read ``manifest.csv`` in a folder and check it.

    Args:
        folder: The folder.

    Returns:
        The data set; pictures are not opened, but all are there.

    Raises:
        DataError: No manifest, a missing column, an unknown label or split, a picture that is not
            there or outside the folder, or a group in two splits.
    """
    root = Path(folder)
    path = root / MANIFEST
    rows = _rows(path)
    resolved = root.resolve()
    samples = tuple(_sample(root, resolved, path, number, row) for number, row in rows)
    if not samples:
        raise DataError(f"{path} lists no picture.", expected=_LAYOUT, next_step=_REPAIR)
    missing = [sample.path for sample in samples if not sample.path.is_file()]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(samples)} pictures in {path} are not there, such as "
            f"{missing[0]}.",
            expected="every file of the manifest",
            next_step="copy the missing files, or take their lines out",
        )
    splits: dict[str, set[str]] = defaultdict(set)
    for sample in samples:
        splits[sample.group].add(sample.split)
    torn = sorted(group for group, found in splits.items() if len(found) > 1)
    if torn:
        raise DataError(
            f"{len(torn)} groups are in more than one split, such as {torn[0]!r} in "
            f"{', '.join(sorted(splits[torn[0]]))}.",
            expected="each group in one split: a test on pictures seen in training says nothing",
            next_step="give all lines of a group the same split",
        )
    return Dataset(root, samples, sha256_of(path))


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise DataError(
                f"{path} has {path.stat().st_size / 1e6:.0f} MB.",
                expected=f"at most {MAX_MANIFEST_BYTES / 1e6:.0f} MB",
                next_step="divide it into several folders",
            )
        with path.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream, restval="")
            absent = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if absent:
                raise DataError(
                    f"{path} has no column {', '.join(absent)}.",
                    expected=_LAYOUT,
                    next_step=_REPAIR,
                )
            return [(reader.line_num, row) for row in reader]
    except OSError as error:
        raise DataError(
            f"Cannot read {path}: {error.strerror or error}.",
            expected=_LAYOUT,
            next_step="check the path of the folder",
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path} is no CSV file in UTF-8: {error}.",
            expected=_LAYOUT,
            next_step="save it again as CSV in UTF-8",
        ) from error


def _sample(root: Path, resolved: Path, path: Path, number: int, row: dict[str, str]) -> Sample:
    for column, known in (("label", ("real", "fake")), ("split", SPLITS)):
        if row[column] not in known:
            raise DataError(
                f"Line {number} of {path} has the {column} {row[column]!r}.",
                expected=" or ".join(known),
                next_step=_REPAIR,
            )
    file = root / row["file"]
    if "\0" in row["file"] or not file.resolve().is_relative_to(resolved):
        raise DataError(
            f"Line {number} of {path} names {row['file']!r}, which is outside the folder.",
            expected="paths below the manifest's folder",
            next_step="copy the picture into the folder, or take the line out",
        )
    return Sample(
        file,
        row["set"],
        cast(ClassName, row["label"]),
        row["group"],
        cast(Split, row["split"]),
        row["source"],
    )
