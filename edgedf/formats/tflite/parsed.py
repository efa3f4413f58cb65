"""A ``.tflite`` file, parsed once."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
from numpy.typing import NDArray

from edgedf.errors import ArtifactUnreadable
from edgedf.formats.base import Format, ModelGraph
from edgedf.formats.tflite.container import strip

__all__ = ["OPERATORS", "ParsedTFLite", "data_of", "operator_name", "packed"]

Made = TypeVar("Made", bound="ParsedTFLite")

OPERATORS: Mapping[int, str] = {
    value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)
}
"""Names of the built-in operators by their codes."""


class ParsedTFLite(ModelGraph):
    """The file and its flatbuffer, for the modules that read or edit it.

    Args:
        file: A ``.tflite`` file; what is appended to the flatbuffer is left out of :attr:`bare`.
        model_format: Of the file.
    """

    def __init__(self, file: bytes, model_format: Format) -> None:
        self.file, self.format = file, model_format
        self.bare = strip(file)

    @cached_property
    def flatbuffer(self) -> Any:
        """The parsed ``ModelT``, which nothing may change: :meth:`edited` gives a copy.

        Raises:
            ArtifactUnreadable: The flatbuffer is damaged.
        """
        try:
            return flatbuffer_utils.read_model_from_bytearray(bytearray(self.bare))
        except Exception as error:  # whatever a damaged table of offsets leads to
            raise ArtifactUnreadable(
                "The .tflite model is damaged.",
                expected="a float .tflite written by edgedf",
                next_step="copy or download it again, or export it again",
            ) from error

    def edited(self) -> Any:
        """A copy of :attr:`flatbuffer` to change; weights are shared until they are replaced."""
        arrays = (buffer.data for buffer in self.flatbuffer.buffers if buffer.data is not None)
        return deepcopy(self.flatbuffer, {id(data): data for data in arrays})

    def made(self: Made, file: bytes) -> Made:
        """A graph of a file that was made from this one."""
        return type(self)(file, self.format)


def operator_name(flatbuffer: Any, op: Any) -> str:
    """Such as ``CONV_2D``."""
    code = flatbuffer.operatorCodes[op.opcodeIndex]
    # Codes above 127 do not fit the old byte field; the larger of the two is the right one.
    return OPERATORS[max(code.builtinCode, code.deprecatedBuiltinCode)]


def data_of(flatbuffer: Any, tensor: Any) -> NDArray[np.uint8] | None:
    """The bytes of a constant; None for a tensor that an operator or a caller fills."""
    data = flatbuffer.buffers[tensor.buffer].data
    return None if data is None or len(data) == 0 else np.asarray(data, np.uint8)


def packed(flatbuffer: Any) -> bytes:
    """A parsed model as a file."""
    return bytes(flatbuffer_utils.convert_object_to_bytearray(flatbuffer))
