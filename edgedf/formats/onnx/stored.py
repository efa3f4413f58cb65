"""Float ``.onnx`` models with smaller weights; arithmetic stays float32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgedf.formats.onnx.parsed import without_metadata

__all__ = ["to_fp16", "to_int8_weights"]

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def to_fp16(proto: Any) -> Any:
    """Store the weights as float16; a Cast in front of each use keeps the arithmetic float32.

    The same meaning as in TFLite. The casts have constant inputs, so a runtime does them once,
    while loading. float16 arithmetic would be slower on CPUs and is left to devices that have it.

    Args:
        proto: A float ``ModelProto``; changed in place.

    Returns:
        The same object, without a spec.
    """
    without_metadata(proto)
    casts = []
    for tensor, name, values in _weights(proto):
        with np.errstate(over="ignore"):  # what does not fit becomes infinite; the proof sees it
            halves = values.astype(np.float16)
        half = onnx.numpy_helper.from_array(halves, f"{name}_fp16")
        tensor.CopyFrom(half)
        casts.append(
            onnx.helper.make_node(
                "Cast", [half.name], [name], f"{name}_to_float", to=onnx.TensorProto.FLOAT
            )
        )
    return _beginning_with(casts, proto)


def to_int8_weights(proto: Any) -> Any:
    """Store the weights as int8 with one scale per output channel; arithmetic stays float32.

    A Cast and a Mul in front of each use turn them back. Their inputs are constant, so a runtime
    does it once, while loading; a DequantizeLinear would be kept for each run, which took ONNX
    Runtime twice as long as float.

    Args:
        proto: A float ``ModelProto``; changed in place.

    Returns:
        The same object, without a spec.
    """
    without_metadata(proto)
    nodes = []
    for tensor, name, values in _weights(proto):
        # The first axis of a convolution's weights is its output channel.
        largest = np.abs(values.reshape(len(values), -1)).max(axis=1)
        scales = np.where(largest > 0, largest / 127, 1.0).astype(np.float32)
        along = scales.reshape(-1, *[1] * (values.ndim - 1))
        whole = np.clip(np.rint(values / along), -127, 127).astype(np.int8)
        tensor.CopyFrom(onnx.numpy_helper.from_array(whole, f"{name}_int8"))
        proto.graph.initializer.append(onnx.numpy_helper.from_array(along, f"{name}_scale"))
        nodes += [
            onnx.helper.make_node(
                "Cast",
                [f"{name}_int8"],
                [f"{name}_float"],
                f"{name}_to_float",
                to=onnx.TensorProto.FLOAT,
            ),
            onnx.helper.make_node(
                "Mul", [f"{name}_float", f"{name}_scale"], [name], f"{name}_times_scale"
            ),
        ]
    return _beginning_with(nodes, proto)


def _weights(proto: Any) -> list[tuple[Any, str, NDArray[Any]]]:
    """The weights of convolutions and the like: tensor, name, values; no biases."""
    taken = {n for node in proto.graph.node if node.op_type in _WEIGHTED for n in node.input[:2]}
    return [
        (tensor, tensor.name, onnx.numpy_helper.to_array(tensor))
        for tensor in proto.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT
        and len(tensor.dims) > 1
        and tensor.name in taken
    ]


def _beginning_with(nodes: Sequence[Any], proto: Any) -> Any:
    """The model with these nodes before all others."""
    together = [*nodes, *proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(together)
    return proto
