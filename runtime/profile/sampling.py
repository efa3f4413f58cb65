"""Latency of single inferences, in blocks, by turns.

Configurations take turns block by block and not inference by inference: after every switch the
caches hold the other model, which is not how a model runs in an app. The first inferences of a
block are left out for the same reason; they also outlast the threads of the model before, which
ONNX Runtime keeps spinning for a moment when it is done.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from edgedf.imaging import RGBImage
from edgedf.runtime.profile.events import Block, Phase, WarmedUp

__all__ = ["BLOCK_SECONDS", "LEAD_IN", "Timed", "block_length", "rounds", "timed", "warm_up"]

BLOCK_SECONDS = 0.2
"""How long a block takes; long enough that what is left out is little, short enough for drift."""

LEAD_IN = 3
"""Inferences at the head of a block that do not count."""

_LEAST_IN_BLOCK = 4
_MOST_IN_BLOCK = 4096
_WINDOW_SECONDS = 0.05
_WINDOWS = 4
_STEADY = 0.03  # medians of the last windows within 3 %


@dataclass(frozen=True)
class Timed:
    """A model that is timed.

    Args:
        configuration: Index of the configuration.
        run: Runs it on one image.
        images: Prepared pictures, at least one, shown in turn.
    """

    configuration: int
    run: Callable[[RGBImage], object]
    images: Sequence[RGBImage]


def timed(subject: Timed, first: int, count: int, *, lead_in: int = 0) -> list[float]:
    """Time inferences in a row.

    Nothing but the inference is between two looks at the clock. Python's garbage collector waits
    until the end: its pauses are not the model's.

    Args:
        subject: What to run.
        first: Number of the image that comes first.
        count: Inferences that count.
        lead_in: Inferences before them that do not.

    Returns:
        Milliseconds of each.
    """
    run, clock = subject.run, time.perf_counter_ns
    images = [subject.images[(first + at) % len(subject.images)] for at in range(count)]
    taken = [0] * count
    collecting = gc.isenabled()
    gc.disable()
    try:
        for at in range(lead_in):
            run(images[at % count])
        for at, image in enumerate(images):
            start = clock()
            run(image)
            taken[at] = clock() - start
    finally:
        if collecting:
            gc.enable()
    return [round(nanoseconds / 1e6, 5) for nanoseconds in taken]


def warm_up(subject: Timed, seconds: float) -> tuple[WarmedUp, float]:
    """Run a model until its latency is steady: the last windows' medians within 3 %.

    Args:
        subject: What to run.
        seconds: When to give up.

    Returns:
        How it went, and the median of the last window in milliseconds.
    """
    medians: list[float] = []
    queries, begun = 0, time.monotonic()
    while True:
        window: list[float] = []
        while len(window) < 3 or sum(window) < 1e3 * _WINDOW_SECONDS:
            window += timed(subject, queries + len(window), 1)
        queries += len(window)
        medians = [*medians, median(window)][-_WINDOWS:]
        taken = time.monotonic() - begun
        steady = len(medians) == _WINDOWS and max(medians) <= (1 + _STEADY) * min(medians)
        if steady or taken >= seconds:
            warmed = WarmedUp(subject.configuration, queries, round(taken, 4), steady)
            return warmed, medians[-1]


def block_length(median_ms: float, seconds: float = BLOCK_SECONDS) -> int:
    """Inferences that fill a block.

    Args:
        median_ms: Of one inference.
        seconds: How long the block shall take.
    """
    least, most = 1e3 * seconds / _MOST_IN_BLOCK, _MOST_IN_BLOCK
    return max(math.ceil(1e3 * seconds / median_ms), _LEAST_IN_BLOCK) if median_ms > least else most


def rounds(
    subjects: Sequence[Timed],
    lengths: Sequence[int],
    *,
    queries: int,
    seconds: float,
    started: float,
    phase: Phase = "measured",
) -> Iterator[Block]:
    """Blocks by turns, until every model has had enough of both.

    A model that has enough leaves; a round is a block of each of the others.

    Args:
        subjects: The models.
        lengths: Inferences in a block, of each.
        queries: Inferences, at least, of each.
        seconds: Time in these, at least, of each.
        started: Zero of ``at_s`` on the monotonic clock.
        phase: Of the blocks.

    Yields:
        A block as soon as it is over.
    """
    counts, spent = [0] * len(subjects), [0.0] * len(subjects)
    number = 0
    while True:
        left = [
            at for at in range(len(subjects)) if counts[at] < queries or spent[at] < 1e3 * seconds
        ]
        if not left:
            return
        for at in left:
            subject = subjects[at]
            lead_in = LEAD_IN if len(left) > 1 or not counts[at] else 0
            begun = time.monotonic() - started
            times = timed(subject, counts[at], lengths[at], lead_in=lead_in)
            counts[at] += len(times)
            spent[at] += sum(times)
            yield Block(subject.configuration, number, round(begun, 4), tuple(times), phase)
        number += 1
