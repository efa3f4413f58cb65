"""What is in a folder: pictures, videos, sub-folders, in an order that is the same everywhere."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from edgedf.errors import DataError
from edgedf.files import open_text
from edgedf.imaging import IMAGE_SUFFIXES
from edgedf.picture_folders import walk_pictures

__all__ = [
    "existing_folder",
    "files_in",
    "folders_in",
    "natural_order",
    "pictures_below",
    "pictures_in",
    "read_json",
    "read_lines",
]

_NUMBER = re.compile(r"(\d+)")


def existing_folder(folder: str | Path) -> Path:
    """The folder, after checking that there is one.

    Raises:
        DataError: No folder, or one that may not be read.
    """
    path = Path(folder)
    if not path.is_dir():
        raise DataError(
            f"{path} is no folder.",
            expected="the folder of a data set",
            next_step="check the path",
        )
    folders_in(path)
    return path


def folders_in(folder: Path) -> tuple[Path, ...]:
    """Sub-folders, hidden ones left out, in natural order.

    Raises:
        DataError: The folder may not be read.
    """
    return tuple(path for path in _entries(folder) if path.is_dir())


def files_in(folder: Path, suffixes: Iterable[str]) -> tuple[Path, ...]:
    """Files with one of these suffixes (lower case, with the dot), in natural order.

    Raises:
        DataError: The folder may not be read.
    """
    wanted = frozenset(suffixes)
    return tuple(p for p in _entries(folder) if p.suffix.lower() in wanted and p.is_file())


def pictures_in(folder: Path) -> tuple[Path, ...]:
    """JPEG, PNG and WebP files of a folder itself, in natural order.

    Raises:
        DataError: The folder may not be read.
    """
    return files_in(folder, IMAGE_SUFFIXES)


def pictures_below(folder: Path, left_out: Counter[str] | None = None) -> tuple[Path, ...]:
    """JPEG, PNG and WebP files of a folder and of all folders in it, in natural order.

    Args:
        folder: Where to search; links to folders below it are not followed.
        left_out: Counts the other files by their suffix.

    Raises:
        DataError: A folder may not be read.
    """
    paths = walk_pictures(folder, onerror=_raise_unreadable, left_out=left_out)
    return tuple(sorted(map(Path, paths), key=natural_order))


def natural_order(path: Path) -> tuple[tuple[int, int, str], ...]:
    """Sort key by which ``frame2`` comes before ``frame10``."""
    return tuple(
        (1, int(part), part) if part.isascii() and part.isdigit() else (0, 0, part)
        for part in _NUMBER.split(path.as_posix())
        if part
    )


def read_json(path: Path, *, expected: str, limit: int = 1 << 26) -> Any:
    """What a JSON file holds.

    Args:
        path: The file.
        expected: What it should hold, for the error.
        limit: Most bytes it may have.

    Raises:
        DataError: It cannot be read, is larger, or is no JSON in UTF-8.
    """
    try:
        return json.loads(_text(path, expected, limit))
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path} is no JSON file: {error}.",
            expected=expected,
            next_step="download it again",
        ) from error


def read_lines(path: Path, *, expected: str, limit: int = 1 << 24) -> tuple[str, ...]:
    """Lines of a text file that are not blank, without the white space around them.

    Args:
        path: The file.
        expected: What it should hold, for the error.
        limit: Most bytes it may have.

    Raises:
        DataError: It cannot be read, is larger, or is no text in UTF-8.
    """
    lines = (line.strip() for line in _text(path, expected, limit).splitlines())
    return tuple(line for line in lines if line)


def _text(path: Path, expected: str, limit: int) -> str:
    try:
        if path.stat().st_size > limit:
            raise DataError(
                f"{path} has {path.stat().st_size / 1e6:.0f} MB.",
                expected=f"{expected}, at most {limit / 1e6:.0f} MB",
                next_step="download it again",
            )
        with open_text(path) as stream:
            return stream.read()
    except OSError as error:
        _raise_unreadable(error)
    except UnicodeError as error:
        raise DataError(
            f"{path} is no text in UTF-8.", expected=expected, next_step="download it again"
        ) from error


def _entries(folder: Path) -> list[Path]:
    try:
        paths = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        _raise_unreadable(error)
    return sorted(paths, key=natural_order)


def _raise_unreadable(error: OSError) -> NoReturn:
    raise DataError(
        f"Cannot read {error.filename}: {error.strerror or error}.",
        expected="files and folders that may be read",
        next_step="check the path and its permissions",
    ) from error
