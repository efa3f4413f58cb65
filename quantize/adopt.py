"""A user's own ``.onnx`` → a float ``.onnx`` with our contract: image in, logit and map out.

What the graph says is read and checked: one picture goes in, a logit and a map come out. What it
cannot say (normalisation, name, licence, thresholds) comes from a :class:`Description`. The file is
untrusted: its size is checked before it is read, weights must lie inside it, and only operators of
ONNX itself are accepted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgedf.artifact import embed_onnx, read_bare_onnx
from edgedf.errors import ArtifactUnreadable, ConfigError, MissingExtra, SpecMismatch
from edgedf.files import sha256_of
from edgedf.imaging import preprocess
from edgedf.quantize.adopt_graph import Ends, contract_graph
from edgedf.quantize.describe import describe_adopted
from edgedf.quantize.run import Outputs, Run, as_outputs, open_model
from edgedf.runtime.backends.base import failed_to_run, refused
from edgedf.spec import MAP_MAXIMUM, MAP_STRIDE, ModelSpec

__all__ = ["OLDEST_OPSET", "Adopted", "Description", "adopt"]

OLDEST_OPSET = 13
"""The first with which weights can be quantized per channel."""

_PICTURES = 4  # of the shipped sample, to compare with the file as it was
_CLOSE = 1e-3  # of the range of an output
_NEXT = "export the model again; docs/commands/convert.md says what it has to look like"


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
        fake_class: Which of two logits is that of fakes.
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
    fake_class: int = 1
    fake_at: float = 0.5
    real_at: float = 0.5
    how: str = "by default; not calibrated"
    data: str = "not stated"

    def __post_init__(self) -> None:
        if (self.mean is None) != (self.std is None) or (self.std and min(self.std) <= 0):
            raise ConfigError(
                f"mean = {self.mean} and std = {self.std} are no normalisation.",
                expected="both or neither, std above 0, in grey levels",
                next_step="for a model that takes values in [0, 1]: mean = [0, 0, 0] and "
                "std = [255, 255, 255]",
            )
        if self.fake_class not in (0, 1):
            raise ConfigError(
                f"There is no class {self.fake_class} of two.",
                expected="fake_class = 0 or 1",
                next_step="give the position of the logit of fakes",
            )


@dataclass(frozen=True, eq=False)
class Adopted:
    """A model with our contract, made from somebody's.

    Args:
        model: The file, its spec inside.
        spec: The spec.
        original: The file as it was, as a function: what the new one has to agree with.
    """

    model: bytes
    spec: ModelSpec
    original: Run


def adopt(path: str | Path, description: Description) -> Adopted:
    """Check a user's ``.onnx`` and give it our contract.

    Args:
        path: A float ``.onnx`` with one image input and two outputs.
        description: What the graph does not say.

    Returns:
        The new model, proved on pictures of the shipped sample to say what the old one says.

    Raises:
        ArtifactUnreadable: Not there, too large, damaged, or with weights in another file.
        ConfigError: The description contradicts the model, or leaves out what is needed.
        MissingExtra: onnx or onnxruntime is not installed.
        SpecMismatch: Inputs or outputs are not what they have to be.
    """
    path = Path(path)
    data = read_bare_onnx(path)
    try:
        import onnx
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise MissingExtra("convert", "Converting a .onnx model") from error
    proto = _parsed(onnx, data, path)
    _check_operators(onnx, proto, path)
    name, layout, kind, side = _input(onnx, proto, path, description)
    if kind == "float32" and description.mean is None:
        raise ConfigError(
            f"{path} takes floats, and nothing says how they are made from bytes.",
            expected="mean and std in the description, in grey levels: (byte - mean) / std",
            next_step="for values in [0, 1]: mean = [0, 0, 0] and std = [255, 255, 255]; for "
            "bytes as floats: mean = [0, 0, 0] and std = [1, 1, 1]",
        )
    if kind == "uint8" and description.mean is not None:
        raise ConfigError(
            f"{path} takes bytes, so that normalisation is inside it already.",
            expected="no mean and no std for a model with an input of type uint8",
            next_step="leave both out",
        )
    _fix_shape(proto, name, layout, side)
    session = _session(proto.SerializeToString())
    feed = _feeder(name, layout, kind, description)
    values = _run(session, feed(np.zeros((side, side, 3), np.uint8)))
    shapes = {
        output.name: value.shape
        for output, value in zip(session.get_outputs(), values, strict=True)
        if isinstance(value, np.ndarray) and value.dtype == np.float32
    }
    logit = _chosen("fake_logit", description.fake_logit, shapes, _is_logit, path)
    dense = _chosen("defocus_map", description.defocus_map, shapes, _is_map(side), path)
    ends = Ends(
        name,
        layout,
        side,
        None if kind == "uint8" else (description.mean, description.std),
        logit,
        shapes[logit],
        description.fake_class,
        dense,
        shapes[dense],
    )
    try:
        contract_graph(proto, ends)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise SpecMismatch(
            f"{path} cannot be given our inputs and outputs: {_first_line(error)}.",
            expected="a plain graph from one picture to a logit and a map",
            next_step=_NEXT,
        ) from error
    if ends.turned_back == "gone":
        raise SpecMismatch(
            f"The output {logit} of {path} is a part of a softmax.",
            expected="logits: what a score is made from",
            next_step="export the model without its softmax, or with both classes",
        )
    spec = describe_adopted(description, path.stem, sha256_of(data), side)
    model = embed_onnx(proto.SerializeToString(deterministic=True), spec)
    original = _original(session, feed, ends)
    _prove(original, open_model(model, "onnx", spec), side, path)
    return Adopted(model, spec, original)


def _parsed(onnx: Any, data: bytes, path: Path) -> Any:
    from google.protobuf.message import DecodeError

    try:
        proto = onnx.load_model_from_string(data)
        if any(
            tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data
            for tensor in _tensors(onnx, proto.graph)
        ):
            raise ArtifactUnreadable(
                f"{path} keeps its weights in another file.",
                expected="one file that holds everything",
                next_step="save it without external data: onnx.save(onnx.load(path), path)",
            )
        onnx.checker.check_model(proto)
    except (DecodeError, onnx.checker.ValidationError, RecursionError) as error:
        raise ArtifactUnreadable(
            f"{path} is no valid .onnx model: {_first_line(error)}.",
            expected="a complete file that onnx.checker accepts",
            next_step="copy it again, or export it again",
        ) from error
    return proto


def _tensors(onnx: Any, graph: Any) -> Iterator[Any]:
    """Every tensor of a graph, those in attributes and in graphs inside it too."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from _tensors(onnx, inner)


