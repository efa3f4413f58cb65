"""Which pictures of a data set can be read, asked before hours go into the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgedf.ahead import run_ahead
from edgedf.distill.datasets.dataset import Sample
from edgedf.errors import ImageError
from edgedf.evaluation import Skipped, check_skipped
from edgedf.imaging import load_image
from edgedf.machine import available_cores
from edgedf.progress import Progress, silent

__all__ = ["Readable", "readable"]


@dataclass(frozen=True)
class Readable:
    """What can be used of some samples.

    Args:
        samples: Those whose pictures can be read, in their order.
        skipped: The others, and what is wrong with each.
    """

    samples: tuple[Sample, ...]
    skipped: tuple[Skipped, ...]


def readable(
    samples: Sequence[Sample],
    *,
    workers: int | None = None,
    progress: Progress = silent,
    step: str = "reading pictures",
) -> Readable:
    """Decode every picture once and part those that can be read from those that cannot.

    Decoding is the only test of a picture, and it is guarded: header, bytes and pixels are checked
    before (:mod:`edgedf.imaging`).

    Args:
        samples: The samples.
        workers: Threads; None for one a core.
        progress: Told about each picture.
        step: Name of the step for ``progress``.

    Raises:
        DataError: More than :data:`~edgedf.evaluation.MAX_SKIPPED` of them cannot be read.
    """
    good: list[Sample] = []
    skipped: list[Skipped] = []
    faults = run_ahead(_fault, samples, workers or available_cores())
    for done, (sample, fault) in enumerate(zip(samples, faults, strict=True), 1):
        if fault is None:
            good.append(sample)
        else:
            skipped.append(Skipped(str(sample.path), fault))
        progress(step, done, len(samples))
    check_skipped(skipped, len(samples))
    return Readable(tuple(good), tuple(skipped))


def _fault(sample: Sample) -> str | None:
    """What is wrong with a picture, as text: a traceback would hold what was decoded."""
    try:
        load_image(sample.path)
    except ImageError as error:
        return error.message
    return None
