"""What is converted: the shipped student, a checkpoint, or a float model of ours."""

from __future__ import annotations

import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgedf.artifact import Artifact, read_artifact
from edgedf.errors import (
    ArtifactError,
    ArtifactUnreadable,
    CheckpointError,
    ConfigError,
    SpecMissing,
)
from edgedf.formats import REGISTRY, ModelFormat, ModelGraph, format_named, open_graph
from edgedf.progress import Progress, silent
from edgedf.quantize.models.pair import Model
from edgedf.quantize.models.run import Run, open_model
from edgedf.quantize.sources.description import Description
from edgedf.quantize.sources.learned_ranges import TensorRanges
from edgedf.quantize.sources.own_onnx import adopt
from edgedf.runtime import models as shipped
from edgedf.runtime.detector import naming
from edgedf.spec import ModelSpec

__all__ = [
    "SHIPPED_STEM",
    "Source",
    "load_source",
    "named_formats",
    "possible_formats",
    "stem_of",
]

SHIPPED_STEM = "student"

_SOURCES = "a checkpoint (.safetensors), or a float .tflite or .onnx written by edgedf"
_NEXT = "check the path, or leave it out to convert the student that edgedf carries"
_ABSENT = "does not exist"
_CHECKPOINT = ".safetensors"
_NO_FILE = "is not a file"


@dataclass(frozen=True, eq=False)
class Source:
    """Float models to convert, and what a conversion has to agree with.

    Args:
        description: Where they came from, in words.
        models: A float model per format, with its spec inside.
        specs: The specs.
        originals: Per format, the model that the conversion has to agree with: the checkpoint
            run by torch where there is one, else the float file.
        paths: Files that must not be overwritten.
        from_checkpoint: Whether torch ran.
        ranges: Activation ranges that the checkpoint learned, by format and tensor; nothing where
            it learned none.
        adopted: Whether it is somebody's own model, which the original is as it was.
    """

    description: str
    models: Mapping[ModelFormat, ModelGraph]
    specs: Mapping[ModelFormat, ModelSpec]
    originals: Mapping[ModelFormat, Run]
    paths: tuple[Path, ...]
    from_checkpoint: bool = False
    ranges: Mapping[ModelFormat, TensorRanges] = field(default_factory=dict)
    adopted: bool = False

    def original_name(self, model_format: ModelFormat) -> str:
        """What the original of that format is called in a report."""
        if self.adopted:
            return "the model as it was"
        return "checkpoint (torch)" if self.from_checkpoint else f"{model_format} fp32"

    def original(self, model_format: ModelFormat) -> Model:
        """The original of that format, to compare with."""
        return Model.from_run(
            self.original_name(model_format), self.specs[model_format], self.originals[model_format]
        )


def load_source(
    source: str | Path | None,
    formats: Sequence[ModelFormat] | None = None,
    *,
    describe: Description | None = None,
    progress: Progress = silent,
) -> Source:
    """Find and load what is to be converted.

    Args:
        source: A ``.safetensors`` checkpoint, a float ``.tflite`` or ``.onnx`` of ours, or None
            for the shipped student.
        formats: Formats wanted; None for all that the source can give.
        describe: For an ``.onnx`` of somebody's own: what its graph does not say.
        progress: Told about each step.

    Returns:
        The float models.

    Raises:
        ArtifactError: A model that cannot be used.
        CheckpointError: A checkpoint that cannot be used.
        ConfigError: The source is quantized already, or cannot give a format that is wanted.
        MissingExtra: torch is not installed and a checkpoint is to be exported.
    """
    if describe is not None:
        return _from_own(source, formats, describe)
    if source is None:
        artifacts = [read_artifact(_shipped_model(name)) for name in formats or REGISTRY]
        return _from_artifacts("the shipped student", artifacts)
    path = Path(source)
    if path.suffix.lower() == _CHECKPOINT:
        return _from_checkpoint(path, formats or tuple(REGISTRY), progress)
    if path.suffix.lower()[1:] not in REGISTRY:
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
    except SpecMissing as error:
        if format_named(path.suffix.lower()[1:]).takes_own:
            raise SpecMissing(
                error.message,
                expected="a model that edgedf wrote, or a description of your own",
                next_step="describe it: edgedf convert MODEL.onnx --describe model.toml",
            ) from error
        raise naming(path, error) from error
    except ArtifactError as error:
        raise naming(path, error) from error