def _check_operators(onnx: Any, proto: Any, path: Path) -> None:
    opsets = {entry.domain or "ai.onnx": entry.version for entry in proto.opset_import}
    foreign = {node.domain for node in proto.graph.node} - {"", "ai.onnx"}
    foreign |= {function.domain for function in proto.functions}
    if foreign:
        raise ArtifactUnreadable(
            f"{path} has operators of its own: {', '.join(sorted(foreign))}.",
            expected="operators of ONNX itself (domain ai.onnx) and no functions",
            next_step="export it without custom operators, or inline its functions",
        )
    version = opsets.get("ai.onnx", 0)
    if not OLDEST_OPSET <= version <= onnx.defs.onnx_opset_version():
        raise ArtifactUnreadable(
            f"{path} is of opset {version}.",
            expected=f"opset {OLDEST_OPSET} to {onnx.defs.onnx_opset_version()}",
            next_step="export it again with opset_version=18, or use onnx.version_converter",
        )
    nested = sorted({n.op_type for n in proto.graph.node if n.op_type in ("If", "Loop", "Scan")})
    integers = {n.op_type for n in proto.graph.node if n.op_type in ("QLinearConv", *_QUANTIZED)}
    if nested or integers:
        found = ", ".join([*nested, *sorted(integers)])
        raise ArtifactUnreadable(
            f"{path} has {found}.",
            expected="a float model without branches and loops",
            next_step="export the float model, by tracing it on a picture",
        )


_QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "ConvInteger", "DynamicQuantizeLinear")


def _input(
    onnx: Any, proto: Any, path: Path, description: Description
) -> tuple[str, Literal["NCHW", "NHWC"], Literal["float32", "uint8"], int]:
    """Name, layout, type and side of the image input."""
    weights = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in weights]
    found = ", ".join(_shown(onnx, value) for value in inputs) or "none"
    mismatch = SpecMismatch(
        f"The inputs of {path} are: {found}.",
        expected=f"one picture, float32 or uint8, [1, 3, N, N] or [1, N, N, 3], N a multiple of "
        f"{MAP_STRIDE}",
        next_step=_NEXT,
    )
    kinds = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.UINT8: "uint8"}
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
    kind = kinds[inputs[0].type.tensor_type.elem_type]
    return inputs[0].name, layout, "uint8" if kind == "uint8" else "float32", side


def _shown(onnx: Any, value: Any) -> str:
    tensor = value.type.tensor_type
    kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    dims = ", ".join(str(d.dim_value or d.dim_param or "?") for d in tensor.shape.dim)
    return f"{value.name} {kind} [{dims}]"


