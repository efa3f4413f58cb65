"""The program that measures, on whatever machine it is started.

``python -m edgedf.runtime.profile.worker REQUEST.json`` reads a
:class:`~edgedf.runtime.profile.request.Request` and writes events to standard output, one a line,
and nothing else; what libraries have to say goes to standard error. With ``--until-stdin-closes``
it ends as soon as whoever started it is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import cv2

from edgedf import typed_json
from edgedf.artifact import read_artifact
from edgedf.errors import ConfigError, DeviceError, EdgedfError
from edgedf.formats import format_named, open_backend
from edgedf.formats.backend import Backend
from edgedf.imaging import RGBImage, load_image, prepare, read_image_bytes
from edgedf.machine import this_machine
from edgedf.precision import PRECISIONS
from edgedf.runtime.detector import Detector
from edgedf.runtime.profile.cold_start import cold_start
from edgedf.runtime.profile.events import (
    Emit,
    Event,
    Failed,
    Finished,
    Loaded,
    Progressed,
    Started,
    to_line,
)
from edgedf.runtime.profile.monitor import Monitor
from edgedf.runtime.profile.pipeline import time_pipeline
from edgedf.runtime.profile.request import Configuration, Request
from edgedf.runtime.profile.sampling import Timed, block_length, block_seconds, rounds, warm_up
from edgedf.runtime.profile.settle import settle
from edgedf.spec import check_tensors

__all__ = ["main", "measure"]

_MISTAKE, _TERMINATED = 2, 128 + signal.SIGTERM
_MOST_REQUEST_BYTES = 1 << 20
_STATE_EVERY_S = 1.0
_SUSTAINED_BLOCK_S = 1.0
_PATIENCE_S = 5.0


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what a file asks for, and write events.

    Args:
        argv: Arguments after the program's name; None for those of the process.

    Returns:
        0, or 2 for a request that cannot be used.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    watching = "--until-stdin-closes" in arguments
    paths = [argument for argument in arguments if argument != "--until-stdin-closes"]
    signal.signal(signal.SIGTERM, _leave)
    if watching:
        threading.Thread(target=_watch, name="edgedf-watch", daemon=True).start()
    # Whatever else is written to standard output, by natives too, must not be among the events.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)

        def emit(event: Event) -> None:
            out.write(to_line(event) + "\n")
            out.flush()

        try:
            measure(_request(paths), emit)
        except BrokenPipeError:  # nobody listens any more
            os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
            return _MISTAKE
        except EdgedfError as error:
            emit(Failed.of(error))
            return _MISTAKE
    return 0


def measure(request: Request, emit: Emit) -> None:
    """Measure what a request asks for.

    Args:
        request: Models, photographs, numbers of threads, and how long.
        emit: Takes the events, in this thread.

    Raises:
        ConfigError: The request makes no sense.
        ImageError: A photograph cannot be used.
    """
    _Worker(request, emit).go()


@dataclass(frozen=True)
class _Open:
    """A configuration whose model is in memory."""

    index: int
    path: Path
    threads: int
    side: int
    backend: Backend


class _Worker:
    def __init__(self, request: Request, emit: Emit) -> None:
        self._request, self._effort, self._emit = request, request.effort, emit
        self._started = time.monotonic()
        self._monitor = Monitor(self._started)
        self._state_at = self._progress_at = 0.0
        self._files = [read_image_bytes(image) for image in request.images]
        self._decoded: list[RGBImage] = []
        self._prepared: dict[int, list[RGBImage]] = {}

    def go(self) -> None:
        self._emit(Started(this_machine()))
        self._decoded = [load_image(data) for data in self._files]
        with contextlib.ExitStack() as stack:
            opened = []
            for index, configuration in enumerate(self._request.configurations):
                with self._failing(index, "load"):
                    model = self._load(index, configuration)
                    stack.callback(model.backend.close)
                    opened.append(model)
            self._cold_starts(opened)
            timed = {one.index: self._timed(one) for one in opened}
            medians = self._warm_up(opened, timed)
            warm = [one for one in opened if one.index in medians]
            self._measured(warm, timed, medians)
            for one in warm:
                self._whole_pictures(one)
            for one in warm:
                self._operators(one)
            self._sustained(warm[:1], timed, medians)
        self._state()
        self._emit(Finished())

    def _load(self, index: int, configuration: Configuration) -> _Open:
        path = Path(self._request.models[configuration.model])
        artifact = read_artifact(path)
        backend = open_backend(artifact.model, artifact.format, threads=configuration.threads)
        check_tensors(artifact.spec, backend.inputs, backend.outputs)
        in_integers = PRECISIONS[artifact.spec.precision].integer
        kernels = backend.int8_kernels if in_integers else None
        self._emit(Loaded(index, f"{backend.name} {backend.version}", kernels))
        side = artifact.spec.input.height
        if side not in self._prepared:
            self._prepared[side] = [prepare(image, side) for image in self._decoded]
        return _Open(index, path, configuration.threads, side, backend)

    def _cold_starts(self, opened: Sequence[_Open]) -> None:
        times = self._effort.cold_starts
        for at, one in enumerate(opened):
            image = self._prepared[one.side][0]
            with self._failing(one.index, "cold start"):
                for time_ in range(times):
                    self._emit(cold_start(one.index, one.path, one.threads, image))
                    self._progress("cold starts", at * times + time_ + 1, times * len(opened))

    def _timed(self, one: _Open) -> Timed:
        return Timed(one.index, one.backend.run, self._prepared[one.side])

    def _warm_up(self, opened: Sequence[_Open], timed: dict[int, Timed]) -> dict[int, float]:
        """Milliseconds of an inference, of each configuration that runs."""
        medians = {}
        for at, one in enumerate(opened):
            with self._failing(one.index, "warm-up"):
                settle()
                warmed, median_ms = warm_up(timed[one.index], self._effort.warm_up_seconds)
                self._emit(warmed)
                medians[one.index] = median_ms
                self._progress("warm-up", at + 1, len(opened))
        return medians

    def _measured(
        self, warm: Sequence[_Open], timed: dict[int, Timed], medians: dict[int, float]
    ) -> None:
        spent = {one.index: 0.0 for one in warm}
        counts = {one.index: 0 for one in warm}
        seconds, queries = self._effort.seconds, self._effort.queries
        self._state()
        long = block_seconds(medians.values())
        blocks = rounds(
            [timed[one.index] for one in warm],
            [block_length(medians[one.index], long) for one in warm],
            queries=queries,
            seconds=seconds,
            started=self._started,
        )
        for block in blocks:
            self._emit(block)
            spent[block.configuration] += sum(block.times_ms) / 1e3
            counts[block.configuration] += len(block.times_ms)
            self._state_if_due()
            done = [
                min(counts[one] / queries, spent[one] / seconds if seconds else 1.0, 1.0)
                for one in counts
            ]
            self._progress("latency", int(1000 * sum(done)), 1000 * len(done))
        self._state()

    def _whole_pictures(self, one: _Open) -> None:
        queries = self._effort.pipeline_queries
        if not queries:
            return
        with self._failing(one.index, "pipeline"):
            settle()
            before = cv2.getNumThreads()
            # As many for decoding and resizing as for the model: else "one thread" is not one.
            cv2.setNumThreads(one.threads)
            try:
                with Detector(one.path, threads=one.threads) as detector:
                    self._emit(time_pipeline(one.index, detector, self._files, queries))
            finally:
                cv2.setNumThreads(before)
        self._state_if_due()

    def _operators(self, one: _Open) -> None:
        queries = self._effort.operator_queries
        if not queries:
            return
        with self._failing(one.index, "operators"):
            settle()
            images = self._prepared[one.side]
            artifact = read_artifact(one.path)
            timer = format_named(artifact.format).time_operators
            self._emit(timer(one.index, artifact.model, one.threads, images, queries))
        self._state_if_due()

    def _sustained(
        self, first: Sequence[_Open], timed: dict[int, Timed], medians: dict[int, float]
    ) -> None:
        seconds = self._effort.sustained_seconds
        if not seconds or not first:
            return
        one = first[0].index
        with self._failing(one, "sustained"):
            begun = time.monotonic()
            length = block_length(medians[one], _SUSTAINED_BLOCK_S)
            blocks = rounds(
                [timed[one]],
                [length],
                queries=0,
                seconds=seconds,
                started=self._started,
                phase="sustained",
            )
            for block in blocks:
                self._emit(block)
                self._state_if_due()
                done = min(time.monotonic() - begun, seconds)
                self._progress("sustained, seconds", round(done), round(seconds))

    @contextlib.contextmanager
    def _failing(self, index: int, step: str) -> Iterator[None]:
        """What fails of one configuration is said, and the rest goes on."""
        try:
            yield
        except EdgedfError as error:
            self._emit(Failed.of(error, index, step))
        except MemoryError:
            problem = DeviceError(
                "There is not enough memory.",
                expected="memory for the model and its buffers",
                next_step="close what else runs there, or measure fewer models at a time",
            )
            self._emit(Failed.of(problem, index, step))
        except BrokenPipeError:  # nobody reads the events any more
            raise
        except Exception as unexpected:
            traceback.print_exc()  # of a mistake of ours all the others' figures are none the worse
            problem = DeviceError(
                f"An unexpected {type(unexpected).__name__}: {unexpected}.",
                next_step="report it, with what the worker wrote to standard error",
            )
            self._emit(Failed.of(problem, index, step))

    def _state(self) -> None:
        self._emit(self._monitor.state())
        self._state_at = time.monotonic()

    def _state_if_due(self) -> None:
        if time.monotonic() - self._state_at >= _STATE_EVERY_S:
            self._state()

    def _progress(self, step: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done >= total or now - self._progress_at >= _STATE_EVERY_S:
            self._progress_at = now
            self._emit(Progressed(step, done, total))


def _request(paths: Sequence[str]) -> Request:
    if len(paths) != 1:
        raise ConfigError(f"The worker got {len(paths)} files.", expected="the path of one request")
    try:
        with Path(paths[0]).open("rb") as stream:
            data = stream.read(_MOST_REQUEST_BYTES + 1)
        if len(data) > _MOST_REQUEST_BYTES:
            raise ValueError(f"it has more than {_MOST_REQUEST_BYTES} bytes")
        request = typed_json.decode(Request, json.loads(data))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"The request {paths[0]} cannot be used: {error}.",
            expected="a JSON file that edgedf profile wrote",
            next_step="start workers with edgedf profile",
        ) from error
    if not (request.models and request.images and request.threads) or min(request.threads) < 1:
        raise ConfigError(
            "The request asks for nothing.",
            expected="models, photographs, and numbers of threads from 1",
        )
    return request


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def _watch() -> None:
    """End the process when standard input does."""
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_PATIENCE_S)  # for an inference to end, and for children
    os._exit(_TERMINATED)


if __name__ == "__main__":
    sys.exit(main())
