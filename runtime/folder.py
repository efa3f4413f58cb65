"""Finding images in folders, and what stands for one that could not be read."""

# ruff: noqa: PTH100, PTH112, PTH118, PTH207
# os.path keeps a path as it was given ("./a.jpg") and answers where pathlib
# raises (names too long, no permission).
from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Union

from edgedf.errors import EdgedfError, ImageNotFound
from edgedf.imaging import IMAGE_SUFFIXES
from edgedf.picture_folders import walk_pictures
from edgedf.result import source_fields

__all__ = ["Failure", "Place", "find_images"]

Place = Union[str, "os.PathLike[str]"]


@dataclass(frozen=True, eq=False)
class Failure:
    """An image that could not be judged; the counterpart of a ``Detection``.

    Args:
        source: Path of the file or folder.
        error: What was wrong with it.

    Example:
        >>> from edgedf.errors import ImageUnreadable
        >>> Failure("a.jpg", ImageUnreadable("The image is empty.")).to_dict()["error"]["kind"]
        'ImageUnreadable'
    """

    source: str
    error: EdgedfError

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            **source_fields(self.source),
            "error": {
                "kind": type(self.error).__name__,
                "message": self.error.message,
                "expected": self.error.expected,
                "next_step": self.error.next_step,
            },
        }


def find_images(
    places: Place | Iterable[Place],
    *,
    skip: Place | None = None,
    left_out: Counter[str] | None = None,
) -> Iterator[str | Failure]:
    """Paths of images, found as they are asked for.

    A folder is searched with all its subfolders for files with a suffix in
    :data:`edgedf.imaging.IMAGE_SUFFIXES`, in sorted order; hidden files and folders are left out
    and links to folders are not followed. A file is taken whatever its name. Anything else with
    ``*``, ``?`` or ``[`` is a pattern (``**`` stands for any number of folders) and means the
    files and folders it matches; leading folders that exist mean themselves. No path comes twice.

    Args:
        places: A file, a folder, a pattern, or several of them.
        skip: A folder to leave out of the search and of what patterns match, such as the one
            results are written to; searched all the same when it is one of ``places``.
        left_out: Counts the files of folders that are left out, by their suffix.

    Yields:
        Paths; and a :class:`Failure` for a place with nothing in it or that cannot be searched.

    Example:
        >>> import edgedf.sample
        >>> next(find_images(edgedf.sample.folder())).endswith(".jpg")
        True
    """
    if isinstance(places, (str, os.PathLike)):
        places = [places]
    skipped = None if skip is None else os.path.realpath(skip)
    seen: set[str] = set()
    for place in places:
        for image in _in_place(os.fspath(place), skipped, left_out):
            if isinstance(image, Failure):
                yield image
                continue
            key = os.path.abspath(image)
            if key not in seen:
                seen.add(key)
                yield image


def _in_place(
    place: str, skipped: str | None, left_out: Counter[str] | None
) -> Iterator[str | Failure]:
    if "\0" in place or not place:
        yield Failure(
            place,
            ImageNotFound(
                f"{place!r} is not a path.",
                expected="the path of an image or of a folder",
                next_step="check how the list of paths was made",
            ),
        )
    elif os.path.isdir(place):
        yield from _or_else(_in_folder(place, skipped, left_out), _nothing_in(place))
    elif os.path.lexists(place) or not glob.has_magic(place):
        yield place  # opening it says what is wrong, if anything is
    else:
        yield from _or_else(_matching(place, skipped, left_out), _nothing_matches(place))


def _or_else(images: Iterator[str | Failure], failure: Failure) -> Iterator[str | Failure]:
    """What was found, or else the failure."""
    first = next(images, failure)
    yield first
    yield from images


def _matching(
    pattern: str, skipped: str | None, left_out: Counter[str] | None
) -> Iterator[str | Failure]:
    for match in sorted(glob.iglob(_with_literal_folders(pattern), recursive=True)):
        if skipped is not None and _is_within(match, skipped):
            continue
        if os.path.isdir(match):
            yield from _in_folder(match, skipped, left_out)
        else:
            yield match


def _with_literal_folders(pattern: str) -> str:
    """The pattern with its leading folders escaped as far as they exist: ``photos [2023]/*``."""
    end = 0
    while (slash := pattern.find(os.sep, end)) >= 0 and os.path.isdir(pattern[: slash + 1]):
        end = slash + 1
    return glob.escape(pattern[:end]) + pattern[end:]


def _is_within(path: str, folder: str) -> bool:
    """Whether the path is that folder, which is a real path, or lies below it."""
    return f"{os.path.realpath(path)}{os.sep}".startswith(os.path.join(folder, ""))


def _in_folder(
    folder: str, skipped: str | None, left_out: Counter[str] | None
) -> Iterator[str | Failure]:
    errors: list[OSError] = []
    yield from walk_pictures(folder, onerror=errors.append, skip=skipped, left_out=left_out)
    for error in errors:
        yield Failure(
            str(error.filename),
            ImageNotFound(
                f"Cannot search {error.filename}: {error.strerror}.",
                expected="a folder that may be read",
                next_step="check its permissions",
            ),
        )


def _nothing_in(folder: str) -> Failure:
    return Failure(
        folder,
        ImageNotFound(
            f"There is no image in {folder}.",
            expected=f"files ending in {', '.join(sorted(IMAGE_SUFFIXES))}",
            next_step="name another folder",
        ),
    )


def _nothing_matches(pattern: str) -> Failure:
    return Failure(
        pattern,
        ImageNotFound(
            f"Nothing matches {pattern}.",
            expected="a pattern such as 'photos/**/*.jpg', in quotes",
            next_step="check the spelling",
        ),
    )
