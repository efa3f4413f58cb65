"""An artifact and its parent, opened side by side."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgedf.artifact import Artifact, ModelFormat, read_artifact
from edgedf.errors import ConfigError
from edgedf.imaging import RGBImage
from edgedf.machine import available_cores
from edgedf.metrics import logit
from edgedf.precision import PRECISIONS
from edgedf.quantize.models.run import Run, open_model
from edgedf.runtime.detector import Detector
from edgedf.runtime.models import shipped_model
from edgedf.spec import ModelSpec

__all__ = ["Answer", "Model", "Pair", "as_answer", "open_pair", "reference_of", "shipped_parent"]

Answer = Callable[[RGBImage], tuple[float, NDArray[np.float32]]]
"""uint8 RGB (N, N, 3) → logit, and defocus map (N / 4, N / 4) in pixels; both finite.

Raises ArtifactUnreadable where the model fails.
"""

_CHECKPOINT = ".safetensors"


@dataclass(frozen=True, eq=False)
class Model:
    """A model, ready to answer.

    Args:
        name: Which one, for people.
        spec: Its spec.
        answer: Runs it on one picture.
        format: Of its file; None for a checkpoint.
        reference: Opens the same file so that it answers by the arithmetic that the file describes,
            whatever the processor; None for a model that computes in float.
    """

    name: str
    spec: ModelSpec
    answer: Answer
    format: ModelFormat | None = None
    reference: Callable[[], Answer] | None = None

    @classmethod
    def from_run(cls, name: str, spec: ModelSpec, run: Run) -> Model:
        """A model that is not a file, such as one that was just made.

        Args:
            name: Which one, for people.
            spec: Its spec.
            run: As :func:`edgedf.quantize.models.run.open_model` gives it.
        """
        return cls(name, spec, as_answer(run))

    @classmethod
    def from_file(
        cls, name: str, spec: ModelSpec, file: bytes, model_format: ModelFormat, *, threads: int = 1
    ) -> Model:
        """A model of which the file is in memory, such as one that was just made.

        Args:
            name: Which one, for people.
            spec: Its spec.
            file: A ``.tflite`` or ``.onnx`` file.
            model_format: Which of the two.
            threads: For the runtime.

        Raises:
            EdgedfError: As :func:`edgedf.quantize.models.run.open_model`.
        """
        run = open_model(file, model_format, spec, threads=threads)
        return cls(name, spec, as_answer(run), model_format, reference_of(file, model_format, spec))


@dataclass(frozen=True, eq=False)
class Pair:
    """Two models that answer the same question about the same input.

    Args:
        artifact: The model under test.
        parent: What it has to agree with.

    Raises:
        ConfigError: They take inputs or give maps of different sizes.
    """

    artifact: Model
    parent: Model

    def __post_init__(self) -> None:
        shapes = [
            (spec.input.height, spec.input.width, *spec.output("defocus_map").shape[1:3])
            for spec in (self.artifact.spec, self.parent.spec)
        ]
        if shapes[0] != shapes[1]:
            (height, width, *dense), (other_height, other_width, *other_dense) = shapes
            raise ConfigError(
                f"{self.artifact.name} takes {height} x {width} pixels and gives a map of "
                f"{dense[0]} x {dense[1]}; {self.parent.name} takes {other_height} x {other_width} "
                f"and gives {other_dense[0]} x {other_dense[1]}.",
                expected="an artifact and the model that it was made from",
                next_step="name its parent with --against",
            )

    @property
    def same_checkpoint(self) -> bool:
        """Whether both say in their specs that they were made from the same checkpoint."""
        return self.artifact.spec.parent_sha256 == self.parent.spec.parent_sha256


def as_answer(run: Run) -> Answer:
    """A function that gives outputs by name as one that gives a logit and a map."""

    def answer(pixels: RGBImage) -> tuple[float, NDArray[np.float32]]:
        outputs = run(pixels)
        return float(outputs["fake_logit"][0]), outputs["defocus_map"]

    return answer


def reference_of(
    file: bytes, model_format: ModelFormat, spec: ModelSpec
) -> Callable[[], Answer] | None:
    """Opens a file for the reference arithmetic; None for one that computes in float.

    Args:
        file: A ``.tflite`` or ``.onnx`` file.
        model_format: Which of the two.
        spec: Its spec.
    """
    if not PRECISIONS[spec.precision].integer:
        return None
    return lambda: as_answer(
        open_model(file, model_format, spec, threads=available_cores(), reference=True)
    )


@contextlib.contextmanager
def open_pair(
    artifact: str | Path, against: str | Path | None = None, *, threads: int | None = None
) -> Iterator[Pair]:
    """Open an artifact and its parent.

    Args:
        artifact: A ``.tflite`` or ``.onnx`` file of ours.
        against: Its parent: another such file, or a ``.safetensors`` checkpoint (which torch runs);
            None for the float export that edgedf carries.
        threads: For each runtime; None for one a core, at most four.

    Yields:
        The two, closed at the end of the block.

    Raises:
        ArtifactError: One of the files cannot be used.
        CheckpointError: The checkpoint cannot be used.
        ConfigError: No parent is given and the artifact was not made from the student that edgedf
            carries; or the two do not fit.
        MissingExtra: What runs one of them is not installed.
    """
    with contextlib.ExitStack() as stack:
        tested = stack.enter_context(Detector(artifact, threads=threads))
        path = shipped_parent(read_artifact(tested.path)) if against is None else Path(against)
        if path.suffix.lower() == _CHECKPOINT:
            parent = _from_checkpoint(path)
        else:
            parent = _from_detector(stack.enter_context(Detector(path, threads=threads)))
        yield Pair(_from_detector(tested), parent)


def shipped_parent(artifact: Artifact) -> Path:
    """The float export of the same format that edgedf carries.

    Args:
        artifact: A model.

    Raises:
        ConfigError: The model was not made from the student that edgedf carries.
    """
    path = shipped_model(artifact.format)
    if read_artifact(path).spec.parent_sha256 != artifact.spec.parent_sha256:
        raise ConfigError(
            f"{artifact.path} was not made from the student that edgedf carries.",
            expected="the float model or the checkpoint it was made from",
            next_step="name it: --against PARENT",
        )
    return path


def _from_detector(detector: Detector) -> Model:
    def answer(pixels: RGBImage) -> tuple[float, NDArray[np.float32]]:
        detection = detector.detect(pixels)
        return logit(detection.score), detection.defocus_map

    name = f"{detector.path} ({detector.spec.model_id}, {detector.runtime})"
    artifact = read_artifact(detector.path)
    reference = reference_of(artifact.model, artifact.format, artifact.spec)
    return Model(name, detector.spec, answer, artifact.format, reference)


def _from_checkpoint(path: Path) -> Model:
    from edgedf.quantize.sources.export import run_checkpoint

    spec, run = run_checkpoint(path)
    return Model.from_run(f"{path} ({spec.model_id}, torch)", spec, run)
