"""A manifest: a table of pictures with their truth, sets and splits.

``manifest.csv`` has a line a picture and at least the columns of :data:`COLUMNS`; those of
:data:`OPTIONAL_COLUMNS` may be there or not, and any other is ignored. Paths are relative to the
manifest.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from edgedf.errors import DataError
from edgedf.files import open_text

__all__ = [
    "COLUMNS",
    "LABELS",
    "MANIFEST",
    "OPTIONAL_COLUMNS",
    "SPLITS",
    "ClassName",
    "Sample",
    "Split",
    "read_samples",
]

COLUMNS = ("file", "set", "label", "group", "split", "source")
OPTIONAL_COLUMNS = ("mask", "map", "video")

ClassName = Literal["real", "fake"]
LABELS: tuple[ClassName, ...] = ("real", "fake")
Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

MANIFEST = "manifest.csv"
MAX_MANIFEST_BYTES = 256 * 1024 * 1024

_OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs"}
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
        source: Where it came from: a camera, a site, a generator; with the compression where that
            varies, such as ``ff++ Deepfakes c23``.
        mask: A picture of the same height and width, not zero where a fake was changed; None where
            that is not known.
        map: Its exact defocus map, as ``edgedf distill map`` writes one; None where there is none.
        video: Frames of one video share it; empty for a still picture.

    Raises:
        DataError: A label or a split that does not exist.
    """

    path: Path
    set: str
    label: ClassName
    group: str
    split: Split
    source: str
    mask: Path | None = None
    map: Path | None = None
    video: str = ""

    def __post_init__(self) -> None:
        # Spelt out: a data set has hundreds of thousands of these.
        if self.label not in LABELS:
            raise _unknown("label", self.label, LABELS, str(self.path))
        if self.split not in SPLITS:
            raise _unknown("split", self.split, SPLITS, str(self.path))


def read_samples(path: str | Path) -> tuple[Sample, ...]:
    """Read a manifest and check it, but for groups in several splits.

    Args:
        path: The file.

    Returns:
        The pictures in the order of the manifest; they are not opened, but all are there.

    Raises:
        DataError: No manifest, a missing column, an unknown label or split, or a picture, mask or
            map that is not there or outside the manifest's folder.
    """
    manifest = Path(path)
    rows = _rows(manifest)
    root = manifest.parent
    resolved = root.resolve()
    samples = tuple(_sample(root, resolved, manifest, number, row) for number, row in rows)
    if not samples:
        raise DataError(f"{manifest} lists no picture.", expected=_LAYOUT, next_step=_REPAIR)
    _check_files(manifest, samples)
    return samples


def _check_files(manifest: Path, samples: Sequence[Sample]) -> None:
    files = {
        "pictures": [sample.path for sample in samples],
        "masks": [sample.mask for sample in samples if sample.mask is not None],
        "maps": [sample.map for sample in samples if sample.map is not None],
    }
    for what, paths in files.items():
        missing = [path for path in paths if not _is_file(path)]
        if missing:
            raise DataError(
                f"{len(missing)} of {len(paths)} {what} in {manifest} are not there, such as "
                f"{missing[0]}.",
                expected="every file of the manifest",
                next_step="copy the missing files, or take their lines out",
            )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # such as for a name that is too long
        return False


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise DataError(
                f"{path} has {path.stat().st_size / 1e6:.0f} MB.",
                expected=f"at most {MAX_MANIFEST_BYTES / 1e6:.0f} MB",
                next_step="divide it into several folders",
            )
        with open_text(path, newline="") as stream:
            reader = csv.DictReader(stream, restval="")
            absent = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            for separator, name in _OTHER_SEPARATORS.items():
                if absent and separator in "".join(reader.fieldnames or ()):
                    raise DataError(
                        f"{path} has {name} between its columns.",
                        expected=f"commas; {_LAYOUT}",
                        next_step="save it as CSV with commas; some languages of Excel write "
                        "semicolons",
                    )
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
    except (UnicodeError, csv.Error) as error:
        raise DataError(
            f"{path} is no CSV file in UTF-8: {error}.",
            expected=_LAYOUT,
            next_step="save it again as CSV in UTF-8",
        ) from error


def _sample(root: Path, resolved: Path, path: Path, number: int, row: dict[str, str]) -> Sample:
    where = f"Line {number} of {path}"
    for column, known in (("label", LABELS), ("split", SPLITS)):
        if row[column] not in known:
            raise _unknown(column, row[column], known, where)
    files: dict[str, Path | None] = {}
    for column in ("file", "mask", "map"):
        name = row.get(column, "")
        files[column] = root / name if name else None
        # Lines without a file name the folder itself, which is no picture and reported as such.
        if "\0" in name or not (root / name).resolve().is_relative_to(resolved):
            raise DataError(
                f"{where} names {name!r}, which is outside the folder.",
                expected="paths below the manifest's folder",
                next_step="copy the picture into the folder, or take the line out",
            )
    return Sample(
        files["file"] or root,
        row["set"],
        cast(ClassName, row["label"]),
        row["group"],
        cast(Split, row["split"]),
        row["source"],
        files["mask"],
        files["map"],
        row.get("video", ""),
    )


def _unknown(column: str, value: str, known: Sequence[str], where: str) -> DataError:
    return DataError(
        f"{where} has the {column} {value!r}.", expected=" or ".join(known), next_step=_REPAIR
    )
