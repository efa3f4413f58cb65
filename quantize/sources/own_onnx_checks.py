"""Is an ``.onnx`` of somebody's own one that can be converted? Reads it and says what it has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from edgedf.errors import ArtifactUnreadable, ConfigError, SpecMismatch
from edgedf.quantize.sources.plain_graph import use_one_domain
from edgedf.spec import MAP_STRIDE

__all__ = [
    "NEXT_STEP",
    "OLDEST_OPSET",
    "Description",
    "ImageInput",
    "OutputNames",
    "check_operators",
    "chosen_outputs",
    "first_line",
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
_WHITE = 255
_NESTED = frozenset({"If", "Loop", "Scan"})


@dataclass(frozen=True)
class Description:
    """What a graph cannot say about itself.

    Args:
        name: Of the model; None for the file's.
        version: Of the model.
        licence: Of the weights.
        mean: Per channel, in grey levels: what the model's input has had subtracted. None where
            the model takes bytes.
        std: Per channel, in grey levels: what it was then divided by. None likewise.
        size: Side of the input where the file leaves it open.
        fake_logit: Name of that output, where neither its name nor its shape tells.
        defocus_map: Likewise.
        output: What the verdict's output is: ``logit``, or ``probability`` in [0, 1]; None to tell
            by the graph.
        fake_class: Which of two values is that of fakes. Of a single one: 1 where a higher value
            means fake, 0 where it means real.
        fake_at: Score from which a picture counts as fake.
        real_at: Score up to which it counts as real.
        how: How the two were chosen.
        data: What the model was trained on.

    Raises:
        ConfigError: A value makes no sense.
    """

    name: str | None = None
    version: str = "1"
    licence: str = "not stated"
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    size: int | None = None
    fake_logit: str | None = None
    defocus_map: str | None = None
    output: Literal["logit", "probability"] | None = None
    fake_class: int = 1
    fake_at: float = 0.5
    real_at: float = 0.5
    how: str = "by default; not calibrated"
    data: str = "not stated"

    def __post_init__(self) -> None:
        if self.mean is not None or self.std is not None:
            _check_grey_levels(self.mean, self.std)
        if self.fake_class not in (0, 1):
            raise ConfigError(
                f"There is no class {self.fake_class} of two.",
                expected="fake_class = 0 or 1",
                next_step="give the position of the value of fakes, or 0 where a single value is "
                "that of being real",
            )


def _check_grey_levels(mean: tuple[float, ...] | None, std: tuple[float, ...] | None) -> None:
    """Refuse a normalisation that no network was trained with, such as one for values in [0, 1]."""
    next_step = (
        "for a model that takes values in [0, 1]: mean = [0, 0, 0] and std = [255, 255, 255]"
    )
    if mean is not None and std is not None:
        in_range = all(0 <= m <= _WHITE for m in mean) and not any(0 < m < 1 for m in mean)
        if in_range and all(1 <= s <= 10 * _WHITE for s in std):
            return
        if all(0 <= m <= 1 for m in mean) and all(0 < s <= 1 for s in std):
            grey = [[round(_WHITE * v, 3) for v in values] for values in (mean, std)]
            next_step = (
                "if these are for values in [0, 1], which is usual, multiply them by 255: mean = "
                f"{grey[0]} and std = {grey[1]}; if the model subtracts them itself and takes "
                "values in [0, 1]: mean = [0, 0, 0] and std = [255, 255, 255]"
            )
    raise ConfigError(
        f"mean = {_listed(mean)} and std = {_listed(std)} are no normalisation of bytes.",
        expected="both or neither, in grey levels of 0 to 255: (byte - mean) / std, with a mean of "
        "0 or from 1 to 255 and a std of 1 to 2550",
        next_step=next_step,
    )


def _listed(values: tuple[float, ...] | None) -> str:
    return "nothing" if values is None else str(list(values))


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
    found = ", ".join(_shown(value) for value in inputs) or "none"
    mismatch = SpecMismatch(
        f"The inputs of {path} are: {found}.",
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
            f"The description says size = {description.size}, the input of {path} is {found}.",
            expected="the same size, or none in the description",
            next_step="leave size out",
        )
    if not wanted and description.size is None:
        raise ConfigError(
            f"{path} leaves the size of its input open: {found}.",
            expected=f"size in the description, a multiple of {MAP_STRIDE}",
            next_step="such as: size = 256",
        )
    side = description.size or max(s for s in wanted if s is not None)
    if len(wanted) > 1 or side % MAP_STRIDE or not MAP_STRIDE <= side <= 4096:
        raise mismatch
    floats = inputs[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    found_input = ImageInput(inputs[0].name, layout, "float32" if floats else "uint8", side)
    _check_normalisation(found_input, path, description)
    _fix_shape(proto, found_input)
    return found_input


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


def first_line(error: BaseException) -> str:
    """What an exception of a library says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".")[:200] if lines else type(error).__name__
