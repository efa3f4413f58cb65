"""What ``edgedf profile`` is given, and what it says."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgedf.cli._tables import section_parts, shown, verdict_text
from edgedf.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from edgedf.runtime.profile.against import Comparison
    from edgedf.runtime.profile.devices.base import Job
    from edgedf.runtime.profile.document import ModelAccuracy, Profile

__all__ = ["accuracies_of", "chosen_images", "chosen_models", "job_of", "show"]

_MOST_IMAGES = 64  # all are decoded before the work and stay in memory
_MOST_THREADS = 256
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_LONGEST_S = 86_400.0


def job_of(
    models: Sequence[Path],
    images: Sequence[Path],
    *,
    threads: str,
    quick: bool,
    queries: int | None,
    seconds: float | None,
    sustained: str | None,
    pipeline: bool,
    operators: bool,
) -> Job:
    """What to measure, from the options as they were typed.

    Raises:
        ConfigError: A number makes no sense.
    """
    from dataclasses import replace

    from edgedf.runtime.profile.devices.base import Job
    from edgedf.runtime.profile.request import FULL, QUICK

    effort = QUICK if quick else FULL
    effort = replace(
        effort,
        queries=queries or effort.queries,
        seconds=seconds or effort.seconds,
        pipeline_queries=effort.pipeline_queries if pipeline else 0,
        operator_queries=effort.operator_queries if operators else 0,
        sustained_seconds=0.0 if sustained is None else _duration(sustained),
    )
    return Job(tuple(models), tuple(images), _thread_counts(threads), effort)


def chosen_models(models: Sequence[Path]) -> list[Path]:
    """The models that were named; else what ``edgedf convert`` left here, else the shipped one.

    Raises:
        ArtifactUnreadable: The installed package has lost its student.
        MissingExtra: Nothing was named and no runtime is installed.
    """
    if models:
        return list(models)
    from edgedf.runtime.models import CONVERTED, default_model, runnable_formats

    converted = [Path(f"{CONVERTED}.{name}") for name in runnable_formats()]
    return [path for path in converted if path.is_file()] or [default_model()]


def chosen_images(place: str | None, of_sample: int) -> tuple[list[Path], str]:
    """Photographs to show, and where they come from.

    Raises:
        DataError: The shipped sample is damaged.
        ImageError: There is no image at ``place``.
    """
    if place is None:
        import edgedf.sample

        photos = [image.path for image in edgedf.sample.images() if image.label == "real"]
        return photos[:of_sample], "photographs of the shipped sample"
    from itertools import islice

    from edgedf.imaging import read_image_bytes
    from edgedf.runtime.folder import Failure, find_images

    paths = []
    for image in islice(find_images(place), _MOST_IMAGES):
        if isinstance(image, Failure):
            raise image.error
        read_image_bytes(image)  # now, so that a mistyped name costs no measurement
        paths.append(Path(image))
    return paths, place


def accuracies_of(files: Sequence[Path], data: Path | None) -> tuple[list[ModelAccuracy], str]:
    """Whether each of some files is accurate enough to be shipped, and what that is judged by.

    Args:
        files: Of one student.
        data: Folder of labelled pictures; None for what is on record.

    Raises:
        EdgedfError: The files or the pictures cannot be used.
    """
    from edgedf.quantize.accuracy.standing import files_of_one_student, on_pictures, on_record

    opened = files_of_one_student(files)
    if data is None:
        return on_record(opened), "what the files say of themselves"
    from edgedf.cli._console import StepProgress, quiet_but_for_progress
    from edgedf.cli._pictures import labelled_pictures
    from edgedf.quantize.accuracy.verify import Gate

    with quiet_but_for_progress(), StepProgress() as progress:
        chosen = labelled_pictures(data, "auto", None, (), progress)
        gate = Gate(chosen.pictures, data=str(data), split=chosen.split)
        accuracies = on_pictures(opened, gate, progress=progress)
    return accuracies, f"{len(chosen.pictures):,} pictures of {data}, split {chosen.split}"


def _thread_counts(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    counts = [int(part) for part in parts if re.fullmatch(r"\d{1,4}", part)]
    good = len(counts) == len(parts) and all(1 <= n <= _MOST_THREADS for n in counts)
    if not good or len(set(counts)) < len(counts):
        raise ConfigError(
            f"--threads {text} cannot be used.",
            expected=f"different numbers from 1 to {_MOST_THREADS} with commas between",
            next_step="for one, two and four threads: --threads 1,2,4",
        )
    return tuple(counts)


def _duration(text: str) -> float:
    parts = re.fullmatch(r"(\d{1,9}(?:\.\d{1,3})?)\s*(s|m|min|h)?", text.strip())
    seconds = float(parts[1]) * _UNITS[parts[2] or ""] if parts else 0.0
    if not 0 < seconds <= _LONGEST_S:
        raise ConfigError(
            f"--sustained {text} is no time that can be used.",
            expected="a number with s, m or h, at most 24h",
            next_step="for half an hour: --sustained 30m",
        )
    return seconds


def show(profile: Profile, comparison: Comparison | None) -> None:
    """Print a profile, and what has changed, on standard output."""
    from edgedf.cli._console import new_console

    console = new_console()
    for part in _parts(profile, comparison):
        console.print(part)


def _parts(profile: Profile, comparison: Comparison | None) -> Iterator[RenderableType]:
    from edgedf.runtime.profile.report import wording

    for run in profile.devices:
        yield shown(wording.device_line(run), "bold")
        if run.problem is not None:
            yield shown(wording.problem_line(run.problem), "bold red")
        yield from section_parts(wording.sections(profile, run))
    if comparison is not None:
        yield from section_parts(wording.compared(comparison))
        yield verdict_text(comparison.verdict, wording.verdict_line(comparison))
    yield shown(wording.standing(profile))
