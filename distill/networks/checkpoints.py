"""Students and teachers as ``.safetensors`` files, with what is to be said of them as metadata.

Nothing in a file is executed, and whatever is wrong with one is said before it is used.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import safetensors
import torch
from safetensors.torch import save
from torch import Tensor

from edgedf import typed_json
from edgedf.distill.networks.layers import MEAN, STD
from edgedf.distill.networks.student import Student
from edgedf.distill.networks.teacher import Teacher
from edgedf.distill.settings import StudentConfig, TeacherConfig
from edgedf.errors import CheckpointError, EdgedfError
from edgedf.files import write_bytes

__all__ = ["fingerprint", "load_checkpoint", "load_teacher", "save_checkpoint", "save_teacher"]

T = TypeVar("T")


class _Kind(NamedTuple):
    """What a file of weights may be."""

    name: str
    file: str
    metadata_key: str
    version: int
    most_bytes: int
    writer: str

    @property
    def again(self) -> str:
        return f"run `{self.writer}` again, or use the edgedf that wrote it"


STUDENT = _Kind("student", "checkpoint", "edgedf", 2, 64 * 1024 * 1024, "edgedf distill train")
TEACHER = _Kind(
    "teacher", "teacher", "edgedf-teacher", 2, 256 * 1024 * 1024, "edgedf distill teach"
)


def save_checkpoint(path: str | Path, student: Student, metadata: Mapping[str, Any]) -> Path:
    """Write a student to a ``.safetensors`` file, whole or not at all.

    Args:
        path: Where to.
        student: What.
        metadata: JSON-compatible facts (name, version, thresholds, training data, accuracy);
            ``format_version``, ``architecture`` and ``input`` are added here.

    Returns:
        The path.

    Raises:
        CheckpointError: A weight is not finite.
        OutputError: The file cannot be written.
    """
    size = {"input": {"size": student.config.input_size, "mean": [MEAN] * 3, "std": [STD] * 3}}
    return _write(path, STUDENT, student.state_dict(), student.config, {**metadata, **size})


def load_checkpoint(path: str | Path) -> tuple[Student, dict[str, Any]]:
    """Read a student written by :func:`save_checkpoint`.

    Args:
        path: A ``.safetensors`` file.

    Returns:
        The student in evaluation mode, and the metadata.

    Raises:
        CheckpointError: No such file, a pickle, cut off, too large, not ours, from a newer edgedf,
            with missing, unknown or misshapen weights, or with weights that are not finite.
    """
    metadata, state = _read(Path(path), STUDENT)
    student = Student(_config(StudentConfig, path, STUDENT, metadata))
    _check_weights(path, STUDENT, student.state_dict(), state)
    if not (state["deviation"] > 0).all():
        raise CheckpointError(
            f"A deviation in {path} is not above 0.",
            expected="positive deviations, which statistics are divided by",
            next_step=STUDENT.again,
        )
    student.load_state_dict(state)
    return student.eval(), metadata


def save_teacher(path: str | Path, teacher: Teacher, metadata: Mapping[str, Any]) -> Path:
    """Write a teacher to a ``.safetensors`` file, whole or not at all.

    Encoders are ImageNet's and are not written.

    Args:
        path: Where to.
        teacher: What.
        metadata: JSON-compatible facts.

    Raises:
        CheckpointError: A weight is not finite.
        OutputError: The file cannot be written.
    """
    return _write(path, TEACHER, teacher.own_weights(), teacher.config, metadata)


def load_teacher(path: str | Path) -> tuple[Teacher, dict[str, Any]]:
    """Read a teacher written by :func:`save_teacher`.

    Returns:
        The teacher with ImageNet's encoders, and the metadata with ``sha256``, its
        :func:`fingerprint`, added.

    Raises:
        CheckpointError: As :func:`load_checkpoint`.
        MissingExtra: The package with the ImageNet weights is not installed.
    """
    metadata, state = _read(Path(path), TEACHER)
    try:
        teacher = Teacher(_config(TeacherConfig, path, TEACHER, metadata))
    except EdgedfError as error:
        raise _foreign(path, TEACHER, error) from error
    _check_weights(path, TEACHER, teacher.own_weights(), state)
    teacher.load_state_dict(state, strict=False)
    teacher.load_imagenet()
    return teacher.eval(), {**metadata, "sha256": fingerprint(teacher)}


def fingerprint(teacher: Teacher) -> str:
    """Hash of what a teacher judges by, to key its outputs in a cache."""
    digest = hashlib.sha256(json.dumps(asdict(teacher.config), sort_keys=True).encode())
    for name, value in sorted(teacher.own_weights().items()):
        digest.update(name.encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


def _write(
    path: str | Path,
    kind: _Kind,
    weights: Mapping[str, Tensor],
    config: StudentConfig | TeacherConfig,
    metadata: Mapping[str, Any],
) -> Path:
    state = {name: tensor.detach().contiguous() for name, tensor in weights.items()}
    _check_finite(path, state)
    version = {"format_version": kind.version, "architecture": typed_json.encode(config)}
    described = json.dumps({**metadata, **version}, sort_keys=True)
    return write_bytes(path, save(state, {kind.metadata_key: described}))


def _read(path: Path, kind: _Kind) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Metadata and weights of a file of this kind and of this version."""
    expected = f"a .safetensors file written by `{kind.writer}`"
    try:
        _check_container(path, kind, expected)
        with safetensors.safe_open(str(path), framework="pt") as file:
            text = (file.metadata() or {}).get(kind.metadata_key)
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise CheckpointError(
            f"Cannot read the {kind.file} {path}: {error.strerror or error}.",
            expected=expected,
            next_step="check the path and its permissions",
        ) from error
    except safetensors.SafetensorError as error:
        raise CheckpointError(
            f"{path} is cut off or damaged: {error}.",
            expected=expected,
            next_step="copy or download it again",
        ) from error
    if text is None:
        raise CheckpointError(
            f"{path} holds weights, but not of an edgedf {kind.name}.",
            expected=f"safetensors metadata with the key '{kind.metadata_key}'",
            next_step=f"name a file that `{kind.writer}` wrote",
        )
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"The metadata of {path} is not JSON: {error}.",
            expected=f"what `{kind.writer}` writes",
            next_step="copy or download it again",
        ) from error
    version = metadata.get("format_version") if isinstance(metadata, dict) else None
    if version != kind.version:
        newer = isinstance(version, int) and version > kind.version
        raise CheckpointError(
            f"{path} has {kind.file} format {version}.",
            expected=f"format {kind.version}",
            next_step="pip install --upgrade edgedf" if newer else kind.again,
        )
    return metadata, state