def stem_of(source: str | Path | None) -> str:
    """Beginning of the names of what is made from a source.

    Raises:
        CheckpointError: The file system takes no such name.
    """
    if source is None:
        return SHIPPED_STEM
    path = Path(source)
    if path.suffix.lower() == _CHECKPOINT and _problem(path) not in (None, _ABSENT, _NO_FILE):
        raise _unusable(path)
    return path.stem.removesuffix("_fp32")


def possible_formats(source: str | Path | None) -> tuple[ModelFormat, ...]:
    """All formats that a source can give, by its name."""
    suffix = "" if source is None else Path(source).suffix.lower()
    return tuple(name for name in REGISTRY if suffix == f".{name}") or tuple(REGISTRY)


def named_formats(formats: Sequence[str] | None) -> tuple[ModelFormat, ...] | None:
    """The formats of these names, in our order; None stays None.

    Raises:
        ConfigError: There is no such format, or none was named.
    """
    if formats is None:
        return None
    for name in formats:
        format_named(name)
    if not formats:
        raise ConfigError(
            "No format was named.",
            expected=f"one of {', '.join(REGISTRY)}, or both",
            next_step="leave the formats out for all that the source can give",
        )
    return tuple(name for name in REGISTRY if name in formats)


def _unusable(path: Path) -> CheckpointError:
    return CheckpointError(
        f"The checkpoint {path} {_problem(path)}.", expected=_SOURCES, next_step=_NEXT
    )


def _problem(path: Path) -> str | None:
    """Why no file can be read there, in words; None where there is one."""
    try:
        is_file = stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return _ABSENT
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
    return _from_artifacts(str(path), [artifact])


def _from_own(
    source: str | Path | None, formats: Sequence[ModelFormat] | None, describe: Description
) -> Source:
    path = Path(source or "")
    own = path.suffix.lower()[1:]
    if own not in REGISTRY or not format_named(own).takes_own:
        raise ConfigError(
            f"Only an .onnx model is described, not {path if source else 'the shipped student'}.",
            expected="an .onnx model of your own",
            next_step="name it before --describe, or leave --describe out",
        )
    other = [name for name in formats or () if name != own]
    if other:
        raise ConfigError(
            f"A .{other[0]} model cannot be made from {path.name}.",
            expected=f"--to {own} for an .{own} model of your own",
            next_step=f"for .{other[0]}, put your weights into a student of ours (.safetensors)",
        )
    try:
        adopted = adopt(path, describe)
    except ArtifactError as error:
        raise naming(path, error) from error
    return Source(
        str(path),
        {own: open_graph(adopted.model, own)},
        {own: adopted.spec},
        {own: adopted.original},
        (path,),
        adopted=True,
    )


def _from_artifacts(description: str, artifacts: Sequence[Artifact]) -> Source:
    return Source(
        description,
        {a.format: open_graph(a.model, a.format) for a in artifacts},
        {a.format: a.spec for a in artifacts},
        {a.format: open_model(a.model, a.format, a.spec) for a in artifacts},
        tuple(a.path for a in artifacts),
    )


def _from_checkpoint(path: Path, formats: Sequence[ModelFormat], progress: Progress) -> Source:
    if _problem(path) is not None:
        raise _unusable(path)
    from edgedf.quantize.sources.export import export_checkpoint

    exported = export_checkpoint(path, formats, progress=progress)
    return Source(
        str(path),
        {name: open_graph(model, name) for name, model in exported.models.items()},
        exported.specs,
        dict.fromkeys(formats, exported.torch_run),
        (path,),
        from_checkpoint=True,
        ranges=exported.ranges,
    )
