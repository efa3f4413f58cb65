"""The spec inside a model file: writing it, and reading it before anything runs the model.

TFLite: an associated file named :data:`SPEC_FILE` in a zip appended to the flatbuffer, as TFLite
metadata defines it; ``zipfile`` alone reads it and interpreters ignore it. ONNX: one entry of
``metadata_props`` with the key :data:`SPEC_KEY`.

Beside the spec lies a seal, the SHA-256 of model and spec, so that a runtime is never handed a
file that is not as it was written: damaged weights answer wrongly without a word, and damaged
tables can take a process down. In TFLite it is the associated file :data:`SEAL_FILE`, of the bytes
in front of the zip followed by those of the spec. In ONNX it is the last entry of
``metadata_props``, with the key :data:`SEAL_KEY`, of all bytes in front of that entry. It is no
signature: whoever changes a file on purpose can write another one.

Reading needs neither a TFLite runtime nor onnx, so an untrusted file is looked at, size first,
before a runtime is handed it.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgedf.errors import ArtifactUnreadable, SpecMissing, SpecUnsupported
from edgedf.spec import ModelSpec

__all__ = [
    "MAX_MODEL_BYTES",
    "SEAL_FILE",
    "SEAL_KEY",
    "SPEC_FILE",
    "SPEC_KEY",
    "Artifact",
    "ModelFormat",
    "OnnxNode",
    "embed_onnx",
    "embed_tflite",
    "read_artifact",
    "read_bare_onnx",
    "read_model",
    "read_onnx_nodes",
    "strip_tflite",
]

ModelFormat = Literal["tflite", "onnx"]

SPEC_FILE = "edgedf.json"
SPEC_KEY = "edgedf"
SEAL_FILE = SEAL_KEY = "edgedf.sha256"
MAX_MODEL_BYTES = 512 * 1024 * 1024
MAX_SPEC_BYTES = 1024 * 1024

_OURS = "a .tflite or .onnx file written by edgedf convert"
_CONVERT = "make one with: edgedf convert"
_CUT_OFF = "copy or download it again, or convert again"
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


@dataclass(frozen=True)
class Artifact:
    """A model file that was read, whose spec was checked and whose seal is right.

    Args:
        path: Where it lies.
        format: ``tflite`` or ``onnx``.
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
        path: A ``.tflite`` or ``.onnx`` file; the content decides, not the name.

    Returns:
        The artifact.

    Raises:
        ArtifactUnreadable: Not there, too large, cut off, no model, or without the right seal.
        SpecMissing: A model without an edgedf spec.
        SpecUnsupported: A spec from a newer edgedf or one that breaks its schema.
    """
    path = Path(path)
    data = _read(path)
    if data[4:8] == b"TFL3":
        text, seal = _tflite_spec(data, path)
        artifact = Artifact(path, "tflite", data, ModelSpec.from_json(text))
        sealed = seal == _sha256(strip_tflite(data) + text)
    else:
        properties = _checked_properties(data, path)
        if SPEC_KEY not in properties:
            raise _spec_missing(path)
        artifact = Artifact(path, "onnx", data, ModelSpec.from_json(properties[SPEC_KEY]))
        sealed = data == _sealed_onnx(data[: -len(_onnx_seal(b""))])
    if not sealed:
        raise ArtifactUnreadable(
            f"{path} is not as edgedf wrote it: its checksum is wrong or missing.",
            expected=_OURS,
            next_step=_CUT_OFF,
        )
    return artifact


def read_model(path: str | Path) -> tuple[ModelFormat, bytes]:
    """Read a model file that may lack a spec.

    Args:
        path: A ``.tflite`` or ``.onnx`` file; the content decides, not the name.

    Returns:
        Its format and the whole file.

    Raises:
        ArtifactUnreadable: Not there, too large, cut off, no model, or weights in another file.
    """
    path = Path(path)
    data = _read(path)
    if data[4:8] == b"TFL3":
        return "tflite", data
    _checked_properties(data, path)
    return "onnx", data


def read_bare_onnx(path: str | Path) -> bytes:
    """Read somebody's ``.onnx`` without a spec.

    Args:
        path: The file.

    Raises:
        ArtifactUnreadable: As for :func:`read_model`, or it is no ``.onnx``, or has a spec of ours.
    """
    model_format, data = read_model(path)
    if model_format != "onnx" or SPEC_KEY in _onnx_properties(data):
        what = "is a .tflite model" if model_format != "onnx" else "carries a spec already"
        raise ArtifactUnreadable(
            f"{path} {what}, so it is not described.",
            expected="an .onnx model that edgedf did not write",
            next_step="leave the description out; or export the model as .onnx",
        )
    return data


def _checked_properties(data: bytes, path: Path) -> dict[str, str]:
    try:
        return _onnx_properties(data)
    except _WeightsElsewhere:
        raise ArtifactUnreadable(
            f"{path} keeps its weights in another file.",
            expected="one file that holds everything",
            next_step="write it with edgedf convert, or save it without external data",
        ) from None
    except ValueError:
        raise ArtifactUnreadable(
            f"{path} is no model, or it is cut off.", expected=_OURS, next_step=_CUT_OFF
        ) from None


def embed_tflite(model: bytes, spec: ModelSpec) -> bytes:
    """The flatbuffer with the spec and the seal in an appended zip, in place of one there.

    Args:
        model: A ``.tflite`` file.
        spec: Spec to embed.

    Returns:
        The new file, the same bytes for the same arguments.
    """
    bare, text = strip_tflite(model), spec.to_json().encode()
    stream = io.BytesIO(bare)
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(SPEC_FILE, _ZIP_DATE), text)
        archive.writestr(zipfile.ZipInfo(SEAL_FILE, _ZIP_DATE), _sha256(bare + text))
    return stream.getvalue()


def strip_tflite(model: bytes) -> bytes:
    """The flatbuffer without an appended zip."""
    if not zipfile.is_zipfile(io.BytesIO(model)):
        return model
    with zipfile.ZipFile(io.BytesIO(model)) as archive:
        first = min((entry.header_offset for entry in archive.infolist()), default=len(model))
    return model[:first]


def embed_onnx(model: bytes, spec: ModelSpec) -> bytes:
    """The ONNX model with the spec and the seal among its ``metadata_props``.

    Args:
        model: A serialized ``ModelProto``.
        spec: Spec to embed.

    Returns:
        The new serialized model; a spec already there is replaced.
    """
    import onnx

    proto = onnx.load_model_from_string(model)
    kept = {e.key: e.value for e in proto.metadata_props if e.key not in (SPEC_KEY, SEAL_KEY)}
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, {**kept, SPEC_KEY: spec.to_json()})
    return _sealed_onnx(proto.SerializeToString(deterministic=True))


@dataclass(frozen=True)
class OnnxNode:
    """One node of an ONNX graph.

    Args:
        name: Its own; may be empty.
        kind: Its operator, such as ``Conv``.
        inputs: Names of the tensors that it takes, weights included; empty ones for none.
        outputs: Names of those that it makes.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def read_onnx_nodes(model: bytes) -> tuple[OnnxNode, ...]:
    """The nodes of an ``.onnx`` model's graph in order; nothing needs to be installed for it.

    Args:
        model: A serialized ``ModelProto`` that :func:`read_model` or :func:`read_artifact` read.

    Raises:
        ArtifactUnreadable: It is cut off.
    """
    try:
        return tuple(
            _onnx_node(node)
            for field, graph in _protobuf_fields(model)
            if field == _GRAPH and graph is not None
            for number, node in _protobuf_fields(graph)
            if number == _NODE and node is not None
        )
    except ValueError as error:  # UnicodeDecodeError is one
        raise ArtifactUnreadable(
            "The graph of the .onnx model is damaged.", expected=_OURS, next_step=_CUT_OFF
        ) from error


