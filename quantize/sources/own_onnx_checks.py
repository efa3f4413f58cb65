"""Reads an ``.onnx`` of somebody's own, and finds its picture, its logit and its map."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from edgedf.errors import ArtifactUnreadable, ConfigError, SpecMismatch
from edgedf.formats.backend import first_line
from edgedf.quantize.sources.description import Description
from edgedf.quantize.sources.plain_graph import use_one_domain
from edgedf.spec import MAP_STRIDE

__all__ = [
    "NEXT_STEP",
    "OLDEST_OPSET",
    "ImageInput",
    "OutputNames",
    "check_operators",
    "chosen_outputs",
    "image_input",
    "parsed",
]

OLDEST_OPSET = 13
"""The first with which weights can be quantized per channel."""

NEXT_STEP = "export the model again; docs/commands/convert.md says what it has to look like"

_QUANTIZED = frozenset(
    {
        "ConvInteger",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "MatMulInteger",
        "QLinearConv",
        "QLinearMatMul",
        "QuantizeLinear",
    }
)
_NESTED = frozenset({"If", "Loop", "Scan"})


class ImageInput(NamedTuple):
    """The one input of a model.

    Args:
        name: Its name.
        layout: ``NCHW`` or ``NHWC``.
        kind: ``float32`` or ``uint8``.
        side: In pixels.
    """

    name: str
    layout: Literal["NCHW", "NHWC"]
    kind: Literal["float32", "uint8"]
    side: int


class OutputNames(NamedTuple):
    """The two outputs of a model.

    Args:
        logit: Name of the one with the verdict.
        logit_shape: Its shape: one value, or two classes.
        dense: Name of the one with the map.
    """

    logit: str
    logit_shape: tuple[int, ...]
    dense: str


def parsed(data: bytes, path: Path) -> Any:
    """The model as a protobuf message.

    Args:
        data: The file.
        path: For messages.

    Raises:
        ArtifactUnreadable: Damaged, or with weights in another file.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        proto = onnx.load_model_from_string(data)
        if any(
            tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data
            for tensor in _tensors(proto.graph)
        ):
            raise ArtifactUnreadable(
                f"{path} keeps its weights in another file.",
                expected="one file that holds everything",
                next_step="save it without external data: onnx.save(onnx.load(path), path)",
            )
        use_one_domain(proto)
        onnx.checker.check_model(proto)
    except (
        DecodeError,
        onnx.checker.ValidationError,
        RecursionError,
        UnicodeDecodeError,  # of a name, which the checker's complaint has in it
    ) as error:
        raise ArtifactUnreadable(
            f"{path} is no valid .onnx model: {first_line(error)}.",
            expected="a complete file that onnx.checker accepts",
            next_step="copy it again, or export it again",
        ) from error
    return proto


