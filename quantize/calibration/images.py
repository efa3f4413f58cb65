"""Which images calibrate a model, and which others prove it.

A folder is read recursively. When it has ``real`` and ``fake`` subfolders, the images under them
are taken in turns, so that both are equally many. The choice is seeded and does not depend on the
order in which the file system lists things. A manifest lists pictures with their classes and
splits instead. Images that are chosen for calibration are never
among those that prove the result, not even under another name: equal files count once.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import stat
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgedf.errors import CalibrationError, ConfigError, ImageError, ImageUnreadable
from edgedf.imaging import IMAGE_SUFFIXES, prepare, read_image, read_image_bytes
from edgedf.manifest import MANIFEST, SPLITS, ClassName, read_samples
from edgedf.picture_folders import class_of_folder, left_out_text, walk_pictures
from edgedf.progress import Progress, silent
from edgedf.quantize.calibration.image_facts import ImageFacts, facts_of
from edgedf.spec import Calibration

__all__ = [
    "MAX_HELD_OUT",
    "MIN_CALIBRATION",
    "MIN_HELD_OUT",
    "MIN_SPREAD",
    "CalibrationSet",
    "Candidate",
    "Skipped",
    "candidates_in_folder",
    "candidates_in_manifest",
    "check_samples",
    "choose_images",
    "find_candidates",
    "sample_candidates",
]

MIN_CALIBRATION = 8
MIN_HELD_OUT = 4
MAX_HELD_OUT = 256
# An image whose grey levels have a smaller standard deviation than this is as good as blank.
MIN_SPREAD = 2.0

_LAYOUT = (
    f"a folder with at least {MIN_CALIBRATION + MIN_HELD_OUT} different photographs "
    f"({MIN_CALIBRATION} to calibrate, {MIN_HELD_OUT} to check), "
    "or with subfolders 'real' and 'fake'"
)
_NEXT = "add images like those the model will see, or leave out --calibration to use the sample"


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


@dataclass(frozen=True)
class Skipped:
    """An image that could not be used.

    Args:
        path: The file.
        reason: Why.
    """

    path: Path
    reason: str


@dataclass(frozen=True, eq=False)
class CalibrationSet:
    """Images, chosen and prepared.

    Args:
        calibration: uint8 RGB (N, N, 3) each.
        held_out: Likewise; none of them is among ``calibration``.
        labels: Class of each image in ``calibration``; None where it is not known.
        held_out_labels: Likewise of ``held_out``.
        skipped: Images that were looked at and not used.
        summary: What goes into the spec.
        source: Where the images came from, in words.
        held_out_files: Files of the images in ``held_out``.
        facts: What the images in ``calibration`` are, in the same order.
    """

    calibration: tuple[NDArray[np.uint8], ...]
    held_out: tuple[NDArray[np.uint8], ...]
    labels: tuple[ClassName | None, ...]
    held_out_labels: tuple[ClassName | None, ...]
    skipped: tuple[Skipped, ...]
    summary: Calibration
    source: str
    held_out_files: tuple[Path, ...]
    facts: tuple[ImageFacts, ...]


@dataclass(frozen=True, eq=False)
class _Prepared:
    candidate: Candidate
    pixels: NDArray[np.uint8]
    facts: ImageFacts

    @property
    def sha256(self) -> str:
        return self.facts.sha256


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
        found = walk_pictures(root, onerror=_raise, left_out=left_out)
        paths = sorted(path for path in map(Path, found) if path.is_file())
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        raise CalibrationError(
            f"The calibration folder {root} {_reason(error, root)}.",
            expected=_LAYOUT,
            next_step=_NEXT,
        ) from error
    if not paths:
        raise CalibrationError(
            f"The calibration folder {root} has no images ({', '.join(sorted(IMAGE_SUFFIXES))}).",
            expected=_LAYOUT,
            next_step=_NEXT,
        )
    return tuple(Candidate(path, _label(path.relative_to(root))) for path in paths)


def find_candidates(
    calibration: str | Path | None, split: str | None = None
) -> tuple[tuple[Candidate, ...], str]:
    """The images that an option names.

    Args:
        calibration: A folder, a manifest, a folder with a ``manifest.csv``, which is then what
            counts, or None for the shipped sample.
        split: Of a manifest, as for :func:`candidates_in_manifest`.

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
            said = f"{calibration}, split {split}" if split else str(calibration)
            return candidates_in_manifest(manifest, split), said
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


def check_samples(samples: int) -> None:
    """Refuse a number of calibration images that is too small to measure ranges with.

    Raises:
        ConfigError: It is.
    """
    if samples < MIN_CALIBRATION:
        raise ConfigError(
            f"{samples} calibration images are too few.",
            expected=f"at least {MIN_CALIBRATION}",
            next_step=f"--samples {MIN_CALIBRATION} or more; 32 is the default",
        )


