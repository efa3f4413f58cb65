"""Photographs that may be shared, and fakes of them made by edgedf: for demo, calibration, tests.

``sample.csv`` beside this file says what each picture is, ``ATTRIBUTION.md`` who made the
photographs and under which licence, ``recipe.csv`` how ``experiments.build_sample`` made the
files from the originals. A fake is always in the split and the group of its photograph.

The sample shows that things work. It is far too small to measure how well.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from edgedf.errors import DataError

__all__ = ["COLUMNS", "Kind", "SampleImage", "folder", "images"]

Kind = Literal["photo", "self_blend", "synthetic_blur"]

COLUMNS = (
    "file",
    "label",
    "kind",
    "group",
    "split",
    "source_title",
    "author",
    "licence",
    "origin",
)
"""Columns of ``sample.csv``; ``file`` is relative to it."""

_VALUES = {
    "label": ("real", "fake"),
    "kind": ("photo", "self_blend", "synthetic_blur"),
    "split": ("calibration", "check"),
}

_ROOT = Path(__file__).parent
_REINSTALL = "reinstall edgedf (pip install --force-reinstall --no-deps edgedf)"


@dataclass(frozen=True)
class SampleImage:
    """One picture of the sample; usable wherever a path is.

    Args:
        path: The JPEG file.
        label: ``real`` or ``fake``.
        kind: ``photo``, or how the fake was made: ``self_blend`` (part of the picture replaced by
            a changed copy of itself, as a face swap does) or ``synthetic_blur`` (depth of field
            that follows no scene).
        group: Pictures of one original share it.
        split: ``calibration`` or ``check``; no group is in both.
        licence: SPDX identifier.
        author: Who took the photograph.
    """

    path: Path
    label: Literal["real", "fake"]
    kind: Kind
    group: str
    split: Literal["calibration", "check"]
    licence: str
    author: str

    def __fspath__(self) -> str:
        return str(self.path)


def images() -> tuple[SampleImage, ...]:
    """All pictures, in the order of ``sample.csv``: each photograph, then the fakes of it.

    Raises:
        DataError: The installed package lost a file, or its list is damaged.

    Example:
        >>> import edgedf.sample
        >>> first = edgedf.sample.images()[0]
        >>> first.label, first.kind
        ('real', 'photo')
    """
    table = _ROOT / "sample.csv"
    try:
        with table.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(
            f"The list of the shipped sample cannot be read: {error}.",
            expected=str(table),
            next_step=_REINSTALL,
        ) from error
    return tuple(_image(row, line) for line, row in enumerate(rows, start=2))


def folder() -> Path:
    """The folder that holds all pictures, real and fake.

    Raises:
        DataError: The installed package lost it.
    """
    path = _ROOT / "images"
    if not path.is_dir():
        raise DataError(
            "The shipped sample has no images.", expected=str(path), next_step=_REINSTALL
        )
    return path


def _image(row: dict[str, str], line: int) -> SampleImage:
    if any(not row.get(column) for column in COLUMNS) or any(
        row[column] not in allowed for column, allowed in _VALUES.items()
    ):
        raise DataError(
            f"Line {line} of the shipped sample's list is damaged.",
            expected=", ".join(COLUMNS),
            next_step=_REINSTALL,
        )
    path = _ROOT / row["file"]
    if not path.is_file():
        raise DataError(
            f"The shipped sample lacks {row['file']}.", expected=str(path), next_step=_REINSTALL
        )
    return SampleImage(
        path=path,
        label=cast(Literal["real", "fake"], row["label"]),
        kind=cast(Kind, row["kind"]),
        group=row["group"],
        split=cast(Literal["calibration", "check"], row["split"]),
        licence=row["licence"],
        author=row["author"],
    )
