"""The images that a folder, a manifest or the shipped sample offers for calibration.

A folder is read recursively; images below folders ``real`` and ``fake`` are of that class. A
manifest lists pictures with their classes and splits instead.
"""

from __future__ import annotations

import contextlib
import stat
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from edgedf.errors import CalibrationError, ConfigError
from edgedf.imaging import IMAGE_SUFFIXES
from edgedf.manifest import MANIFEST, SPLITS, ClassName, read_samples
from edgedf.picture_folders import class_of_folder, left_out_text, walk_pictures
from edgedf.quantize.calibration.settings import MIN_CALIBRATION

__all__ = [
    "LAYOUT",
    "MIN_HELD_OUT",
    "NEXT_STEP",
    "Candidate",
    "candidates_in_folder",
    "candidates_in_manifest",
    "find_candidates",
    "sample_candidates",
]

MIN_HELD_OUT = 4

LAYOUT = (
    f"a folder with at least {MIN_CALIBRATION + MIN_HELD_OUT} different photographs "
    f"({MIN_CALIBRATION} to calibrate, {MIN_HELD_OUT} to check), "
    "or with subfolders 'real' and 'fake'"
)
NEXT_STEP = "add images like those the model will see, or leave out --calibration to use the sample"


@dataclass(frozen=True)
class Candidate:
    """An image that may be chosen.

    Args:
        path: The file.
        label: Its class, None when unknown.
        calibration_only: Never use it to prove the result.
        held_out_only: Never calibrate with it.
    """

    path: Path
    label: ClassName | None = None
    calibration_only: bool = False
    held_out_only: bool = False


def candidates_in_folder(
    folder: str | Path, left_out: Counter[str] | None = None
) -> tuple[Candidate, ...]:
    """All images in a folder, labelled where the folder says so.

    Args:
        folder: Folder to read, recursively.
        left_out: Counts the files that are left out, by their suffix.

    Returns:
        The candidates, ordered by path.

    Raises:
        CalibrationError: No such folder, not a folder, one that may not be read (or a folder in
            it), or without images.
    """
    root = Path(folder)
    try:
        if not stat.S_ISDIR(root.stat().st_mode):
            raise NotADirectoryError
        files = walk_pictures(root, onerror=_raise, left_out=left_out)
        paths = sorted(path for path in map(Path, files) if path.is_file())
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        raise CalibrationError(
            f"The calibration folder {root} {_reason(error, root)}.",
            expected=LAYOUT,
            next_step=NEXT_STEP,
        ) from error
    if not paths:
        raise CalibrationError(
            f"The calibration folder {root} has no images ({', '.join(sorted(IMAGE_SUFFIXES))}).",
            expected=LAYOUT,
            next_step=NEXT_STEP,
        )
    return tuple(Candidate(path, _label(path.relative_to(root))) for path in paths)


def find_candidates(
    calibration: str | Path | None, split: str | None = None
) -> tuple[tuple[Candidate, ...], str]:
    """The images that an option names.

    Args:
        calibration: A folder, a manifest, a folder with a ``manifest.csv``, which is then what
            counts, or None for the shipped sample.
        split: Split of a manifest, as for :func:`candidates_in_manifest`.

    Returns:
        The candidates, and where they came from, in words.

    Raises:
        CalibrationError: There are none.
        ConfigError: There is no such split, or nothing that has splits.
        DataError: The manifest cannot be read, or names a file that is not there.
    """
    if calibration is not None:
        path = Path(calibration)
        manifest = path
        with contextlib.suppress(OSError):  # of a folder that may not be read, as is said below
            manifest = path / MANIFEST if (path / MANIFEST).is_file() else path
        if manifest.suffix.lower() == ".csv":
            title = f"{calibration}, split {split}" if split else str(calibration)
            return candidates_in_manifest(manifest, split), title
    if split is not None:
        raise ConfigError(
            f"{calibration or 'The shipped sample'} has no splits to choose {split!r} from.",
            expected="a manifest",
            next_step="name one with --calibration, or leave --calibration-split out",
        )
    if calibration is None:
        return sample_candidates(), "the shipped sample"
    left_out: Counter[str] = Counter()
    candidates = candidates_in_folder(calibration, left_out)
    return candidates, f"{calibration}{f' ({left_out_text(left_out)})' if left_out else ''}"


def candidates_in_manifest(path: str | Path, split: str | None = None) -> tuple[Candidate, ...]:
    """The pictures that a manifest lists, with their labels.

    Args:
        path: The file; see :mod:`edgedf.manifest`.
        split: Take pictures of this split alone; None for ``train`` and ``val``, and then those of
            ``train`` calibrate and those of ``val`` check, where there are both. Pictures of
            ``test`` are taken only if they are asked for: they are to judge the result.

    Returns:
        The candidates, in the order of the manifest.

    Raises:
        CalibrationError: No picture is in the split.
        ConfigError: There is no such split.
        DataError: The manifest cannot be read, or names a file that is not there.
    """
    if split is not None and split not in SPLITS:
        raise ConfigError(
            f"There is no split {split!r}.",
            expected=f"one of {', '.join(SPLITS)}",
            next_step="leave it out to calibrate with train and check with val",
        )
    wanted = ("train", "val") if split is None else (split,)
    samples = [sample for sample in read_samples(path) if sample.split in wanted]
    if not samples:
        raise CalibrationError(
            f"{path} has no picture in the split {' or '.join(wanted)}.",
            expected="pictures to calibrate with",
            next_step="name a split that has some with --calibration-split",
        )
    divided = len({sample.split for sample in samples}) == 2
    return tuple(
        Candidate(
            sample.path,
            sample.label,
            calibration_only=divided and sample.split == "train",
            held_out_only=divided and sample.split == "val",
        )
        for sample in samples
    )


def _raise(error: OSError) -> None:
    raise error


def _reason(error: Exception, root: Path) -> str:
    if isinstance(error, FileNotFoundError):
        return "does not exist"
    if isinstance(error, NotADirectoryError):
        return "is not a folder"
    where = getattr(error, "filename", None)
    inside = f" {where}" if where and Path(where) != root else ""
    return f"cannot be read:{inside} {getattr(error, 'strerror', None) or error}"


def sample_candidates() -> tuple[Candidate, ...]:
    """The images that ship with edgedf; its splits keep calibration and proof apart."""
    from edgedf import sample

    return tuple(
        Candidate(
            image.path,
            image.label,
            calibration_only=image.split == "calibration",
            held_out_only=image.split != "calibration",
        )
        for image in sample.images()
    )


def _label(path: Path) -> ClassName | None:
    """The class that the outermost folder with the name of one gives."""
    return next(filter(None, map(class_of_folder, path.parts[:-1])), None)
