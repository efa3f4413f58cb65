"""Which layers of an int8 ``.onnx`` ONNX Runtime computes in float, and what to use instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process

from edgedf.files import scratch_folder
from edgedf.formats.backend import refused
from edgedf.formats.layers import KeptLayers
from edgedf.formats.lint import OTHERWISE, PICTURES, LintLayer, picture, without_advice
from edgedf.formats.onnx.backend import NUMPY_NAMES
from edgedf.formats.onnx.float_island import CURVE_PREFIX
from edgedf.formats.onnx.layers import OUTPUT_SUFFIX
from edgedf.formats.onnx.operators import AROUND, FUSED
from edgedf.formats.onnx.parsed import ParsedOnnx
from edgedf.formats.onnx.session import open_session
from edgedf.formats.operators import BOUNDARY_OPERATORS, Operator, float_operators

__all__ = ["REMEDIES", "slow_layers", "try_int8"]

_OPEN_SIDE = 224  # of an input whose size the file leaves open
_CHANGES_TYPE = frozenset({"QuantizeLinear", "DequantizeLinear"})
# What says nothing of the model: conversions, changes of layout, shapes that are looked up.
_ASIDE = BOUNDARY_OPERATORS | {"ReorderInput", "ReorderOutput", "Shape"}

_CURVE = "use relu or relu6"
_SMOOTH_ONNX = (
    "use relu or relu6; leaky relu, sigmoid and silu (x · sigmoid x) stay integer as well"
)
_NORM = "use batch normalisation, which is folded into the convolution before it"
_ARITHMETIC = "rewrite it with additions, subtractions and multiplications"
_COMPARISON = "use relu, or multiply by a mask that a convolution gives"
_REDUCE = "use the mean over the whole picture (GlobalAveragePool), a pooling or a convolution"

REMEDIES: Mapping[str, str] = {
    "Pad": "pad in a convolution",
    "Resize": "use nearest upsampling, at best with a convolution behind it",
    "ConvTranspose": "use nearest upsampling and a convolution",
    **dict.fromkeys(("InstanceNormalization", "LayerNormalization", "BatchNormalization"), _NORM),
    **dict.fromkeys(("Sqrt", "Reciprocal", "Pow"), _NORM),
    **dict.fromkeys(("HardSwish", "HardSigmoid", "Gelu", "Erf", "Tanh"), _SMOOTH_ONNX),
    **dict.fromkeys(("Softplus", "Mish"), _SMOOTH_ONNX),
    **dict.fromkeys(("PRelu", "Elu", "Selu", "Celu"), _CURVE),
    **dict.fromkeys(("ReduceMean", "ReduceSum", "ReduceMin"), _REDUCE),
    "ReduceMax": "put a relu before it, or " + _REDUCE,
    **dict.fromkeys(("Sub", "Div", "Neg", "Abs", "Exp", "Log", "Max", "Min"), _ARITHMETIC),
    **dict.fromkeys(("Greater", "Less", "Equal", "Where"), _COMPARISON),
}
"""Operator → what to use instead; others are integer where what goes into them is."""


def try_int8(model: ParsedOnnx) -> Any:
    """Quantize a float model to int8, with ranges from a few pictures.

    Args:
        model: A float model, with any inputs.

    Returns:
        The quantized ``ModelProto``.

    Raises:
        ArtifactUnreadable: ONNX Runtime refuses it.
        Exception: It does not run, or the quantizer cannot quantize it.
    """
    with scratch_folder(for_libraries=True) as folder, without_advice():
        plain, prepared, quantized = (folder / f"{name}.onnx" for name in "abc")
        plain.write_bytes(model.file)
        try:
            inputs = open_session(model.file).get_inputs()
        except Exception as error:  # ONNX Runtime's exceptions share no base but Exception
            raise refused("onnx", "ONNX Runtime", error) from error
        quant_pre_process(str(plain), str(prepared), skip_symbolic_shape=True)
        names = [node.name for node in onnx.load(str(prepared)).graph.node]
        quantization.quantize_static(
            str(prepared),
            str(quantized),
            _Pictures(inputs),
            quant_format=quantization.QuantFormat.QDQ,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            per_channel=True,
            nodes_to_exclude=[name for name in names if name.startswith(CURVE_PREFIX)],
        )
        return onnx.load(str(quantized))


class _Pictures:
    """Values for the inputs of an ONNX Runtime session, as onnxruntime's calibrators take them."""

    def __init__(self, inputs: Sequence[Any]) -> None:
        self._feeds = (
            {
                value.name: picture(number, _closed(value.shape), np.dtype(NUMPY_NAMES[value.type]))
                for value in inputs
            }
            for number in range(PICTURES)
        )

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        return next(self._feeds, None)


def _closed(shape: Sequence[int | str | None]) -> list[int]:
    """A shape without open dimensions: one picture, of a usual size."""
    return [
        size if isinstance(size, int) else _OPEN_SIDE if place else 1
        for place, size in enumerate(shape)
    ]


def slow_layers(
    model: ParsedOnnx,
    computed: Sequence[Operator],
    names: Mapping[str, str],
    kept: KeptLayers,
) -> tuple[LintLayer, ...]:
    """Ask which operators ONNX Runtime computes in float on this machine.

    Args:
        model: An int8 model.
        computed: What ONNX Runtime executes of it.
        names: Tensor → name of its layer for ``--keep``.
        kept: Layers that were to stay out of int8, which are left out.

    Returns:
        The layers in order of execution.
    """
    graph = model.proto.graph
    makers = {tensor: node for node in graph.node for tensor in node.output}
    constants = {tensor.name for tensor in graph.initializer}
    asked = kept.tensors("fp32") | kept.tensors("int8-a16")
    aside = _ASIDE | (AROUND if asked else set())
    layers: dict[str, LintLayer] = {}
    for executed in float_operators(computed):
        operator = FUSED.get(executed.name, executed.name)
        tensor = executed.tensor.removesuffix(OUTPUT_SUFFIX)
        node = makers.get(executed.tensor)
        if operator in aside or tensor in asked or node is None:
            continue
        # What is fused is told by the tensor that the last of it makes.
        before = makers.get(node.input[0]) if node.input else None
        if node.op_type != operator and before is not None and before.op_type == operator:
            node = before
        is_quantized = all(
            name in makers and makers[name].op_type in _CHANGES_TYPE
            for name in node.input
            if name and name not in constants
        )
        interpolates = operator == "Resize" and _mode(node) != b"nearest"
        why, remedy = "interpolation" if interpolates else "", REMEDIES.get(operator, "")
        if not remedy or (operator == "Resize" and not interpolates):
            why, remedy = "what goes into it stays float", "change the layer before it"
            if is_quantized:
                why, remedy = "in this form", OTHERWISE
        name = node.name or node.output[0]
        keep = names.get(node.output[0].removesuffix(OUTPUT_SUFFIX), "")
        tolerated = interpolates and is_quantized  # every student needs it
        layers.setdefault(
            name, LintLayer(name, operator, "stays float", why, remedy, tolerated, keep)
        )
    return tuple(layers.values())


def _mode(resize: Any) -> bytes:
    return next((bytes(a.s) for a in resize.attribute if a.name == "mode"), b"nearest")
