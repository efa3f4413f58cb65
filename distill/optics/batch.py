"""Defocus maps of many images, over processes."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import cv2
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from edgedf.distill.optics.maps import (
    PhysicalProfile,
    Profile,
    ReferenceProfile,
    defocus_map,
    resolve_profile,
)
from edgedf.errors import ConfigError, DataError, EdgedfError
from edgedf.imaging import ImageSource, load_image, prepare
from edgedf.machine import available_cores
from edgedf.progress import Progress, silent

__all__ = ["MapResult", "defocus_maps", "worker_pool"]

MapResult = NDArray[np.float32] | EdgedfError

# Tasks in flight per worker: enough for none to wait for the next image, few enough to keep
# finished maps out of memory when the caller is slower than the workers.
_AHEAD = 3


def defocus_maps(
    sources: Sequence[ImageSource],
    profile: Profile | ReferenceProfile | PhysicalProfile = "physical",
    *,
    size: int | None = None,
    workers: int | None = None,
    progress: Progress = silent,
) -> Iterator[MapResult]:
    """Estimate the defocus maps of many images.

    Workers are processes started afresh, so a script that calls this needs the usual
    ``if __name__ == "__main__":``. Each computes on one thread.

    Args:
        sources: Paths, bytes of image files, or uint8 RGB arrays.
        profile: As for :func:`~edgedf.distill.optics.maps.defocus_map`.
        size: Side in pixels of the centre square that is measured
            (:func:`edgedf.imaging.prepare`); None measures the whole picture as it is.
        workers: Processes; None for one a core, 1 for none but this one.
        progress: Told of every image that is done.

    Returns:
        An iterator in the order of ``sources``, over the map, float32 sigma in pixels,
        (height, width), as :func:`~edgedf.distill.optics.maps.defocus_map` gives it; or, for an
        image that cannot be used, the error, with the rest going on. Closing it early stops the
        workers.

    Raises:
        ConfigError: No such profile; a ``size`` or ``workers`` below 1.
        DataError: While iterating: a worker died, as one does when memory runs out.

    Example:
        >>> flat = np.full((32, 48, 3), 128, np.uint8)
        >>> [result.shape for result in defocus_maps([flat, flat], workers=1)]
        [(32, 48), (32, 48)]
    """
    profile = resolve_profile(profile)
    if size is not None and size < 1:
        raise ConfigError(
            f"A size of {size} pixels is impossible.",
            expected="at least 1",
            next_step="leave it out to measure the whole picture",
        )
    if workers is not None and workers < 1:
        raise ConfigError(
            f"{workers} workers cannot do anything.",
            expected="at least 1",
            next_step="leave it out for one a core",
        )
    count = min(workers or available_cores(), len(sources))
    return _run(sources, profile, size, count, progress)


def _run(
    sources: Sequence[ImageSource],
    profile: ReferenceProfile | PhysicalProfile,
    size: int | None,
    workers: int,
    progress: Progress,
) -> Iterator[MapResult]:
    one_process = workers <= 1
    results = (
        (_measure(source, profile, size) for source in sources)
        if one_process
        else _pooled(sources, profile, size, workers)
    )
    step, total = "defocus maps", len(sources)
    progress(step, 0, total)
    for done, result in enumerate(results, 1):
        progress(step, done, total)
        yield result


def _pooled(
    sources: Sequence[ImageSource],
    profile: ReferenceProfile | PhysicalProfile,
    size: int | None,
    workers: int,
) -> Iterator[MapResult]:
    executor = worker_pool(workers)
    flying: deque[Future[MapResult]] = deque()
    try:
        for source in sources:
            if len(flying) >= workers * _AHEAD:
                yield flying.popleft().result()
            flying.append(executor.submit(_measure, source, profile, size))
        while flying:
            yield flying.popleft().result()
    except BrokenProcessPool as error:
        raise DataError(
            "A worker that computes defocus maps died.",
            expected="enough memory for every worker",
            next_step="run it again with fewer workers, or with smaller images",
        ) from error
    finally:
        executor.shutdown(cancel_futures=True)


def worker_pool(workers: int) -> ProcessPoolExecutor:
    """Processes that are started afresh: forking one with threads (OpenCV, BLAS, torch) can hang.

    Args:
        workers: How many, at least one.
    """
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload([__name__])  # imports happen once, not once a worker
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)


def _start_worker() -> None:
    """Make a process a worker: one thread, as there is one worker a core, deaf to interrupts."""
    cv2.setNumThreads(1)
    threadpool_limits(1)
    # An interrupt reaches the whole group of processes; the parent's answer to it is enough.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _measure(
    source: ImageSource, profile: ReferenceProfile | PhysicalProfile, size: int | None
) -> MapResult:
    try:
        image = load_image(source)
        return defocus_map(image if size is None else prepare(image, size), profile)
    except EdgedfError as error:
        return error
    except MemoryError:
        return DataError(
            "There is not enough memory for the defocus map of this image.",
            next_step="scale it down first, or use fewer workers",
        )
