"""Float ``.onnx`` → other precisions, with onnxruntime and onnx; no torch.

int8 is static QDQ with uint8 activations and int8 weights per output channel. On x86, uint8
activations with int8 weights run on VNNI and are faster than float; int8 activations are slower.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgedf.errors import ArtifactUnreadable, MissingExtra
from edgedf.files import scratch_folder
from edgedf.formats.activations import Range, check_ranges, merged_ranges, never_empty
from edgedf.formats.onnx.activations import OnnxActivations
from edgedf.formats.onnx.float_island import shield_floats
from edgedf.progress import Progress, silent
from edgedf.quantize.making.kept_layers import Keep, kept_layers
from edgedf.quantize.sources.describe import CURVE_PREFIX, INPUT_NAME, LOGIT_BOUND, OUTPUT_NAMES

__all__ = [
    "activations",
    "fixed_ranges",
    "output_quantization",
    "to_fp16",
    "to_int8",
    "to_int8_weights",
    "used_ranges",
    "without_metadata",
]

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def to_int8(
    model: bytes,
    images: Sequence[NDArray[np.uint8]],
    *,
    activation_bits: Literal[8, 16] = 8,
    ranges: Mapping[str, Range] | None = None,
    keep: Sequence[str | Keep] = (),
    progress: Progress = silent,
) -> bytes:
    """Quantize weights to int8, and activations to uint8 or uint16.

    Ranges are min/max over ``images``; that of a uint8 input is set to 0 to 255, so that its scale
    is exactly 1 and its zero point 0, and that of the logit to
    :data:`~edgedf.quantize.sources.describe.LOGIT_BOUND` on either side.

    Args:
        model: A float ``.onnx`` of ours.
        images: Calibration images, each uint8 RGB (N, N, 3).
        activation_bits: Of activations. ONNX Runtime has no kernels for 16 on a CPU and computes
            in float between the conversions.
        ranges: Of float tensors by their names in ``model``, as :func:`used_ranges` gives them;
            they win over what would be measured, and only what is not among them is. Names that the
            model does not have are refused.
        keep: Layers that stay float or get 16-bit activations: see
            :mod:`edgedf.quantize.making.kept_layers`.
        progress: Told about each image.

    Returns:
        The quantized model, without a spec.

    Raises:
        ArtifactUnreadable: The model is damaged.
        ConfigError: A range is given for a tensor that the model does not have, or is none.
        ConfigError: Layers cannot be kept.
        MissingExtra: onnx or onnxruntime is not installed.
    """
    onnx = _onnx()
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with scratch_folder(for_libraries=True) as folder:
        plain, prepared, quantized = (folder / f"{n}.onnx" for n in ("a", "b", "c"))
        plain.write_bytes(without_metadata(_load(model)).SerializeToString(deterministic=True))
        kept = kept_layers(model, "onnx", keep, "int8" if activation_bits == 8 else "int8-a16")
        floats = kept.tensors("fp32")
        quant_pre_process(str(plain), str(prepared), skip_symbolic_shape=True)
        found = _used_after_preparation(prepared.read_bytes(), model, images, ranges, progress)
        kinds = {8: quantization.QuantType.QUInt8, 16: quantization.QuantType.QUInt16}
        overrides: dict[str, list[dict[str, Any]]] = {
            name: [{"rmin": np.float32(low), "rmax": np.float32(high)}]
            for name, (low, high) in never_empty(found).items()
        }
        for name, precision in kept.matched.items():
            if precision == "int8-a16":
                (ends,) = overrides.setdefault(name, [{}])
                ends["quant_type"] = kinds[16]
        nodes = onnx.load(str(prepared)).graph.node
        with _without_advice():
            quantization.quantize_static(
                str(prepared),
                str(quantized),
                _OneBlank(model),
                quant_format=quantization.QuantFormat.QDQ,
                activation_type=kinds[activation_bits],
                weight_type=quantization.QuantType.QInt8,
                per_channel=True,
                calibrate_method=quantization.CalibrationMethod.MinMax,
                nodes_to_exclude=[
                    node.name
                    for node in nodes
                    if floats.intersection(node.output) or node.name.startswith(CURVE_PREFIX)
                ],
                extra_options={"TensorQuantOverrides": overrides},
            )
        made = without_metadata(onnx.load(str(quantized)))
        shield_floats(made, floats)
        return bytes(made.SerializeToString(deterministic=True))


def activations(model: bytes, *, threads: int = 1) -> OnnxActivations:
    """The float model, with all its activations to look at.

    Args:
        model: A float ``.onnx`` of ours.
        threads: For the session.

    Raises:
        ArtifactUnreadable: The model is damaged.
        MissingExtra: onnx or onnxruntime is not installed.
    """
    _onnx()
    _load(model)
    return OnnxActivations(model, threads=threads)


def fixed_ranges(model: bytes) -> dict[str, Range]:
    """Ranges that are not measured: the input has 0 to 255, the logit its bound on either side.

    Args:
        model: A float ``.onnx`` of ours.

    Raises:
        ArtifactUnreadable: The model is damaged.
        MissingExtra: onnx or onnxruntime is not installed.
    """
    _onnx()
    proto = _load(model)
    inputs = dict.fromkeys(_cast_inputs(proto), (0.0, 255.0))
    return inputs | dict.fromkeys(_logit_tensors(proto), (-LOGIT_BOUND, LOGIT_BOUND))


def used_ranges(
    model: bytes,
    images: Sequence[NDArray[np.uint8]],
    *,
    ranges: Mapping[str, Range] | None = None,
    progress: Progress = silent,
) -> dict[str, Range]:
    """The range of every activation with which :func:`to_int8` quantizes.

    Args:
        model: A float ``.onnx`` of ours.
        images: Calibration images, each uint8 RGB (N, N, 3).
        ranges: As for :func:`to_int8`.
        progress: Told about each image.

    Returns:
        Measured ranges, those given in their place, and the fixed ones in place of either, in
        order of execution. What a Clip or Relu alone takes is not among them: it gets the range of
        what that makes of it.

    Raises:
        ArtifactUnreadable: The model is damaged.
        ConfigError: A range is given for a tensor that the model does not have, or is none.
        MissingExtra: onnx or onnxruntime is not installed.
    """
    shown = activations(model)
    given = _without(shown.cut, ranges)
    check_ranges(shown, given)
    fixed = fixed_ranges(model)
    return merged_ranges(
        shown, images, given=given, fixed=fixed, step="calibrate onnx", progress=progress
    )


def to_fp16(model: bytes) -> bytes:
    """Store the weights as float16; a Cast in front of each use keeps the arithmetic float32.

    The same meaning as in TFLite. The casts have constant inputs, so a runtime does them once,
    while loading. float16 arithmetic would be slower on CPUs and is left to devices that have it.

    Args:
        model: A float ``.onnx`` of ours.

    Returns:
        The model, without a spec.

    Raises:
        ArtifactUnreadable: The model is damaged.
        MissingExtra: onnx is not installed.
    """
    onnx = _onnx()
    proto = without_metadata(_load(model))
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


def to_int8_weights(model: bytes) -> bytes:
    """Store the weights as int8 with one scale per output channel; arithmetic stays float32.

    A Cast and a Mul in front of each use turn them back. Their inputs are constant, so a runtime
    does it once, while loading; a DequantizeLinear would be kept for each run, which took ONNX
    Runtime twice as long as float.

    Args:
        model: A float ``.onnx`` of ours.

    Returns:
        The model, without a spec.

    Raises:
        ArtifactUnreadable: The model is damaged.
        MissingExtra: onnx is not installed.
    """
    onnx = _onnx()
    proto = without_metadata(_load(model))
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


def output_quantization(model: bytes) -> Mapping[str, tuple[float, int]]:
    """Scale and zero point of the integer tensor behind each float output.

    Args:
        model: An ``.onnx`` from :func:`to_int8`.

    Returns:
        ``{output name: (scale, zero point)}``; without those that a kept layer makes in float.
    """
    onnx = _onnx()
    graph = _load(model).graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    producer = {name: node for node in graph.node for name in node.output}
    found = {}
    for output in OUTPUT_NAMES:
        node = producer[output]
        # A change of layout after the last DequantizeLinear does not change the values.
        while node.op_type in ("Transpose", "Reshape"):
            node = producer[node.input[0]]
        if node.op_type != "DequantizeLinear":
            continue
        scale, zero_point = (constants[name] for name in node.input[1:3])
        found[output] = (float(scale), int(zero_point))
    return found


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


def _weights(proto: Any) -> list[tuple[Any, str, NDArray[Any]]]:
    """The weights of convolutions and the like: tensor, name, values; no biases."""
    import onnx

    taken = {n for node in proto.graph.node if node.op_type in _WEIGHTED for n in node.input[:2]}
    return [
        (tensor, tensor.name, onnx.numpy_helper.to_array(tensor))
        for tensor in proto.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT
        and len(tensor.dims) > 1
        and tensor.name in taken
    ]


def _beginning_with(nodes: Sequence[Any], proto: Any) -> bytes:
    """The model with these nodes before all others."""
    together = [*nodes, *proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(together)
    return bytes(proto.SerializeToString(deterministic=True))


def _used_after_preparation(
    prepared: bytes,
    model: bytes,
    images: Sequence[NDArray[np.uint8]],
    ranges: Mapping[str, Range] | None,
    progress: Progress,
) -> dict[str, Range]:
    """Ranges of the tensors of a graph that onnxruntime has prepared for quantization.

    Preparation folds constants and batch normalisation, so there are fewer tensors in it, and may
    be others.
    """
    original, shown = OnnxActivations(model), OnnxActivations(prepared)
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

    def __init__(self, model: bytes) -> None:
        (value,) = _load(model).graph.input
        shape = [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
        self._images = [np.zeros(shape, np.uint8)]

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        return {INPUT_NAME: self._images.pop()} if self._images else None


def _onnx() -> Any:
    try:
        import onnx
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise MissingExtra("convert", "Quantizing a .onnx model") from error
    return onnx


def _load(model: bytes) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        proto = onnx.load_model_from_string(model)
        onnx.checker.check_model(proto)
    except (DecodeError, onnx.checker.ValidationError) as error:
        raise ArtifactUnreadable(
            "The .onnx model is damaged.",
            expected="a float .onnx written by edgedf",
            next_step="copy or download it again, or export it again",
        ) from error
    return proto


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


def _logit_tensors(proto: Any) -> list[str]:
    """The logit, and what it is shaped from: a reshape keeps the range of what goes into it."""
    producer = {name: node for node in proto.graph.node for name in node.output}
    names = ["fake_logit"]
    while names[-1] in producer and producer[names[-1]].op_type == "Reshape":
        names.append(producer[names[-1]].input[0])
    return names


def _cast_inputs(proto: Any) -> list[str]:
    """Names of the float tensors that are the model's uint8 input, cast and nothing else."""
    return [
        node.output[0]
        for node in proto.graph.node
        if node.op_type == "Cast" and list(node.input) == [INPUT_NAME]
    ]
