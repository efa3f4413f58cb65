"""What an artifact loses against its parent on real pictures, and whether that is acceptable.

Both models run on the same pictures, each prepared once. Whatever is measured of a picture is one
pair, so intervals are those of a paired bootstrap (:mod:`edgedf.metrics`); the limits and the
verdict are :mod:`~edgedf.quantize.accuracy.gate`'s. Nothing but a few numbers is kept of a picture.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgedf.ahead import run_ahead
from edgedf.errors import ArtifactUnreadable, DataError, ImageError, ImageTooLarge, ParityError
from edgedf.evaluation import Picture, Skipped, check_skipped
from edgedf.imaging import (
    DecodedImage,
    RGBImage,
    center_square_crop,
    load_image,
    prepare,
    read_image,
)
from edgedf.progress import Progress, silent
from edgedf.quantize.accuracy.compared import Answers, Compared, measure, worst_of
from edgedf.quantize.accuracy.diagnosis import DIAGNOSED, Diagnosis, diagnose
from edgedf.quantize.accuracy.gate import (
    Measurements,
    Row,
    Verdict,
    judge,
    most_images_needed,
    overall,
)
from edgedf.quantize.accuracy.limits import Limits
from edgedf.quantize.accuracy.parity import PairStatistics
from edgedf.quantize.models.pair import Pair, open_pair
from edgedf.result import sigmoid

__all__ = [
    "DEFAULT_WORST",
    "Example",
    "Gate",
    "Pictures",
    "Verification",
    "examples",
    "verify",
    "verify_pair",
]

Pictures = Sequence[Picture] | Sequence[str]
"""Pictures of which the truth is known, or paths of others."""

DEFAULT_WORST = 8


@dataclass(frozen=True, eq=False)
class Gate:
    """What a model has to pass before it takes its parent's place.

    Args:
        pictures: Labelled pictures, or paths of unlabelled ones, for which there is no AUC.
        limits: What may be lost on them.
        data: Name of the pictures.
        split: Name of their split.
        left_out: Files of the folder that were left out for their suffix, by suffix.
    """

    pictures: Pictures
    limits: Limits = field(default_factory=Limits)
    data: str = ""
    split: str = "all"
    left_out: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Verification:
    """The outcome of :func:`verify`.

    Args:
        verdict: What all rows say together.
        images_needed: Pictures that would tell, an estimate, where the verdict is cannot tell and
            some number of them would.
        artifact: Which model was tested.
        parent: What it was compared with.
        same_checkpoint: Whether their specs name the same checkpoint.
        data: Name of the data.
        split: Name of the split.
        real: Number of real pictures; 0 without labels, as ``fake``.
        fake: Number of fakes.
        measurements: Everything that was measured.
        limits: What may be lost.
        rows: The figures held against the limits.
        worst: Pictures on which the two differ most, the worst first: flipped verdicts, then other
            changed ones, then by the larger of two fractions: the change of the score, and that of
            the map as a fraction of its range.
        skipped: Pictures that could not be read.
        diagnosis: Whether the model or this processor's kernels are to blame; None unless an int8
            model fails.
        damaged: Files that were judged although their decoder found them damaged.
        left_out: Files of the folder that were left out for their suffix, by suffix.
    """

    verdict: Verdict
    images_needed: int | None
    artifact: str
    parent: str
    same_checkpoint: bool
    data: str
    split: str
    real: int
    fake: int
    measurements: Measurements
    limits: Limits
    rows: tuple[Row, ...]
    worst: tuple[Compared, ...]
    skipped: tuple[Skipped, ...]
    diagnosis: Diagnosis | None = None
    damaged: tuple[str, ...] = ()
    left_out: dict[str, int] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether the artifact may take its parent's place."""
        return self.verdict == "pass"


@dataclass(frozen=True, eq=False)
class Example:
    """One picture with both maps, to look at.

    Args:
        compared: What the models say.
        picture: uint8 RGB (S, S, 3): the centre square, which is what they saw.
        parent_map: float32 (height, width), blur in pixels of the input.
        artifact_map: That of the artifact, likewise.
    """

    compared: Compared
    picture: RGBImage
    parent_map: NDArray[np.float32]
    artifact_map: NDArray[np.float32]


def verify(
    artifact: str | Path,
    gate: Gate,
    *,
    against: str | Path | None = None,
    worst: int = DEFAULT_WORST,
    threads: int | None = None,
    progress: Progress = silent,
) -> Verification:
    """Compare an artifact with its parent on real pictures.

    Args:
        artifact: A ``.tflite`` or ``.onnx`` file of ours.
        gate: The pictures, and what may be lost on them.
        against: The parent: such a file, or a ``.safetensors`` checkpoint; None for the float
            export that edgedf carries.
        worst: How many of the worst pictures to list.
        threads: For each runtime; None for one a core, at most four.
        progress: Told about each picture.

    Raises:
        EdgedfError: A model cannot be used (as :func:`~edgedf.quantize.models.pair.open_pair`), or
            as :func:`verify_pair`.

    Example:
        >>> import edgedf.sample
        >>> from edgedf.runtime.models import default_model
        >>> files = [str(image.path) for image in edgedf.sample.images()[:4]]
        >>> outcome = verify(default_model("nowhere"), Gate(files))
        >>> outcome.verdict, outcome.measurements.map_error.value
        ('cannot tell', 0.0)
    """
    with open_pair(artifact, against, threads=threads) as pair:
        return verify_pair(pair, gate, worst=worst, progress=progress)


