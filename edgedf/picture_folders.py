"""Pictures in folders: which files are pictures, and which folders say what they show."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import cast

from edgedf.imaging import IMAGE_SUFFIXES
from edgedf.manifest import ClassName

__all__ = ["class_of_folder", "left_out_text", "walk_pictures"]

# ForenSynths (Wang et al., CVPR 2020) and what follows it write 0_real and 1_fake.
_CLASS_FOLDER = re.compile(r"(?:\d+[ _.-]?)?(real|fake)", re.IGNORECASE)

_NAMED = 6


def class_of_folder(name: str) -> ClassName | None:
    """The class that a folder's name stands for.

    Args:
        name: Name of a folder. ``real`` and ``fake`` may be written in capitals and have a number
            in front: ``Real``, ``FAKE``, ``0_real``.

    Returns:
        ``real``, ``fake``, or None for any other name.

    Example:
        >>> class_of_folder("0_REAL"), class_of_folder("reality")
        ('real', None)
    """
    match = _CLASS_FOLDER.fullmatch(name)
    return None if match is None else cast(ClassName, match[1].lower())


def walk_pictures(
    folder: str | os.PathLike[str],
    *,
    onerror: Callable[[OSError], None],
    skip: str | None = None,
    left_out: Counter[str] | None = None,
) -> Iterator[str]:
    """Files of a folder and its sub-folders that have a picture's suffix.

    In sorted order, found as they are asked for. Hidden files and folders are passed over, and
    links to folders are not followed, since they may lead in circles.

    Args:
        folder: Where to search.
        onerror: Told about each folder that cannot be searched.
        skip: Real path of a folder to leave out of the search.
        left_out: Counts the other files by their suffix, in lower case.

    Yields:
        Paths, each beginning with ``folder``.
    """
    top = os.fspath(folder)
    for root, folders, files in os.walk(top, onerror=onerror):
        if skip is not None and root != top and os.path.realpath(root) == skip:
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in files if not name.startswith(".")):
            suffix = Path(name).suffix.lower()
            if suffix in IMAGE_SUFFIXES:
                yield os.path.join(root, name)  # noqa: PTH118
            elif left_out is not None:
                left_out[suffix] += 1


def left_out_text(left_out: Mapping[str, int]) -> str:
    """How many files were left out for their suffix, the most frequent first.

    Args:
        left_out: Files by suffix, as :func:`walk_pictures` counts them; at least one.

    Example:
        >>> left_out_text({".heic": 3, ".gif": 1})
        '4 files left out for their suffix: 3 .heic, 1 .gif'
    """
    ranked = sorted(left_out.items(), key=lambda entry: (-entry[1], entry[0]))
    named = ", ".join(f"{count} {suffix or 'without one'}" for suffix, count in ranked[:_NAMED])
    others = sum(count for _, count in ranked[_NAMED:])
    total = sum(left_out.values())
    return (
        f"{total} file{'' if total == 1 else 's'} left out for their suffix: {named}"
        f"{f', {others} others' if others else ''}"
    )
