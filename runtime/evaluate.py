"""Measuring a model file on labelled pictures, with what it takes to run it and nothing more."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from edgedf.ahead import run_ahead
from edgedf.errors import ImageError, ImageTooLarge
from edgedf.evaluation import (
    UNCHANGED,
    Judgement,
    Picture,
    Report,
    RobustnessRow,
    Skipped,
    check_skipped,
    make_report,
    robustness_rows,
)
from edgedf.imaging import RGBImage, prepare, read_image
from edgedf.metrics import logit
from edgedf.progress import Progress, silent
from edgedf.runtime.detector import Detector
from edgedf.runtime.folder import Failure

__all__ = ["Change", "Evaluation", "Scores", "evaluate", "scores"]


class Change(Protocol):
    """Something that happens to pictures."""

    @property
    def name(self) -> str:
        """Short name."""

    @property
    def definition(self) -> str:
        """What it does, exactly."""

    @property
    def change(self) -> Callable[[RGBImage], RGBImage]:
        """uint8 RGB (height, width, 3) → uint8 RGB of any size."""


class Evaluation(NamedTuple):
    """How good a model is.

    Args:
        report: The figures.
        judgements: What it said, in the order of the pictures; unreadable ones are left out.
    """

    report: Report
    judgements: tuple[Judgement, ...]


class Scores(NamedTuple):
    """What a model says of one file.

    Args:
        scores: In [0, 1], that of the picture as it is first.
        damaged: Whether its decoder found the file damaged.
    """

    scores: tuple[float, ...]
    damaged: bool


def evaluate(
    detector: Detector,
    pictures: Sequence[Picture],
    *,
    data: str,
    split: str = "all",
    changes: Sequence[Change] = (),
    progress: Progress = silent,
) -> Evaluation:
    """Judge pictures and measure the verdicts.

    Args:
        detector: The model.
        pictures: What is judged.
        data: Name of the folder, for the report.
        split: Name of the split, for the report.
        changes: Each gives a line in the report's robustness table. A picture that one of them
            cannot be made of is left out everywhere, so that all lines are about the same ones.
        progress: Told about each picture, then about the figures.

    Raises:
        ArtifactUnreadable: The model fails at run time.
        DataError: There is no picture, or too many cannot be read; stops as soon as that is known.

    Example:
        >>> import edgedf.sample
        >>> from edgedf.runtime.models import default_model
        >>> pictures = [
        ...     Picture(str(image.path), "sample", image.kind, image.group, image.label)
        ...     for image in edgedf.sample.images()[:10]
        ... ]
        >>> with Detector(default_model()) as detector:
        ...     report = evaluate(detector, pictures, data="the shipped sample").report
        >>> report.rows[0].metrics.auc.n
        10
    """
    judged: list[tuple[Judgement, ...]] = []
    skipped: list[Skipped] = []
    answers = scores(
        detector,
        [picture.file for picture in pictures],
        changes=[entry.change for entry in changes],
        progress=progress,
    )
    for picture, answer in zip(pictures, answers, strict=True):
        if isinstance(answer, Failure):
            skipped.append(Skipped(picture.file, answer.error.message))
            check_skipped(skipped, len(pictures))
        else:
            judged.append(
                tuple(Judgement(picture, logit(s), answer.damaged) for s in answer.scores)
            )
    judgements = tuple(entry[0] for entry in judged)
    named = [(UNCHANGED, "nothing"), *((entry.name, entry.definition) for entry in changes)]
    rows: list[RobustnessRow] = []
    for index, (name, definition) in enumerate(named if changes else ()):
        rows += robustness_rows(name, definition, [entry[index] for entry in judged])
        progress("robustness", index + 1, len(named))
    report = make_report(
        judgements,
        model=f"{detector.path} ({detector.spec.model_id}, {detector.runtime})",
        data=data,
        split=split,
        threshold=detector.spec.threshold,
        robustness=rows,
        skipped=skipped,
        progress=progress,
    )
    return Evaluation(report, judgements)


def scores(
    detector: Detector,
    files: Sequence[str | os.PathLike[str]],
    *,
    changes: Sequence[Callable[[RGBImage], RGBImage]] = (),
    progress: Progress = silent,
) -> Iterator[Scores | Failure]:
    """Judge files, each as it is and under every change.

    Unlike :meth:`~edgedf.runtime.detector.Detector.detect_folder` it searches no folders, gives one
    answer a file, and keeps nothing but scores.

    Args:
        detector: The model; used from several threads.
        files: Paths; one that comes twice is judged twice.
        changes: Applied to the upright picture at its full size, each to the original.
        progress: Told about each file.

    Yields:
        In the order of the files: the scores, or a failure for one that cannot be read or changed.

    Raises:
        ArtifactUnreadable: The model fails at run time.
        ConfigError: The detector is closed.
    """

    def judge(file: str | os.PathLike[str]) -> Scores | Failure:
        try:
            if not changes:
                detection = detector.detect(file)
                return Scores((detection.score,), detection.damaged)
            (image, damaged), side = read_image(file), detector.spec.input.height
            # Prepared here, as a change may make a picture smaller than the detector takes.
            inputs = [prepare(image, side), *(prepare(change(image), side) for change in changes)]
        except ImageError as error:
            return Failure(os.fspath(file), error)
        except MemoryError:
            too_large = ImageTooLarge(
                "There is not enough memory for this image.", next_step="scale it down first"
            )
            return Failure(os.fspath(file), too_large)
        return Scores(tuple(detector.detect(pixels).score for pixels in inputs), damaged)

    with contextlib.closing(run_ahead(judge, files)) as answers:
        for done, answer in enumerate(answers, 1):
            progress("pictures", done, len(files))
            yield answer
