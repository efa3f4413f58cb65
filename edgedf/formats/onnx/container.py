"""The spec inside an ``.onnx``: an entry of ``metadata_props``, read and written without onnx.

ONNX is one protobuf message (onnx.proto, ModelProto). Only its top level is walked here, with every
length checked, so that a file cut anywhere is noticed without parsing the graph. The seal is the
last entry: the SHA-256 of all bytes in front of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgedf.errors import ArtifactUnreadable
from edgedf.formats.container import (
    CUT_OFF,
    MAX_SPEC_BYTES,
    OURS,
    Embedded,
    no_model,
    sha256,
    spec_missing,
)
from edgedf.spec import ModelSpec

__all__ = [
    "SEAL_KEY",
    "SPEC_KEY",
    "OnnxNode",
    "check",
    "embed",
    "has_spec",
    "read_onnx_nodes",
    "read_spec",
    "recognises",
]

SPEC_KEY = "edgedf"
SEAL_KEY = "edgedf.sha256"

_METADATA_PROPS, _GRAPH = 14, 7
_NODE = 1  # of a GraphProto
_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME, _NODE_TYPE = 1, 2, 3, 4  # of a NodeProto
_INITIALIZER, _EXTERNAL_DATA = 5, 13  # of a GraphProto, of a TensorProto


def recognises(data: bytes) -> bool:
    """Whether a file is a complete ``ModelProto`` with a graph."""
    try:
        _properties(data)
    except _WeightsElsewhere:
        return True
    except ValueError:
        return False
    return True


def check(data: bytes, path: Path) -> dict[str, str]:
    """See :meth:`edgedf.formats.base.Format.check`.

    Returns:
        ``metadata_props``.
    """
    try:
        return _properties(data)
    except _WeightsElsewhere:
        raise ArtifactUnreadable(
            f"{path} keeps its weights in another file.",
            expected="one file that holds everything",
            next_step="write it with edgedf convert, or save it without external data",
        ) from None
    except ValueError:
        raise no_model(path) from None


def has_spec(data: bytes) -> bool:
    """Whether a checked file carries a spec."""
    return SPEC_KEY in _properties(data)


def read_spec(data: bytes, path: Path) -> Embedded:
    """See :meth:`edgedf.formats.base.Format.read_spec`."""
    properties = check(data, path)
    if SPEC_KEY not in properties:
        raise spec_missing(path)
    return Embedded(properties[SPEC_KEY], data == _sealed(data[: -len(_seal(b""))]))


def embed(model: bytes, spec: ModelSpec) -> bytes:
    """The model with the spec and the seal among its ``metadata_props``.

    Args:
        model: A serialized ``ModelProto``.
        spec: Spec to embed.

    Returns:
        The new serialized model; a spec already there is replaced.
    """
    before: list[memoryview] = []
    kept: list[memoryview] = []
    behind: list[memoryview] = []
    for number, payload, raw in _fields(model):
        if number != _METADATA_PROPS:
            (before if number < _METADATA_PROPS else behind).append(raw)
        elif payload is not None and _entry(payload)[0] not in (SPEC_KEY, SEAL_KEY):
            kept.append(raw)
    own = _metadata(SPEC_KEY.encode(), spec.to_json().encode())
    return _sealed(b"".join((*before, *kept, own, *behind)))


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
        model: A serialized ``ModelProto`` that was checked.

    Raises:
        ArtifactUnreadable: It is cut off.
    """
    try:
        return tuple(
            _node(node)
            for field, graph, _ in _fields(model)
            if field == _GRAPH and graph is not None
            for number, node, _ in _fields(graph)
            if number == _NODE and node is not None
        )
    except ValueError as error:  # UnicodeDecodeError is one
        raise ArtifactUnreadable(
            "The graph of the .onnx model is damaged.", expected=OURS, next_step=CUT_OFF
        ) from error


def _node(data: memoryview) -> OnnxNode:
    texts: dict[int, list[str]] = {
        _NODE_INPUT: [],
        _NODE_OUTPUT: [],
        _NODE_NAME: [],
        _NODE_TYPE: [],
    }
    for number, value, _ in _fields(data):
        if number in texts and value is not None:
            texts[number].append(bytes(value).decode())
    return OnnxNode(
        "".join(texts[_NODE_NAME]),
        "".join(texts[_NODE_TYPE]),
        tuple(texts[_NODE_INPUT]),
        tuple(texts[_NODE_OUTPUT]),
    )


def _sealed(model: bytes) -> bytes:
    """The model with the entry appended; protobuf takes fields in any order."""
    return model + _seal(sha256(model))


def _seal(digest: bytes) -> bytes:
    """The seal's entry, of the same length for any digest."""
    return _metadata(SEAL_KEY.encode(), digest.ljust(64))


def _metadata(key: bytes, value: bytes) -> bytes:
    """An entry of ``metadata_props``, as protobuf writes it."""
    entry = b"\x0a" + _as_varint(len(key)) + key + b"\x12" + _as_varint(len(value)) + value
    return bytes([_METADATA_PROPS << 3 | 2]) + _as_varint(len(entry)) + entry


def _has_external_data(graph: memoryview) -> bool:
    """Whether a weight lies in another file, which may be anywhere the model says."""
    return any(
        field == _EXTERNAL_DATA
        for number, tensor, _ in _fields(graph)
        if number == _INITIALIZER and tensor is not None
        for field, _, _ in _fields(tensor)
    )


class _WeightsElsewhere(Exception):
    """An ONNX model with external data."""


def _properties(data: bytes) -> dict[str, str]:
    """``metadata_props`` of a serialized ``ModelProto``; ValueError when it is not one."""
    properties: dict[str, str] = {}
    has_graph = False
    for number, payload, _ in _fields(data):
        if number == _GRAPH and payload is not None:
            has_graph = True
            if _has_external_data(payload):
                raise _WeightsElsewhere
        elif number == _METADATA_PROPS and payload is not None:
            key, value = _entry(payload)
            if len(value) <= MAX_SPEC_BYTES:
                properties[key] = bytes(value).decode()
    if not has_graph:
        raise ValueError("no graph")
    return properties


def _entry(payload: memoryview) -> tuple[str, memoryview]:
    entry = {number: value for number, value, _ in _fields(payload)}
    key, value = entry.get(1), entry.get(2)
    if key is None or value is None:
        raise ValueError("metadata entry without key or value")
    return bytes(key).decode(), value


def _fields(
    data: bytes | memoryview,
) -> Iterator[tuple[int, memoryview | None, memoryview]]:
    """Number, payload of a length-delimited field or None, and all bytes, field by field."""
    view, at = memoryview(data), 0
    while at < len(view):
        start = at
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
        yield number, payload, view[start:at]


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


def _as_varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
