"""Pictures taken all the way, from a file's bytes to a verdict: what each step of it takes.

It is :meth:`edgedf.runtime.detector.Detector.detect` itself that is timed, not a copy of it. That
tells what decoding, preprocessing and inference took; all else it does, turning the model's two
outputs into a detection, is the difference to the whole.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from edgedf.image_header import read_header
from edgedf.runtime.detector import Detector
from edgedf.runtime.profile.events import PipelineTimes

__all__ = ["time_pipeline"]

_WARM_UP = 16
_LARGE_BYTES = 31 << 20


def time_pipeline(
    configuration: int, detector: Detector, pictures: Sequence[bytes], queries: int
) -> PipelineTimes:
    """Take pictures through all of a detector, one after the other, each in its turn.

    The bytes are in memory: reading a file depends on the disk and on what else was read.

    Args:
        configuration: Index of the configuration, for the event.
        detector: The model, open, with the number of threads that is asked about.
        pictures: Image files' bytes, at least one.
        queries: How many pictures are taken through it, at least 1; a few before do not count.

    Returns:
        Milliseconds of each step for each of them.

    Raises:
        ArtifactUnreadable: The model fails at run time.
        ImageError: A picture cannot be used.
    """
    sizes = [_megapixels(data) for data in pictures]
    _settle_allocator()
    for turn in range(_WARM_UP):
        detector.detect(pictures[turn % len(pictures)])
    rows: list[tuple[float, float, float, float]] = []
    for turn in range(queries):
        data = pictures[turn % len(pictures)]
        start = time.perf_counter_ns()
        timings = detector.detect(data).timings
        whole = (time.perf_counter_ns() - start) / 1e6
        steps = timings["decode"], timings["preprocess"], timings["inference"]
        rows.append((*steps, whole - sum(steps)))
    decode, preprocess, inference, postprocess = zip(*rows)
    return PipelineTimes(
        configuration,
        decode,
        preprocess,
        inference,
        postprocess,
        tuple(sizes[turn % len(sizes)] for turn in range(queries)),
    )


def _settle_allocator() -> None:
    """Let the C library keep what pictures take, as it does in a process that has run for a while.

    glibc gives large blocks back to the system at once, and pays for fresh pages each time, until
    it has seen a larger one freed (mallopt(3), M_MMAP_THRESHOLD: at most 32 MB). Otherwise the
    first model's decoding took twice as long as the second's.
    """
    np.empty(_LARGE_BYTES, np.uint8)


def _megapixels(data: bytes) -> float:
    header = read_header(data)
    return header.width * header.height / 1e6
