"""Which images calibrate a model, and which others prove it.

Real and fake images are taken in turns, so that both are equally many. The choice is seeded and
does not depend on the order in which the file system lists things. Images that are chosen for
calibration are never among those that prove the result, not even under another name: equal files
count once.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgedf.errors import CalibrationError, ImageError, ImageUnreadable
from edgedf.imaging import prepare, read_image, read_image_bytes
from edgedf.manifest import ClassName
from edgedf.progress import Progress, silent
from edgedf.quantize.calibration.candidates import LAYOUT, MIN_HELD_OUT, NEXT_STEP, Candidate
from edgedf.quantize.calibration.image_facts import ImageFacts, facts_of
from edgedf.quantize.calibration.settings import MIN_CALIBRATION
from edgedf.spec import Calibration

__all__ = [
    "MAX_HELD_OUT",
    "MIN_SPREAD",
    "CalibrationSet",
    "Skipped",
    "choose_images",
]

MAX_HELD_OUT = 256
# An image whose grey levels have a smaller standard deviation than this is as good as blank.
MIN_SPREAD = 2.0


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
        held_out: The images that check, likewise; none of them is among ``calibration``.
        labels: Class of each image in ``calibration``; None where it is not known.
        held_out_labels: Class of each image in ``held_out``.
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
        seed: Seed of the choice.
        source: Where the candidates came from, in words.
        progress: Told about each image.

    Returns:
        The chosen images.

    Raises:
        CalibrationError: Too few usable images, or all of one class.
    """
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
            expected=LAYOUT,
            next_step=NEXT_STEP,
        )
    labels = {image.candidate.label for image in calibration}
    if len(labels) == 1 and labels != {None}:
        (only,) = labels
        raise CalibrationError(
            f"All calibration images in {source} are {only}.",
            expected="real and fake images: ranges found on one class do not fit the other",
            next_step="add images of the other class, or remove the 'real' and 'fake' folders",
        )