def _tensors(graph: Any) -> Iterator[Any]:
    """Every tensor of a graph, those in attributes and in graphs inside it too."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from _tensors(inner)


def check_operators(proto: Any, path: Path) -> None:
    """Refuse what is not plain ONNX in float.

    Args:
        proto: From :func:`parsed`.
        path: For messages.

    Raises:
        ArtifactUnreadable: Custom operators, an old opset, branches, or integer operators.
    """
    import onnx

    versions = {entry.version for entry in proto.opset_import if not entry.domain}
    foreign = {node.domain for node in proto.graph.node} - {""}
    foreign |= {function.domain for function in proto.functions}
    if foreign:
        raise ArtifactUnreadable(
            f"{path} has operators of its own: {', '.join(sorted(foreign))}.",
            expected="operators of ONNX itself (domain ai.onnx) and no functions",
            next_step="export it without custom operators, or inline its functions",
        )
    newest = onnx.defs.onnx_opset_version()
    if len(versions) != 1 or not OLDEST_OPSET <= min(versions) <= newest:
        raise ArtifactUnreadable(
            f"{path} is of opset {' and '.join(map(str, sorted(versions))) or 'none'}.",
            expected=f"one opset from {OLDEST_OPSET} to {newest}",
            next_step="export it again with opset_version=18, or use onnx.version_converter",
        )
    names = {node.op_type for node in proto.graph.node}
    wrong = sorted(names & _NESTED) + sorted(names & _QUANTIZED)
    if wrong:
        raise ArtifactUnreadable(
            f"{path} has {', '.join(wrong)}.",
            expected="a float model without branches and loops",
            next_step="export the float model, by tracing it on a picture",
        )


def image_input(proto: Any, path: Path, description: Description) -> ImageInput:
    """Find the image input, and give it one shape.

    Args:
        proto: From :func:`parsed`, made plain; the input's open dimensions are closed, and what the
            file says about shapes behind it is forgotten.
        path: For messages.
        description: For the size and the normalisation.

    Raises:
        ConfigError: The description contradicts the model, or leaves out what is needed.
        SpecMismatch: There is no single image input.
    """
    import onnx

    inputs = list(proto.graph.input)
    listed = ", ".join(_shown(value) for value in inputs) or "none"
    mismatch = SpecMismatch(
        f"The inputs of {path} are: {listed}.",
        expected=f"one picture, float32 or uint8, [1, 3, N, N] or [1, N, N, 3], N a multiple of "
        f"{MAP_STRIDE}",
        next_step=NEXT_STEP,
    )
    kinds = (onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8)
    if len(inputs) != 1 or inputs[0].type.tensor_type.elem_type not in kinds:
        raise mismatch
    shape = [d.dim_value or None for d in inputs[0].type.tensor_type.shape.dim]
    if len(shape) != 4 or shape[0] not in (1, None) or (shape[1] == 3) == (shape[3] == 3):
        raise mismatch
    layout: Literal["NCHW", "NHWC"] = "NCHW" if shape[1] == 3 else "NHWC"
    sides = set(shape[2:] if layout == "NCHW" else shape[1:3])
    wanted = sides - {None}
    if description.size is not None and wanted - {description.size}:
        raise ConfigError(
            f"The description says size = {description.size}, the input of {path} is {listed}.",
            expected="the same size, or none in the description",
            next_step="leave size out",
        )
    if not wanted and description.size is None:
        raise ConfigError(
            f"{path} leaves the size of its input open: {listed}.",
            expected=f"size in the description, a multiple of {MAP_STRIDE}",
            next_step="such as: size = 256",
        )
    side = description.size or max(s for s in wanted if s is not None)
    if len(wanted) > 1 or side % MAP_STRIDE or not MAP_STRIDE <= side <= 4096:
        raise mismatch
    floats = inputs[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    image = ImageInput(inputs[0].name, layout, "float32" if floats else "uint8", side)
    _check_normalisation(image, path, description)
    _fix_shape(proto, image)
    return image


def _check_normalisation(image: ImageInput, path: Path, description: Description) -> None:
    if image.kind == "float32" and description.mean is None:
        raise ConfigError(
            f"{path} takes floats, and nothing says how they are made from bytes.",
            expected="mean and std in the description, in grey levels: (byte - mean) / std",
            next_step="for values in [0, 1]: mean = [0, 0, 0] and std = [255, 255, 255]; for "
            "bytes as floats: mean = [0, 0, 0] and std = [1, 1, 1]",
        )
    if image.kind == "uint8" and description.mean is not None:
        raise ConfigError(
            f"{path} takes bytes, so that normalisation is inside it already.",
            expected="no mean and no std for a model with an input of type uint8",
            next_step="leave both out",
        )


def _shown(value: Any) -> str:
    import onnx

    tensor = value.type.tensor_type
    kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    dims = ", ".join(str(d.dim_value or d.dim_param or "?") for d in tensor.shape.dim)
    return f"{value.name} {kind} [{dims}]"


def _fix_shape(proto: Any, image: ImageInput) -> None:
    (value,) = (value for value in proto.graph.input if value.name == image.name)
    side = image.side
    shape = (1, 3, side, side) if image.layout == "NCHW" else (1, side, side, 3)
    for dimension, length in zip(value.type.tensor_type.shape.dim, shape, strict=True):
        dimension.dim_value = length
    del proto.graph.value_info[:]
    for output in proto.graph.output:
        output.type.tensor_type.ClearField("shape")


def chosen_outputs(
    shapes: Mapping[str, tuple[int, ...]], side: int, path: Path, description: Description
) -> OutputNames:
    """Which output is which: as described, as named, or by its shape.

    Args:
        shapes: Of the float32 outputs.
        side: Of the input, in pixels.
        path: For messages.
        description: May name them.

    Raises:
        SpecMismatch: There is not one for each.
    """
    small = side // MAP_STRIDE
    maps = {(1, 1, small, small), (1, small, small, 1), (1, small, small), (small, small)}
    logits = [name for name, shape in shapes.items() if _is_logit(shape)]
    # A map of one pixel cannot be told from a logit by its shape.
    dense = [name for name, shape in shapes.items() if shape in maps and small > 1]
    logit = _chosen("fake_logit", description.fake_logit, shapes, logits, path)
    return OutputNames(
        logit,
        shapes[logit],
        _chosen("defocus_map", description.defocus_map, shapes, dense, path),
    )


def _is_logit(shape: tuple[int, ...]) -> bool:
    return int(np.prod(shape)) == 1 or shape in ((1, 2), (2,))


def _chosen(
    role: str,
    named: str | None,
    shapes: Mapping[str, tuple[int, ...]],
    fitting: Sequence[str],
    path: Path,
) -> str:
    wanted = named or (role if role in shapes else None)
    candidates = [name for name in fitting if wanted in (None, name)]
    if len(candidates) == 1:
        return candidates[0]
    listed = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items()) or "none"
    raise SpecMismatch(
        f"{path} has no output that must be the {role}"
        f"{'' if named is None else f' (described as {named!r})'}; its float32 outputs are: "
        f"{listed}.",
        expected="a logit of one value, or of two classes, and a map at a quarter of the input's "
        "size: [1, 1, N/4, N/4], [1, N/4, N/4, 1] or [1, N/4, N/4]",
        next_step=f"name it in the description: {role} = '...'; or export the model with it",
    )
