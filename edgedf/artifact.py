"""Model files with the spec inside: reading one before anything runs the model.

Beside the spec lies a seal, the SHA-256 of model and spec, so that a runtime is never handed a
file that is not as it was written: damaged weights answer wrongly without a word, and damaged
tables can take a process down. It is no signature: whoever changes a file on purpose can write
another one. Where spec and seal lie, each format's folder in :mod:`edgedf.formats` says.

Reading needs no runtime, so an untrusted file is looked at, size first, before a runtime is handed
it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgedf.errors import ArtifactUnreadable
from edgedf.formats import Format, ModelFormat, format_named, format_of
from edgedf.formats.container import CONVERT, CUT_OFF, OURS, no_model
from edgedf.spec import ModelSpec

__all__ = ["MAX_MODEL_BYTES", "Artifact", "ModelFormat", "embed", "read_artifact", "read_model"]

MAX_MODEL_BYTES = 512 * 1024 * 1024


@dataclass(frozen=True)
class Artifact:
    """A model file that was read, whose spec was checked and whose seal is right.

    Args:
        path: Where it lies.
        format: Name of its format, such as ``tflite``.
        model: The whole file.
        spec: Its spec.
    """

    path: Path
    format: ModelFormat
    model: bytes
    spec: ModelSpec


def read_artifact(path: str | Path) -> Artifact:
    """Read a model file and the spec inside it, and see that it is as it was written.

    Args:
        path: A model file; the content decides on its format, not the name.

    Returns:
        The artifact.

    Raises:
        ArtifactUnreadable: Not there, too large, cut off, no model, or without the right seal.
        SpecMissing: A model without an edgedf spec.
        SpecUnsupported: A spec from a newer edgedf or one that breaks its schema.
    """
    path = Path(path)
    data = _read(path)
    model_format = _recognised(data, path)
    embedded = model_format.read_spec(data, path)
    artifact = Artifact(path, model_format.name, data, ModelSpec.from_json(embedded.text))
    if not embedded.sealed:
        raise ArtifactUnreadable(
            f"{path} is not as edgedf wrote it: its checksum is wrong or missing.",
            expected=OURS,
            next_step=CUT_OFF,
        )
    return artifact


def read_model(path: str | Path) -> tuple[ModelFormat, bytes]:
    """Read a model file that may lack a spec.

    Args:
        path: A model file; the content decides on its format, not the name.

    Returns:
        Its format and the whole file.

    Raises:
        ArtifactUnreadable: Not there, too large, cut off, no model, or weights in another file.
    """
    path = Path(path)
    data = _read(path)
    model_format = _recognised(data, path)
    model_format.check(data, path)
    return model_format.name, data


def embed(model: bytes, model_format: ModelFormat, spec: ModelSpec) -> bytes:
    """The model with the spec and its seal, in place of those that it has.

    Args:
        model: A model file.
        model_format: Its format.
        spec: Spec to embed.

    Returns:
        The new file, the same bytes for the same arguments.
    """
    return format_named(model_format).embed(model, spec)


def _recognised(data: bytes, path: Path) -> Format:
    found = format_of(data)
    if found is None:
        raise no_model(path)
    return found


def _read(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise ArtifactUnreadable(f"{path} is a folder.", expected=OURS, next_step=CONVERT)
        if path.exists() and not path.is_file():  # reading one may never end
            raise ArtifactUnreadable(
                f"{path} is a device or a pipe, not a file.", expected=OURS, next_step=CONVERT
            )
        size = path.stat().st_size
        if size > MAX_MODEL_BYTES:
            raise ArtifactUnreadable(
                f"{path} has {size / 1e6:.0f} MB.",
                expected=f"at most {MAX_MODEL_BYTES / 1e6:.0f} MB",
                next_step=CONVERT,
            )
        data = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        raise ArtifactUnreadable(
            f"Cannot read {path}: {getattr(error, 'strerror', None) or error}.",
            expected=OURS,
            next_step=CONVERT,
        ) from error
    if not data:
        raise ArtifactUnreadable(f"{path} is empty.", expected=OURS, next_step=CUT_OFF)
    return data
