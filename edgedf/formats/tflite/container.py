"""The spec inside a ``.tflite``: an associated file in a zip appended to the flatbuffer.

That is how TFLite metadata defines it; ``zipfile`` alone reads it and interpreters ignore it. The
seal is another associated file: the SHA-256 of the bytes in front of the zip followed by those of
the spec.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path

from edgedf.errors import ArtifactUnreadable, SpecUnsupported
from edgedf.formats.container import (
    CONVERT,
    CUT_OFF,
    MAX_SPEC_BYTES,
    OURS,
    Embedded,
    sha256,
    spec_missing,
)
from edgedf.spec import ModelSpec

__all__ = ["SEAL_FILE", "SPEC_FILE", "embed", "read_spec", "recognises", "strip"]

SPEC_FILE = "edgedf.json"
SEAL_FILE = "edgedf.sha256"

# Zip entries carry a date; a fixed one makes equal models equal files.
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)
# Ours is stored; other tools may have packed it again.
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
    RuntimeError,
    EOFError,
    ValueError,
)


def recognises(data: bytes) -> bool:
    """By the identifier of the flatbuffer's schema."""
    return data[4:8] == b"TFL3"


def embed(model: bytes, spec: ModelSpec) -> bytes:
    """The flatbuffer with the spec and the seal in an appended zip, in place of one there.

    Args:
        model: A ``.tflite`` file.
        spec: Spec to embed.

    Returns:
        The new file, the same bytes for the same arguments.
    """
    bare, text = strip(model), spec.to_json().encode()
    stream = io.BytesIO(bare)
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(SPEC_FILE, _ZIP_DATE), text)
        archive.writestr(zipfile.ZipInfo(SEAL_FILE, _ZIP_DATE), sha256(bare + text))
    return stream.getvalue()


def strip(model: bytes) -> bytes:
    """The flatbuffer without an appended zip."""
    if not zipfile.is_zipfile(io.BytesIO(model)):
        return model
    with zipfile.ZipFile(io.BytesIO(model)) as archive:
        first = min((entry.header_offset for entry in archive.infolist()), default=len(model))
    return model[:first]


def read_spec(data: bytes, path: Path) -> Embedded:
    """See :meth:`edgedf.formats.base.Format.read_spec`."""
    if not zipfile.is_zipfile(io.BytesIO(data)):
        raise spec_missing(path)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            text = _associated_file(archive, SPEC_FILE, path)
            if text is None:
                raise spec_missing(path)
            seal = _associated_file(archive, SEAL_FILE, path)
            return Embedded(text, seal == sha256(strip(data) + text))
    except _ZIP_ERRORS as error:
        raise ArtifactUnreadable(
            f"The metadata of {path} are damaged ({error}).", expected=OURS, next_step=CUT_OFF
        ) from error


def _associated_file(archive: zipfile.ZipFile, name: str, path: Path) -> bytes | None:
    try:
        entry = archive.getinfo(name)
    except KeyError:
        return None
    if entry.file_size > MAX_SPEC_BYTES:
        raise SpecUnsupported(
            f"{name} in {path} claims {entry.file_size / 1e6:.0f} MB.",
            expected=f"at most {MAX_SPEC_BYTES / 1e6:.0f} MB",
            next_step=CONVERT,
        )
    if entry.compress_type not in _ZIP_METHODS:
        raise NotImplementedError(f"{name} is compressed by an uncommon method")
    return archive.read(entry)
