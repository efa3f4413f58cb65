"""Float layers inside a quantized ``.onnx``: what keeps ONNX Runtime from quantizing them."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["CURVE_PREFIX", "SHIELD_SUFFIX", "shield_floats"]

CURVE_PREFIX = "edgedf_curve_"
"""Begins the names of nodes that make a probability and its logit of a few values: they compute in
float whatever the precision, as integers would leave both too few steps."""

SHIELD_SUFFIX = "_kept"
"""Of what a shield makes."""

# Layers that ONNX Runtime quantizes of its own accord.
_WITH_WEIGHTS = ("Conv", "ConvTranspose", "Gemm")


def shield_floats(proto: Any, floats: frozenset[str]) -> None:
    """Put an operator that changes nothing between integers and layers that are kept in float.

    ONNX Runtime takes float weights between a DequantizeLinear and a QuantizeLinear, and in some
    versions all behind a DequantizeLinear, for forgotten ones. It quantizes them while loading, to
    int8 with one scale for all channels. A Clip to the range of the integers keeps it from that.

    Args:
        proto: A quantized model; changed in place.
        floats: What layers kept in float make.
    """
    import onnx

    constants = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    nodes: list[Any] = []
    producer: dict[str, Any] = {}
    shields: dict[str, str] = {}
    for node in proto.graph.node:
        if node.op_type in _WITH_WEIGHTS and floats.intersection(node.output):
            name = node.input[0]
            above = producer.get(name)
            if above is not None and above.op_type == "DequantizeLinear":
                if name not in shields:
                    shields[name] = name + SHIELD_SUFFIX
                    scale, zero_point = (constants[entry] for entry in above.input[1:3])
                    limits = np.iinfo(zero_point.dtype)
                    ends = [f"{name}_{end}" for end in ("low", "high")]
                    for end, whole in zip(ends, (limits.min, limits.max), strict=True):
                        real = np.float32(scale) * np.float32(int(whole) - int(zero_point))
                        proto.graph.initializer.append(
                            onnx.numpy_helper.from_array(np.array(real, np.float32), end)
                        )
                    nodes.append(
                        onnx.helper.make_node(
                            "Clip", [name, *ends], [shields[name]], f"{name}_shield"
                        )
                    )
                node.input[0] = shields[name]
        nodes.append(node)
        producer.update(dict.fromkeys(node.output, node))
    if shields:
        del proto.graph.node[:]
        proto.graph.node.extend(nodes)
