"""From a model file and a photograph to a verdict."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from edgedf.ahead import run_ahead
from edgedf.artifact import read_artifact
from edgedf.errors import (
    ArtifactError,
    ConfigError,
    EdgedfError,
    ImageTooLarge,
    KernelsSaturate,
    SpecUnsupported,
)
from edgedf.formats import open_backend
from edgedf.imaging import STEPS, ImageSource, RGBImage, prepare, read_image
from edgedf.int8_kernels import EXACT_INT8
from edgedf.machine import available_cores
from edgedf.precision import PRECISIONS
from edgedf.result import Detection
from edgedf.runtime.folder import Failure, Place, find_images
from edgedf.spec import ModelSpec, check_tensors

__all__ = ["Detector", "naming"]

_MAX_THREADS = 256


class Detector:
    """A model, ready to judge photographs. The model file is all it needs.

    An instance may be shared by threads: decoding runs in parallel, the model under one lock.

    Args:
        path: A ``.tflite`` or ``.onnx`` file that ``edgedf convert`` wrote.
        threads: For the runtime's operators; None for one per core, at most four.

    Attributes:
        path: The file.
        spec: Its spec.
        runtime: Package and version that run it, such as ``ai-edge-litert 2.3.0``.
        threads: Threads given to the runtime.
        int8_kernels: How the runtime multiplies int8 on this processor; None for a model that
            computes in float.

    Raises:
        ArtifactUnreadable: No such file, damaged, or refused by the runtime.
        ConfigError: ``threads`` is no usable number.
        KernelsSaturate: The runtime would compute this int8 model wrongly on this processor.
        MissingExtra: The runtime for this format is not installed.
        SpecMismatch: The model's tensors are not those of its spec.
        SpecMissing: The file carries no spec.
        SpecUnsupported: The spec is from a newer edgedf or breaks its schema.

    Example:
        >>> import edgedf.sample
        >>> from edgedf.runtime.models import default_model
        >>> with Detector(default_model()) as detector:
        ...     detection = detector.detect(edgedf.sample.images()[0])
        >>> detection.label in ("real", "fake", "unsure"), detection.defocus_map.shape
        (True, (64, 64))
    """

    def __init__(self, path: str | os.PathLike[str], *, threads: int | None = None) -> None:
        self.path = Path(path)
        self.threads = min(4, available_cores()) if threads is None else threads
        _check_threads(self.threads)
        try:
            artifact = read_artifact(self.path)
            backend = open_backend(artifact.model, artifact.format, threads=self.threads)
            check_tensors(artifact.spec, backend.inputs, backend.outputs)
            _check_steps(artifact.spec)
            in_integers = PRECISIONS[artifact.spec.precision].integer
            kernels = backend.int8_kernels if in_integers else None
            if kernels == "saturating":
                raise _saturates(f"{backend.name} {backend.version}")
        except ArtifactError as error:
            raise naming(self.path, error) from error
        self.spec: ModelSpec = artifact.spec
        self.runtime = f"{backend.name} {backend.version}"
        self.int8_kernels = kernels
        self._model_id = f"{artifact.spec.model_id} {artifact.format}"
        self._backend = backend
        self._lock = threading.Lock()
        self._closed = False

    def detect(self, source: ImageSource) -> Detection:
        """Judge one photograph.

        Args:
            source: A path, the bytes of an image file, or a uint8 RGB array (height, width, 3).

        Returns:
            The verdict, with the time that decoding, preprocessing and inference took.

        Raises:
            ArtifactUnreadable: The model fails at run time.
            ConfigError: The detector is closed.
            ImageError: The image cannot be used.

        Example:
            >>> import numpy as np
            >>> from edgedf.runtime.models import default_model
            >>> grey = np.full((300, 400, 3), 128, np.uint8)
            >>> sorted(Detector(default_model()).detect(grey).timings)
            ['decode', 'inference', 'preprocess']
        """
        return self._judge(self._prepare(source))

    def detect_batch(self, sources: Iterable[ImageSource]) -> list[Detection]:
        """Judge several photographs; the next ones are decoded while the model runs.

        Args:
            sources: As for :meth:`detect`.

        Returns:
            One detection per source, in order.

        Raises:
            EdgedfError: As :meth:`detect`, at the first source that cannot be used; or
                ``sources`` is a single path or file.

        Example:
            >>> import edgedf.sample
            >>> from edgedf.runtime.models import default_model
            >>> len(Detector(default_model()).detect_batch(edgedf.sample.images()[:3]))
            3
        """
        if isinstance(sources, (str, bytes, os.PathLike)):
            raise ConfigError(
                "detect_batch got a single image.",
                expected="several: a list of paths, bytes or arrays",
                next_step="use detect for one image, detect_folder for a folder",
            )
        detections = []
        with contextlib.closing(self._stream(iter(sources))) as results:
            for result in results:
                if isinstance(result, Failure):
                    raise result.error
                detections.append(result)
        return detections

    def detect_folder(self, places: Place | Iterable[Place]) -> Iterator[Detection | Failure]:
        """Judge every image in a folder, one after the other.

        Images are found and decoded as the iteration goes, so a folder may be of any size.

        Args:
            places: A folder, a file, a pattern, or several of them: see
                :func:`edgedf.runtime.folder.find_images`.

        Yields:
            A detection per image; a :class:`~edgedf.runtime.folder.Failure` for one that cannot
            be used, after which the iteration goes on.

        Raises:
            ArtifactUnreadable: The model fails at run time.
            ConfigError: The detector is closed.

        Example:
            >>> import edgedf.sample
            >>> from edgedf.runtime.models import default_model
            >>> results = Detector(default_model()).detect_folder(edgedf.sample.folder())
            >>> next(results).source.endswith(".jpg")
            True
        """
        return self._stream(find_images(places))

    def close(self) -> None:
        """Free the model. Closing twice is harmless."""
        with self._lock:
            self._closed = True
            self._backend.close()

    def __enter__(self) -> Detector:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Detector({str(self.path)!r}, {self._model_id}, {self.runtime})"

    def _stream(
        self, sources: Iterator[ImageSource | Failure]
    ) -> Generator[Detection | Failure, None, None]:
        """Decode ahead in threads, judge in this one; results in the order of the sources."""
        with contextlib.closing(run_ahead(self._prepare_or_failure, sources)) as prepared:
            for item in prepared:
                yield item if isinstance(item, Failure) else self._judge(item)

    def _prepare_or_failure(self, source: ImageSource | Failure) -> _Prepared | Failure:
        if isinstance(source, Failure):
            return source
        try:
            return self._prepare(source)
        except EdgedfError as error:
            return Failure(_name_of(source), error)

    def _prepare(self, source: ImageSource) -> _Prepared:
        start = time.perf_counter()
        try:
            image, damaged = read_image(source)
            decoded = time.perf_counter()
            pixels = prepare(image, self.spec.input.height)
        except MemoryError as error:
            raise ImageTooLarge(
                "There is not enough memory for this image.", next_step="scale it down first"
            ) from error
        ready = time.perf_counter()
        return _Prepared(_name_of(source), pixels, decoded - start, ready - decoded, damaged)

    def _judge(self, prepared: _Prepared) -> Detection:
        with self._lock:
            if self._closed:
                raise ConfigError("The detector is closed.", next_step="open a new Detector")
            start = time.perf_counter()
            fake_logit, defocus_map = self._backend.run(prepared.pixels)
            inference = time.perf_counter() - start
        timings = {
            "decode": 1e3 * prepared.decode_s,
            "preprocess": 1e3 * prepared.preprocess_s,
            "inference": 1e3 * inference,
        }
        return Detection.from_outputs(
            fake_logit,
            defocus_map,
            self.spec.threshold,
            self._model_id,
            timings=timings,
            source=prepared.source,
            runtime=self.runtime,
            int8_kernels=self.int8_kernels,
            damaged=prepared.damaged,
        )


class _Prepared(NamedTuple):
    """An image on its way to the model."""

    source: str
    pixels: RGBImage
    decode_s: float
    preprocess_s: float
    damaged: bool


def _check_threads(threads: int) -> None:
    if not isinstance(threads, int) or not 1 <= threads <= _MAX_THREADS:
        raise ConfigError(
            f"Cannot run with {threads!r} threads.",
            expected=f"a number from 1 to {_MAX_THREADS}",
            next_step="leave it out for one a core, at most four",
        )


def _saturates(runtime: str) -> KernelsSaturate:
    return KernelsSaturate(
        f"{runtime} saturates products of int8 on this processor, so this model would answer "
        "wrongly.",
        expected="a build of onnxruntime 1.20 or newer that obeys "
        + ", ".join(f"{name} = {value}" for name, value in EXACT_INT8.items()),
        next_step="upgrade onnxruntime, or run the .tflite file, which is exact everywhere",
    )


def _check_steps(spec: ModelSpec) -> None:
    steps = tuple(step.step for step in spec.preprocessing)
    if steps != STEPS:
        raise SpecUnsupported(
            f"The model's spec wants the preprocessing {', '.join(steps)}.",
            expected=", ".join(STEPS),
            next_step="upgrade edgedf, or convert the model again",
        )


def _name_of(source: ImageSource) -> str:
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else ""


def naming(path: Path, error: ArtifactError) -> ArtifactError:
    """The same error, with the model file's path in the message."""
    if str(path) in error.message:
        return error
    return type(error)(
        f"{path}: {error.message}", expected=error.expected, next_step=error.next_step
    )