def _fix_shape(proto: Any, name: str, layout: str, side: int) -> None:
    """Give the input its one shape, and forget what was said about shapes behind it."""
    (value,) = (value for value in proto.graph.input if value.name == name)
    shape = (1, 3, side, side) if layout == "NCHW" else (1, side, side, 3)
    for dimension, length in zip(value.type.tensor_type.shape.dim, shape, strict=True):
        dimension.dim_value = length
    del proto.graph.value_info[:]
    for output in proto.graph.output:
        output.type.tensor_type.ClearField("shape")


def _session(model: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exception types share no base but Exception
        raise refused("onnx", "onnxruntime", error) from error


def _run(session: Any, feed: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    try:
        return list(session.run(None, feed))
    except Exception as error:
        raise failed_to_run("onnxruntime", error) from error


def _feeder(name: str, layout: str, kind: str, description: Description) -> Any:
    """Bytes (N, N, 3) → what the file as it was takes."""
    mean = np.array(description.mean or 0, np.float32)
    std = np.array(description.std or 1, np.float32)

    def feed(image: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        given: NDArray[Any] = image
        if kind == "float32":
            given = (image.astype(np.float32) - mean) / std
        if layout == "NCHW":
            given = given.transpose(2, 0, 1)
        return {name: np.ascontiguousarray(given[np.newaxis])}

    return feed


def _is_logit(shape: Sequence[int]) -> bool:
    return int(np.prod(shape)) == 1 or tuple(shape) in ((1, 2), (2,))


def _is_map(side: int) -> Any:
    small = side // MAP_STRIDE
    shapes = ((1, 1, small, small), (1, small, small, 1), (1, small, small), (small, small))

    def check(shape: Sequence[int]) -> bool:
        return small > 1 and tuple(shape) in shapes

    return check


def _chosen(
    role: str, named: str | None, shapes: dict[str, tuple[int, ...]], fits: Any, path: Path
) -> str:
    """The output that plays a role: as described, as named, or the only one of its shape."""
    wanted = named or (role if role in shapes else None)
    candidates = [n for n in shapes if fits(shapes[n])] if wanted is None else [wanted]
    if len(candidates) == 1 and candidates[0] in shapes and fits(shapes[candidates[0]]):
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


def _original(session: Any, feed: Any, ends: Ends) -> Run:
    names = [output.name for output in session.get_outputs()]

    def run(image: NDArray[np.uint8]) -> Outputs:
        found = dict(zip(names, _run(session, feed(image)), strict=True))
        values = np.asarray(found[ends.logit], np.float64).reshape(-1)
        with np.errstate(divide="ignore"):
            if ends.turned_back == "softmax":
                values = np.log(values)
            elif ends.turned_back == "sigmoid":
                values = np.log(values) - np.log1p(-values)
        logit = float(values[0])
        if values.size == 2:
            logit = float(values[ends.fake_class] - values[1 - ends.fake_class])
        side = ends.side // MAP_STRIDE
        dense = np.asarray(found[ends.dense], np.float32).reshape(side, side)
        return as_outputs(logit, dense)

    return run


def _prove(original: Run, made: Run, side: int, path: Path) -> None:
    """Compare on pictures of the shipped sample, before anything is quantized."""
    from edgedf import sample

    pictures = [preprocess(image.path, side) for image in sample.images()[:_PICTURES]]
    old, new = [original(p) for p in pictures], [made(p) for p in pictures]
    dense = np.stack([outputs["defocus_map"] for outputs in old])
    if not np.isfinite(dense).all() or dense.min() < -0.5 or dense.max() > MAP_MAXIMUM + 0.5:
        raise SpecMismatch(
            f"The map of {path} goes from {dense.min():.3g} to {dense.max():.3g} on photographs.",
            expected=f"blur as the standard deviation of a Gaussian in pixels of the input, 0 to "
            f"{MAP_MAXIMUM:g}",
            next_step="scale it inside the model, or check mean and std",
        )
    for name in ("fake_logit", "defocus_map"):
        wanted, found = (np.stack([outputs[name] for outputs in runs]) for runs in (old, new))
        if name == "defocus_map":
            wanted = wanted.clip(0, MAP_MAXIMUM)
        worst = float(np.abs(wanted - found).max())
        if not worst <= _CLOSE * max(1.0, float(np.ptp(wanted))):
            raise SpecMismatch(
                f"With bytes as input, {path} gives another {name}: it differs by {worst:.3g}.",
                expected="the same outputs, up to rounding",
                next_step="check mean and std; if they are right, please report it with the file",
            )


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".")[:200] if lines else type(error).__name__
