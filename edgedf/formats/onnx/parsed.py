"""An ``.onnx`` file, parsed once."""

from __future__ import annotations

from functools import cached_property
from typing import Any, TypeVar

import onnx
from google.protobuf.message import DecodeError

from edgedf.errors import ArtifactUnreadable
from edgedf.formats.base import Format, ModelGraph

__all__ = ["ParsedOnnx", "copied", "serialized", "without_metadata"]

Made = TypeVar("Made", bound="ParsedOnnx")


class ParsedOnnx(ModelGraph):
    """The file and its ``ModelProto``, for the modules that read or edit it.

    Args:
        file: A serialized ``ModelProto``.
        model_format: Of the file.
        proto: The same, parsed already.
    """

    def __init__(self, file: bytes, model_format: Format, proto: Any = None) -> None:
        self.file, self.format = file, model_format
        if proto is not None:
            self.proto = proto

    @cached_property
    def proto(self) -> Any:
        """The parsed ``ModelProto``, which nothing may change: :func:`copied` gives a copy.

        Raises:
            ArtifactUnreadable: The model is damaged.
        """
        try:
            found = onnx.load_model_from_string(self.file)
            onnx.checker.check_model(found)
        except (DecodeError, onnx.checker.ValidationError) as error:
            raise ArtifactUnreadable(
                "The .onnx model is damaged.",
                expected="a float .onnx written by edgedf",
                next_step="copy or download it again, or export it again",
            ) from error
        return found

    def made(self: Made, proto: Any) -> Made:
        """A graph of a model that was made from this one."""
        return type(self)(serialized(proto), self.format, proto)


def copied(proto: Any) -> Any:
    """A copy to change."""
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    return made


def serialized(proto: Any) -> bytes:
    """A model as a file, the same bytes for the same model."""
    return bytes(proto.SerializeToString(deterministic=True))


def without_metadata(proto: Any) -> Any:
    """Drop in place what tools note along the way: stack traces with paths, scopes, hints.

    Args:
        proto: An ``onnx.ModelProto``.

    Returns:
        The same object.
    """
    del proto.metadata_props[:]
    proto.doc_string = ""
    for part in (*proto.graph.node, *proto.graph.value_info, *proto.graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    return proto
