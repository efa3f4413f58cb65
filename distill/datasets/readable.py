"""The pictures of a data set read by threads, with those that cannot be read set apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from edgedf.ahead import run_ahead
from edgedf.distill.datasets.dataset import Sample
from edgedf.errors import ImageError
from edgedf.evaluation import Skipped, check_skipped
from edgedf.imaging import load_image
from edgedf.machine import available_cores
from edgedf.progress import Progress, silent

__all__ = ["each_picture", "in_threads", "readable"]

T = TypeVar("T")
ResultT = TypeVar("ResultT")


def readable(
    samples: Sequence[Sample], *, progress: Progress = silent
) -> tuple[tuple[Sample, ...], tuple[Skipped, ...]]:
    """Decode every picture once, before hours go into the rest.

    Decoding is the only test of a picture, and it is guarded: header, bytes and pixels are checked
    before (:mod:`edgedf.imaging`).

    Args:
        samples: The samples.
        progress: Told about each picture.

    Returns:
        Those whose pictures can be read, in their order, and what is wrong with each other one.

    Raises:
        DataError: More than :data:`~edgedf.evaluation.MAX_SKIPPED` of them cannot be read.
    """

    def read(sample: Sample) -> Sample:
        load_image(sample.path)
        return sample

    good, skipped = each_picture(read, samples, step="reading pictures", progress=progress)
    check_skipped(skipped, len(samples))
    return tuple(good), skipped


def each_picture(
    read: Callable[[Sample], T],
    samples: Sequence[Sample],
    *,
    step: str,
    progress: Progress = silent,
) -> tuple[list[T], tuple[Skipped, ...]]:
    """What is read of each sample, in order, and what is wrong with the others.

    Args:
        read: Called in threads; raises :class:`~edgedf.errors.ImageError` where it cannot.
        samples: The samples.
        step: Name of the step for ``progress``.
        progress: Told about each picture.
    """

    def attempt(sample: Sample) -> T | Skipped:
        try:
            return read(sample)
        except ImageError as error:  # as text: a traceback would hold what was decoded
            return Skipped(str(sample.path), error.message)

    results = in_threads(attempt, samples, step=step, progress=progress)
    skipped = tuple(result for result in results if isinstance(result, Skipped))
    return [result for result in results if not isinstance(result, Skipped)], skipped


def in_threads(
    function: Callable[[T], ResultT], items: Sequence[T], *, step: str, progress: Progress = silent
) -> list[ResultT]:
    """Results of a function for each item, in order, computed by a thread a core.

    Args:
        function: Of an item.
        items: What it is called with.
        step: Name of the step for ``progress``.
        progress: Told about each item that is done.
    """
    results = []
    for result in run_ahead(function, items, available_cores()):
        results.append(result)
        progress(step, len(results), len(items))
    return results
