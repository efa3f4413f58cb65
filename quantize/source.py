"""What is converted: the shipped student, a checkpoint, or a float model of ours."""

from __future__ import annotations

import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgedf.artifact import Artifact, ModelFormat, read_artifact
from edgedf.errors import ArtifactError, ArtifactUnreadable, CheckpointError, ConfigError
from edgedf.progress import Progress, silent
from edgedf.quantize.run import Run, open_model
from edgedf.runtime import models as shipped
from edgedf.runtime.detector import naming
from edgedf.spec import ModelSpec

__all__ = ["FORMATS", "SHIPPED_STEM", "Source", "load_source"]

FORMATS: tuple[ModelFormat, ...] = ("tflite", "onnx")
SHIPPED_STEM = "student"

_SOURCES = "a checkpoint (.safetensors), or a float .tflite or .onnx written by edgedf"
_NEXT = "check the path, or leave it out to convert the student that edgedf carries"
_NO_FILE = "is not a file"


@dataclass(frozen=True, eq=False)
class Source:
    """Float models to convert, and what a conversion has to agree with.

    Args:
        description: Where they came from, in words.
        stem: Beginning of the names of what is made from them.
        models: A float file per format, its spec inside.
        specs: The specs.
        originals: Per format, the model that the conversion has to agree with: the checkpoint
            run by torch where there is one, else the float file.
        paths: Files that must not be overwritten.
        from_checkpoint: Whether torch ran.
    """

    description: str
    stem: str
    models: Mapping[ModelFormat, bytes]
    specs: Mapping[ModelFormat, ModelSpec]
    originals: Mapping[ModelFormat, Run]
    paths: tuple[Path, ...]
    from_checkpoint: bool = False

    def original_name(self, model_format: ModelFormat) -> str:
        """What the original of that format is called in a report."""
        return "checkpoint (torch)" if self.from_checkpoint else f"{model_format} fp32"


def load_source(
    source: str | Path | None,
    formats: Sequence[ModelFormat] | None = None,
    *,
    progress: Progress = silent,
) -> Source:
    """Find and load what is to be converted.

    Args:
        source: A ``.safetensors`` checkpoint, a float ``.tflite`` or ``.onnx`` of ours, or None
            for the shipped student.
        formats: Formats wanted; None for all that the source can give.
        progress: Told about each step.

    Returns:
        The float models.

    Raises:
        ArtifactError: A model that cannot be used.
        CheckpointError: A checkpoint that cannot be used.
        ConfigError: The source is quantized already, or cannot give a format that is wanted.
        MissingExtra: torch is not installed and a checkpoint is to be exported.
    """
    if source is None:
        artifacts = [read_artifact(_shipped_model(name)) for name in formats or FORMATS]
        return _from_artifacts("the shipped student", SHIPPED_STEM, artifacts)
    path = Path(source)
    if path.suffix.lower() == ".safetensors":
        return _from_checkpoint(path, formats or FORMATS, progress)
    if path.suffix.lower() not in (".tflite", ".onnx"):
        problem = _problem(path)
        if problem not in (None, _NO_FILE):
            raise CheckpointError(f"{path} {problem}.", expected=_SOURCES, next_step=_NEXT)
        raise ConfigError(
            f"{path.name} is nothing that can be converted.",
            expected=_SOURCES,
            next_step="for a pickled checkpoint (.pt, .pth, .ckpt): save it as safetensors first",
        )
    try:
        artifact = read_artifact(path)
        return _from_file(artifact, formats or (artifact.format,))
    except ArtifactError as error:
        raise naming(path, error) from error


def _problem(path: Path) -> str | None:
    """Why no file can be read there, in words; None where there is one."""
    try:
        is_file = stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return "does not exist"
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        return f"cannot be read: {getattr(error, 'strerror', None) or error}"
    return None if is_file else _NO_FILE


def _shipped_model(model_format: ModelFormat) -> Path:
    try:
        return shipped.shipped_model(model_format)
    except ArtifactUnreadable as error:
        raise ArtifactUnreadable(
            error.message,
            expected=error.expected,
            next_step="install edgedf again, or name a checkpoint: edgedf convert my.safetensors",
        ) from error


def _from_file(artifact: Artifact, formats: Sequence[ModelFormat]) -> Source:
    path, spec = artifact.path, artifact.spec
    if spec.precision != "fp32":
        raise ConfigError(
            f"{path} is {spec.precision} already.",
            expected="a model of precision fp32: quantizing twice adds the errors up",
            next_step="convert the float model or the checkpoint it was made from",
        )
    if spec.input.dtype != "uint8":
        raise ConfigError(
            f"{path} takes {spec.input.dtype} input.",
            expected="a model that takes uint8, which every input type is made from",
            next_step="convert it from its checkpoint without --io, then that file",
        )
    other = [name for name in formats if name != artifact.format]
    if other:
        raise ConfigError(
            f"A .{other[0]} model cannot be made from {path.name}.",
            expected=f"--to {artifact.format} for this source",
            next_step="convert the .safetensors checkpoint, which gives every format",
        )
    return _from_artifacts(str(path), path.stem.removesuffix("_fp32"), [artifact])


def _from_artifacts(description: str, stem: str, artifacts: Sequence[Artifact]) -> Source:
    return Source(
        description,
        stem,
        {a.format: a.model for a in artifacts},
        {a.format: a.spec for a in artifacts},
        {a.format: open_model(a.model, a.format, a.spec) for a in artifacts},
        tuple(a.path for a in artifacts),
    )


def _from_checkpoint(path: Path, formats: Sequence[ModelFormat], progress: Progress) -> Source:
    problem = _problem(path)
    if problem is not None:
        raise CheckpointError(
            f"The checkpoint {path} {problem}.", expected=_SOURCES, next_step=_NEXT
        )
    from edgedf.quantize.export import export_checkpoint

    exported = export_checkpoint(path, formats, progress=progress)
    return Source(
        str(path),
        path.stem,
        exported.models,
        exported.specs,
        dict.fromkeys(formats, exported.torch_run),
        (path,),
        from_checkpoint=True,
    )