def choose_images(
    candidates: Sequence[Candidate],
    *,
    samples: int,
    size: int,
    seed: int = 0,
    source: str = "images",
    progress: Progress = silent,
) -> CalibrationSet:
    """Choose and prepare images for calibration, and others for the proof.

    Args:
        candidates: Images to choose from.
        samples: How many to calibrate with; fewer are taken when there are not enough.
        size: Side of the model's input in pixels.
        seed: Of the choice.
        source: Where the candidates came from, in words.
        progress: Told about each image.

    Returns:
        The chosen images.

    Raises:
        CalibrationError: Too few usable images, or all of one class.
        ConfigError: ``samples`` is too small.
    """
    check_samples(samples)
    wanted = min(len(candidates), samples + MAX_HELD_OUT)
    usable: list[_Prepared] = []
    skipped: list[Skipped] = []
    seen: set[str] = set()
    for candidate in _shuffled(candidates, seed):
        if len(usable) == wanted:
            break
        try:
            image = _prepare(candidate, size)
        except ImageError as error:
            skipped.append(Skipped(candidate.path, error.message))
            continue
        if image.sha256 in seen:
            skipped.append(Skipped(candidate.path, "The same file as another one."))
            continue
        seen.add(image.sha256)
        if image.pixels.std() < MIN_SPREAD:
            skipped.append(Skipped(candidate.path, "Nearly the same grey level everywhere."))
            continue
        usable.append(image)
        progress("read images", len(usable), wanted)

    calibration, held_out = _split(usable, samples)
    _check(calibration, held_out, skipped, source)
    hashes = "".join(sorted(image.sha256 for image in calibration))
    return CalibrationSet(
        tuple(image.pixels for image in calibration),
        tuple(image.pixels for image in held_out),
        tuple(image.candidate.label for image in calibration),
        tuple(image.candidate.label for image in held_out),
        tuple(skipped),
        Calibration("minmax", len(calibration), hashlib.sha256(hashes.encode()).hexdigest(), seed),
        source,
        tuple(image.candidate.path for image in held_out),
        tuple(image.facts for image in calibration),
    )


def _label(path: Path) -> ClassName | None:
    """By the outermost folder that says so."""
    return next(filter(None, map(class_of_folder, path.parts[:-1])), None)


def _shuffled(candidates: Sequence[Candidate], seed: int) -> Iterator[Candidate]:
    """Each class shuffled by itself, then one of each in turns."""
    classes: dict[str, list[Candidate]] = {}
    for candidate in sorted(candidates, key=lambda c: c.path.as_posix()):
        classes.setdefault(candidate.label or "", []).append(candidate)
    for name in sorted(classes):
        random.Random(f"{seed} {name}").shuffle(classes[name])
    turns = zip_longest(*(classes[name] for name in sorted(classes)))
    return (candidate for candidate in chain.from_iterable(turns) if candidate is not None)


def _prepare(candidate: Candidate, size: int) -> _Prepared:
    data = read_image_bytes(candidate.path)
    image = read_image(data)
    if image.damaged:
        raise ImageUnreadable("The JPEG data are damaged.")
    pixels = prepare(image.pixels, size)
    return _Prepared(candidate, pixels, facts_of(candidate.path, candidate.label, data, pixels))


def _split(usable: Sequence[_Prepared], samples: int) -> tuple[list[_Prepared], list[_Prepared]]:
    """At most ``samples`` to calibrate, but always at least a quarter of all held out."""
    able = [image for image in usable if not image.candidate.held_out_only]
    fixed = len(usable) - len(able)
    spare = max(0, max(MIN_HELD_OUT, len(usable) // 4) - fixed)
    calibration = able[: max(0, min(samples, len(able) - spare))]
    chosen = {image.sha256 for image in calibration}
    held_out = [
        image
        for image in usable
        if image.sha256 not in chosen and not image.candidate.calibration_only
    ]
    return calibration, held_out[:MAX_HELD_OUT]


def _check(
    calibration: Sequence[_Prepared],
    held_out: Sequence[_Prepared],
    skipped: Sequence[Skipped],
    source: str,
) -> None:
    if len(calibration) < MIN_CALIBRATION or len(held_out) < MIN_HELD_OUT:
        details = "".join(f"\n  {entry.path}: {entry.reason}" for entry in skipped[:5])
        more = f"\n  and {len(skipped) - 5} more" if len(skipped) > 5 else ""
        lost = f"; {len(skipped)} could not be used:{details}{more}" if skipped else "."
        raise CalibrationError(
            f"Only {len(calibration) + len(held_out)} usable images in {source}{lost}",
            expected=_LAYOUT,
            next_step=_NEXT,
        )
    labels = {image.candidate.label for image in calibration}
    if len(labels) == 1 and labels != {None}:
        (only,) = labels
        raise CalibrationError(
            f"All calibration images in {source} are {only}.",
            expected="real and fake images: ranges found on one class do not fit the other",
            next_step="add images of the other class, or remove the 'real' and 'fake' folders",
        )