def _onnx_node(data: memoryview) -> OnnxNode:
    texts: dict[int, list[str]] = {
        _NODE_INPUT: [],
        _NODE_OUTPUT: [],
        _NODE_NAME: [],
        _NODE_TYPE: [],
    }
    for number, value in _protobuf_fields(data):
        if number in texts and value is not None:
            texts[number].append(bytes(value).decode())
    return OnnxNode(
        "".join(texts[_NODE_NAME]),
        "".join(texts[_NODE_TYPE]),
        tuple(texts[_NODE_INPUT]),
        tuple(texts[_NODE_OUTPUT]),
    )


def _read(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise ArtifactUnreadable(f"{path} is a folder.", expected=_OURS, next_step=_CONVERT)
        if path.exists() and not path.is_file():  # reading one may never end
            raise ArtifactUnreadable(
                f"{path} is a device or a pipe, not a file.", expected=_OURS, next_step=_CONVERT
            )
        size = path.stat().st_size
        if size > MAX_MODEL_BYTES:
            raise ArtifactUnreadable(
                f"{path} has {size / 1e6:.0f} MB.",
                expected=f"at most {MAX_MODEL_BYTES / 1e6:.0f} MB",
                next_step=_CONVERT,
            )
        data = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        raise ArtifactUnreadable(
            f"Cannot read {path}: {getattr(error, 'strerror', None) or error}.",
            expected=_OURS,
            next_step=_CONVERT,
        ) from error
    if not data:
        raise ArtifactUnreadable(f"{path} is empty.", expected=_OURS, next_step=_CUT_OFF)
    return data


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()


def _sealed_onnx(model: bytes) -> bytes:
    """The model with the entry appended; protobuf takes fields in any order."""
    return model + _onnx_seal(_sha256(model))


def _onnx_seal(digest: bytes) -> bytes:
    """An entry of ``metadata_props``, as protobuf writes it; of the same length for any digest."""
    key = SEAL_KEY.encode()
    entry = b"\x0a%c%b\x12\x40%b" % (len(key), key, digest.ljust(64))
    return bytes([_METADATA_PROPS << 3 | 2, len(entry)]) + entry


def _spec_missing(path: Path) -> SpecMissing:
    return SpecMissing(
        f"{path} carries no edgedf spec, so its inputs and outputs are unknown.",
        expected=_OURS,
        next_step=f"{_CONVERT}; a file that had a spec has lost its end: copy it again",
    )


def _tflite_spec(data: bytes, path: Path) -> tuple[bytes, bytes]:
    """The spec's text, and the seal; an empty one where there is none."""
    if not zipfile.is_zipfile(io.BytesIO(data)):
        raise _spec_missing(path)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            text = _associated_file(archive, SPEC_FILE, path)
            if text is None:
                raise _spec_missing(path)
            return text, _associated_file(archive, SEAL_FILE, path) or b""
    except _ZIP_ERRORS as error:
        raise ArtifactUnreadable(
            f"The metadata of {path} are damaged ({error}).", expected=_OURS, next_step=_CUT_OFF
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
            next_step=_CONVERT,
        )
    if entry.compress_type not in _ZIP_METHODS:
        raise NotImplementedError(f"{name} is compressed by an uncommon method")
    return archive.read(entry)


# ONNX is one protobuf message (onnx.proto, ModelProto). Only its top level is walked here, with
# every length checked, so that a file cut anywhere is noticed without parsing the graph.
_METADATA_PROPS, _GRAPH = 14, 7
_NODE = 1  # of a GraphProto
_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME, _NODE_TYPE = 1, 2, 3, 4  # of a NodeProto
_INITIALIZER, _EXTERNAL_DATA = 5, 13  # of a GraphProto, of a TensorProto


def _has_external_data(graph: memoryview) -> bool:
    """Whether a weight lies in another file, which may be anywhere the model says."""
    return any(
        field == _EXTERNAL_DATA
        for number, tensor in _protobuf_fields(graph)
        if number == _INITIALIZER and tensor is not None
        for field, _ in _protobuf_fields(tensor)
    )


class _WeightsElsewhere(Exception):
    """An ONNX model with external data."""


def _onnx_properties(data: bytes) -> dict[str, str]:
    """``metadata_props`` of a serialized ``ModelProto``; ValueError when it is not one."""
    properties: dict[str, str] = {}
    has_graph = False
    for number, payload in _protobuf_fields(data):
        if number == _GRAPH and payload is not None:
            has_graph = True
            if _has_external_data(payload):
                raise _WeightsElsewhere
        elif number == _METADATA_PROPS and payload is not None:
            entry = dict(_protobuf_fields(payload))
            key, value = entry.get(1), entry.get(2)
            if key is None or value is None:
                raise ValueError("metadata entry without key or value")
            if len(value) <= MAX_SPEC_BYTES:
                properties[bytes(key).decode()] = bytes(value).decode()
    if not has_graph:
        raise ValueError("no graph")
    return properties


def _protobuf_fields(data: bytes | memoryview) -> Iterator[tuple[int, memoryview | None]]:
    """(field number, bytes of a length-delimited field or None) of one message, one by one."""
    view, at = memoryview(data), 0
    while at < len(view):
        tag, at = _varint(view, at)
        number, wire = tag >> 3, tag & 7
        payload: memoryview | None = None
        if number == 0:
            raise ValueError("field number 0")
        if wire == 0:
            _, at = _varint(view, at)
        elif wire == 2:
            length, at = _varint(view, at)
            payload = view[at : at + length]
            at += length
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if at > len(view):
            raise ValueError("cut off")
        yield number, payload


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(view):
            raise ValueError("cut off")
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("varint too long")