def verify_pair(
    pair: Pair, gate: Gate, *, worst: int = DEFAULT_WORST, progress: Progress = silent
) -> Verification:
    """Compare two opened models on real pictures.

    Args:
        pair: The models; opened from files by :func:`~edgedf.quantize.models.pair.open_pair`, or
            anything else that answers.
        gate: As for :func:`verify`, like all that follows.
        worst: How many of the worst pictures to list.
        progress: Told about each picture.

    Raises:
        ArtifactUnreadable: The parent fails at run time.
        DataError: There is no picture, or too many cannot be read; stops as soon as that is known.
        ParityError: The artifact fails at run time, or gives values that are no finite numbers.
    """
    entries = [_entry(picture) for picture in gate.pictures]
    if not entries:
        raise DataError(
            f"There is no picture to compare on in {gate.data or 'an empty list'}.",
            expected="at least one",
            next_step="check the folder and the split",
        )
    seen: list[Answers] = []
    skipped: list[Skipped] = []
    damaged: list[str] = []
    maps = PairStatistics()
    side = pair.artifact.spec.input.height
    for done, (entry, image) in enumerate(_prepared(entries, side), 1):
        if isinstance(image, ImageError):
            skipped.append(Skipped(entry.file, image.message))
            check_skipped(skipped, len(entries))
        else:
            damaged += [entry.file] * image.damaged
            parent, artifact = _ask(pair, entry.file, image.pixels)
            maps.add(artifact[1], parent[1])
            scores = sigmoid(parent[0]), sigmoid(artifact[0])
            compared = Compared(
                entry.file,
                entry.label,
                *scores,
                pair.parent.spec.threshold.label(scores[0]),
                pair.artifact.spec.threshold.label(scores[1]),
                float(np.abs(artifact[1].astype(np.float64) - parent[1]).mean()),
            )
            seen.append(Answers(compared, entry.group, parent[0], artifact[0]))
        progress("pictures", done, len(entries))
    measurements = measure(seen, maps)
    progress("figures", 1, 1)
    rows = judge(measurements, gate.limits)
    verdict = overall(rows)
    pictures = [answers.compared for answers in seen]
    labels = [picture.label for picture in pictures]
    return Verification(
        verdict=verdict,
        images_needed=most_images_needed(rows) if verdict == "cannot tell" else None,
        artifact=pair.artifact.name,
        parent=pair.parent.name,
        same_checkpoint=pair.same_checkpoint,
        data=gate.data,
        split=gate.split,
        real=labels.count("real"),
        fake=labels.count("fake"),
        measurements=measurements,
        limits=gate.limits,
        rows=rows,
        worst=worst_of(pictures, worst, measurements.map_range),
        skipped=tuple(skipped),
        damaged=tuple(damaged),
        diagnosis=_diagnosed(pair, pictures, progress) if verdict == "fail" else None,
        left_out=gate.left_out,
    )


def _diagnosed(pair: Pair, compared: Sequence[Compared], progress: Progress) -> Diagnosis | None:
    if pair.artifact.reference is None:
        return None
    side = pair.artifact.spec.input.height
    some = compared[:: math.ceil(len(compared) / DIAGNOSED)]  # the first ones may be all alike
    return diagnose(
        pair.parent.answer,
        pair.artifact.answer,
        pair.artifact.reference(),
        [prepare(load_image(entry.file), side) for entry in some],
        progress=progress,
    )


def examples(
    pair: Pair, compared: Sequence[Compared], *, progress: Progress = silent
) -> Iterator[Example]:
    """Pictures with both maps; the models run once more, as maps are not kept.

    Args:
        pair: The models.
        compared: Which pictures, such as ``verification.worst``.
        progress: Told about each picture.

    Raises:
        ImageError: A picture has gone, or changed, since it was compared.
    """
    for done, entry in enumerate(compared, 1):
        image = load_image(entry.file)
        both = _ask(pair, entry.file, prepare(image, pair.artifact.spec.input.height))
        yield Example(entry, center_square_crop(image), both[0][1], both[1][1])
        progress("worst pictures", done, len(compared))


class _Entry(NamedTuple):
    """A picture to compare on."""

    file: str
    group: str
    label: Literal["real", "fake", "unknown"]


def _entry(picture: Picture | str) -> _Entry:
    if isinstance(picture, Picture):
        return _Entry(picture.file, picture.group, picture.label)
    file = os.fspath(picture)
    return _Entry(file, file, "unknown")


def _prepared(
    entries: Sequence[_Entry], side: int
) -> Iterator[tuple[_Entry, DecodedImage | ImageError]]:
    """Model inputs in order, or what is wrong with a picture; decoded ahead in threads."""

    def read(entry: _Entry) -> DecodedImage | ImageError:
        try:
            image = read_image(entry.file)
            return image._replace(pixels=prepare(image.pixels, side))
        except ImageError as error:
            return error
        except MemoryError:
            return ImageTooLarge("There is not enough memory for this image.")

    with contextlib.closing(run_ahead(read, entries)) as images:
        yield from zip(entries, images, strict=True)


_LogitAndMap = tuple[float, NDArray[np.float32]]


def _ask(pair: Pair, file: str, pixels: RGBImage) -> tuple[_LogitAndMap, _LogitAndMap]:
    """What the parent answers to a picture, and what the artifact does."""
    parent = pair.parent.answer(pixels)
    try:
        return parent, pair.artifact.answer(pixels)
    except ArtifactUnreadable as error:
        # Not a mistake of the user's: this is what the gate is there to find.
        raise ParityError(
            f"{pair.artifact.name} fails on {file}: {error.message}",
            expected="finite numbers for every picture that the parent answers to",
            next_step="convert the model again",
        ) from error
