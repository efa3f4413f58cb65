"""Float ``.onnx`` → other precisions, with onnxruntime and onnx; no torch.

int8 is static QDQ with uint8 activations and int8 weights per output channel. On x86, uint8
activations with int8 weights run on VNNI and are faster than float; int8 activations are slower.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process

from edgedf.files import scratch_folder
from edgedf.formats.activations import Range, check_ranges, merged_ranges, never_empty
from edgedf.formats.layers import KeptLayers
from edgedf.formats.onnx.activations import OnnxActivations
from edgedf.formats.onnx.float_island import CURVE_PREFIX, shield_floats
from edgedf.formats.onnx.parsed import ParsedOnnx, copied, serialized, without_metadata
from edgedf.progress import Progress, silent
from edgedf.spec import INPUT_NAME, LOGIT_BOUND

__all__ = [
    "fixed_ranges",
    "to_int8",
]


def to_int8(
    graph: ParsedOnnx,
    images: Sequence[NDArray[np.uint8]],
    *,
    activation_bits: int = 8,
    ranges: Mapping[str, Range] | None = None,
    kept: KeptLayers | None = None,
    progress: Progress = silent,
) -> Any:
    """Quantize weights to int8, and activations to uint8 or uint16.

    Ranges are min/max over ``images``; that of a uint8 input is set to 0 to 255, so that its scale
    is exactly 1 and its zero point 0, and that of the logit to
    :data:`~edgedf.spec.LOGIT_BOUND` on either side.

    Args:
        graph: A float model.
        images: Calibration images, each uint8 RGB (N, N, 3).
        activation_bits: Of activations. ONNX Runtime has no kernels for 16 on a CPU and computes
            in float between the conversions.
        ranges: Of float tensors by their names, which win over what would be measured; only what is
            not among them is measured. Names that the model does not have are refused.
        kept: Layers that stay float or get 16-bit activations.
        progress: Told about each image.

    Returns:
        The quantized ``ModelProto``, without a spec.

    Raises:
        ArtifactUnreadable: The model is damaged.
        ConfigError: A range is given for a tensor that the model does not have, or is none.
    """
    with scratch_folder(for_libraries=True) as folder:
        plain, prepared, quantized = (folder / f"{n}.onnx" for n in ("a", "b", "c"))
        plain.write_bytes(serialized(without_metadata(copied(graph.proto))))
        kept = kept or KeptLayers()
        floats = kept.tensors("fp32")
        quant_pre_process(str(plain), str(prepared), skip_symbolic_shape=True)
        ready = onnx.load(str(prepared))
        found = _used_after_preparation(ready, graph, images, ranges, progress)
        kinds = {8: quantization.QuantType.QUInt8, 16: quantization.QuantType.QUInt16}
        overrides: dict[str, list[dict[str, Any]]] = {
            name: [{"rmin": np.float32(low), "rmax": np.float32(high)}]
            for name, (low, high) in never_empty(found).items()
        }
        for name, precision in kept.matched.items():
            if precision == "int8-a16":
                (ends,) = overrides.setdefault(name, [{}])
                ends["quant_type"] = kinds[16]
        with _without_advice():
            quantization.quantize_static(
                str(prepared),
                str(quantized),
                _OneBlank(graph.proto),
                quant_format=quantization.QuantFormat.QDQ,
                activation_type=kinds[activation_bits],
                weight_type=quantization.QuantType.QInt8,
                per_channel=True,
                calibrate_method=quantization.CalibrationMethod.MinMax,
                nodes_to_exclude=[
                    node.name
                    for node in ready.graph.node
                    if floats.intersection(node.output) or node.name.startswith(CURVE_PREFIX)
                ],
                extra_options={"TensorQuantOverrides": overrides},
            )
        made = without_metadata(onnx.load(str(quantized)))
        shield_floats(made, floats)
        return made


def fixed_ranges(proto: Any) -> dict[str, Range]:
    """Ranges that are not measured: the input has 0 to 255, the logit its bound on either side.

    Args:
        proto: A float ``ModelProto``.
    """
    inputs = dict.fromkeys(_cast_inputs(proto), (0.0, 255.0))
    logits = _logit_tensors(proto)
    return inputs | dict.fromkeys(logits, _logit_range(proto, logits[-1]))


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """Drop the quantizer's warnings, such as of an opset that it raises itself."""

    def is_error(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR

    root = logging.getLogger()
    root.addFilter(is_error)
    try:
        yield
    finally:
        root.removeFilter(is_error)


def _used_after_preparation(
    prepared: Any,
    graph: ParsedOnnx,
    images: Sequence[NDArray[np.uint8]],
    ranges: Mapping[str, Range] | None,
    progress: Progress,
) -> dict[str, Range]:
    """Ranges of the tensors of a graph that onnxruntime has prepared for quantization.

    Preparation folds constants and batch normalisation, so there are fewer tensors in it, and may
    be others.
    """
    original, shown = OnnxActivations(graph.proto), OnnxActivations(prepared)
    given = _without(original.cut, ranges)
    check_ranges(original, given)
    found = merged_ranges(
        shown,
        images,
        given={name: span for name, span in given.items() if name in shown.names},
        fixed=fixed_ranges(prepared),
        step="calibrate onnx",
        progress=progress,
    )
    # As onnxruntime does with what it measures: what is cut off needs no steps.
    return found | {name: found[kept] for name, kept in shown.cut.items() if kept in found}


def _without(names: Collection[str], ranges: Mapping[str, Range] | None) -> dict[str, Range]:
    return {name: span for name, span in (ranges or {}).items() if name not in names}


class _OneBlank:
    """A blank image for onnxruntime's calibrator, which has to see one; its ranges are not used."""

    def __init__(self, proto: Any) -> None:
        (value,) = proto.graph.input
        shape = [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        self._images = [np.zeros(shape, np.uint8)]

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        return {INPUT_NAME: self._images.pop()} if self._images else None


def _logit_tensors(proto: Any) -> list[str]:
    """The logit, and what it is shaped from: a reshape keeps the range of what goes into it."""
    producer = {name: node for node in proto.graph.node for name in node.output}
    names = ["fake_logit"]
    while names[-1] in producer and producer[names[-1]].op_type == "Reshape":
        names.append(producer[names[-1]].input[0])
    return names


def _logit_range(proto: Any, made: str) -> Range:
    """The bound of the logit on either side, or the limits of a Clip that makes it where nearer.

    The quantizer takes a Clip for done by the range of its result, so that range has to be its own.
    """
    low, high = -LOGIT_BOUND, LOGIT_BOUND
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "Clip" and made in node.output:
            ends = zip(("min", "max"), map(constants.get, node.input[1:]))
            bounds = {end: float(value) for end, value in ends if value is not None}
            low, high = max(low, bounds.get("min", low)), min(high, bounds.get("max", high))
    return low, high


def _cast_inputs(proto: Any) -> list[str]:
    """Names of the float tensors that are the model's uint8 input, cast and nothing else."""
    return [
        node.output[0]
        for node in proto.graph.node
        if node.op_type == "Cast" and list(node.input) == [INPUT_NAME]
    ]