def _check_container(path: Path, kind: _Kind, expected: str) -> None:
    """Refuse what is no safetensors file before anything parses it."""
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise OSError(22, "it is not a file")
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(8)
    # A pickle runs code when it is loaded; torch.save writes one, inside a zip since 1.6.
    if zipfile.is_zipfile(path) or (len(head) > 1 and head[0] == 0x80 and head[1] <= 5):
        raise CheckpointError(
            f"{path} is a pickle, which can run any code when it is loaded.",
            expected=expected,
            next_step="where it was made: load it there and write it with "
            f"{__name__}.save_checkpoint",
        )
    if size > kind.most_bytes:
        raise CheckpointError(
            f"{path} has {size / 1e6:.0f} MB.",
            expected=f"a {kind.name} of at most {kind.most_bytes / 1e6:.0f} MB",
            next_step=f"name the {kind.name}'s own file, not that of a whole run",
        )


def _config(cls: type[T], path: str | Path, kind: _Kind, metadata: Mapping[str, Any]) -> T:
    try:
        return typed_json.decode(cls, metadata.get("architecture"))
    except (EdgedfError, ValueError, TypeError) as error:
        raise _foreign(path, kind, error) from error


def _foreign(path: str | Path, kind: _Kind, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"The architecture in {path} is none of ours: {error}",
        expected=f"that of a {kind.name} of this edgedf",
        next_step=kind.again,
    )


def _check_weights(
    path: str | Path, kind: _Kind, wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]
) -> None:
    missing, unknown = sorted(set(wanted) - set(given)), sorted(set(given) - set(wanted))
    if missing or unknown:
        parts = [
            f"{title} {', '.join(names[:3])}{f' and {len(names) - 3} more' * (len(names) > 3)}"
            for title, names in (("missing", missing), ("unknown", unknown))
            if names
        ]
        raise CheckpointError(
            f"The weights in {path} are not those of its architecture: {'; '.join(parts)}.",
            expected=f"{len(wanted)} tensors such as {next(iter(wanted))}",
            next_step=kind.again,
        )
    for name, tensor in wanted.items():
        if given[name].shape != tensor.shape or given[name].dtype != tensor.dtype:
            raise CheckpointError(
                f"{name} in {path} is {given[name].dtype} {tuple(given[name].shape)}.",
                expected=f"{tensor.dtype} {tuple(tensor.shape)}",
                next_step=kind.again,
            )
    _check_finite(path, given)


def _check_finite(path: str | Path, state: Mapping[str, Tensor]) -> None:
    for name, tensor in state.items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(
                f"{name} of {path} holds values that are not finite.",
                expected="finite weights",
                next_step="go back to an earlier checkpoint; training has diverged",
            )
