"""A user's own ``.onnx`` → a float ``.onnx`` with our contract: image in, logit and map out.

What the graph says is read and checked: one picture goes in, a logit and a map come out. What it
cannot say (normalisation, name, licence, thresholds) comes from a
:class:`~edgedf.quantize.sources.description.Description`. The file is
untrusted: its size is checked before it is read, weights must lie inside it, and only operators of
ONNX itself are accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedf.artifact import embed, read_model
from edgedf.errors import ArtifactUnreadable, MissingExtra, SpecMismatch
from edgedf.files import sha256_of
from edgedf.formats import format_named
from edgedf.formats.backend import failed_to_run, first_line, refused
from edgedf.formats.onnx import Onnx
from edgedf.formats.onnx.container import has_spec
from edgedf.formats.onnx.session import open_session
from edgedf.imaging import preprocess
from edgedf.quantize.models.run import Outputs, Run, as_outputs, open_model
from edgedf.quantize.sources.describe import describe_adopted
from edgedf.quantize.sources.description import Description
from edgedf.quantize.sources.own_onnx_checks import (
    NEXT_STEP,
    ImageInput,
    check_operators,
    chosen_outputs,
    image_input,
    parsed,
)
from edgedf.quantize.sources.own_onnx_graph import Ends, contract_graph
from edgedf.quantize.sources.own_onnx_score import Score, check_score, find_score, may_be_misread
from edgedf.quantize.sources.plain_graph import make_plain
from edgedf.spec import MAP_MAXIMUM, MAP_STRIDE, ModelSpec

__all__ = ["Adopted", "adopt"]

_PICTURES = 8  # of the shipped sample, to compare with the file as it was
_CLOSE = 1e-3  # of the range of an output


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
    data = _read_bare(path)
    try:
        import onnx
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise MissingExtra("convert", "Converting a .onnx model") from error
    proto = parsed(data, path)
    check_operators(proto, path)
    make_plain(proto)
    image = image_input(proto, path, description)
    feed = _feeder(image, description)
    session = _session(proto)
    values = _run(session, None, feed(np.zeros((image.side, image.side, 3), np.uint8)))
    shapes = {
        output.name: value.shape
        for output, value in zip(session.get_outputs(), values, strict=True)
        if isinstance(value, np.ndarray) and value.dtype == np.float32
    }
    outputs = chosen_outputs(shapes, image.side, path, description)
    score = find_score(proto.graph, outputs, path, description)
    seen = _tensors_of(proto, feed, score.tensor, outputs.dense)
    pictures = _pictures(image.side, slice(_PICTURES))
    values = [seen(picture)[0] for picture in pictures]
    if may_be_misread(score, values, description):  # a few pictures may happen to be alike
        values += [seen(picture)[0] for picture in _pictures(image.side, slice(_PICTURES, None))]
    check_score(score, values, path, description)
    original = _original(seen, score)
    normalisation = None if image.kind == "uint8" else (description.mean, description.std)
    ends = Ends(image.name, image.layout, image.side, normalisation, score, outputs.dense)
    try:
        contract_graph(proto, ends)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise SpecMismatch(
            f"{path} cannot be given our inputs and outputs: {first_line(error)}.",
            expected="a plain graph from one picture to a logit and a map",
            next_step=NEXT_STEP,
        ) from error
    spec = describe_adopted(description, path.stem, sha256_of(data), image.side)
    model = embed(proto.SerializeToString(deterministic=True), Onnx.name, spec)
    _prove(original, open_model(model, Onnx.name, spec), pictures, path)
    return Adopted(model, spec, original)


def _read_bare(path: Path) -> bytes:
    """A model that edgedf did not write."""
    model_format, data = read_model(path)
    is_own = format_named(model_format).takes_own
    if not is_own or has_spec(data):
        what = "carries a spec already" if is_own else f"is a .{model_format} model"
        raise ArtifactUnreadable(
            f"{path} {what}, so it is not described.",
            expected="an .onnx model that edgedf did not write",
            next_step="leave the description out; or export the model as .onnx",
        )
    return data


Feeder = Callable[[NDArray[np.uint8]], dict[str, NDArray[Any]]]
Tensors = Callable[[NDArray[np.uint8]], list[NDArray[Any]]]


def _session(proto: Any) -> Any:
    try:
        return open_session(proto.SerializeToString())
    except Exception as error:  # its exception types share no base but Exception
        raise refused(Onnx.name, "onnxruntime", error) from error


def _run(
    session: Any, names: Sequence[str] | None, feed: dict[str, NDArray[Any]]
) -> list[NDArray[Any]]:
    try:
        return list(session.run(names, feed))
    except Exception as error:
        raise failed_to_run("onnxruntime", error) from error


def _feeder(image: ImageInput, description: Description) -> Feeder:
    """Bytes (N, N, 3) → what the file as it was takes."""
    mean = np.array(description.mean or 0, np.float32)
    std = np.array(description.std or 1, np.float32)

    def feed(picture: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        given: NDArray[Any] = picture
        if image.kind == "float32":
            given = (picture.astype(np.float32) - mean) / std
        if image.layout == "NCHW":
            given = given.transpose(2, 0, 1)
        return {image.name: np.ascontiguousarray(given[np.newaxis])}

    return feed


def _tensors_of(proto: Any, feed: Feeder, *names: str) -> Tensors:
    """The file as it was, asked for some of its tensors."""
    import onnx

    asked = onnx.ModelProto()
    asked.CopyFrom(proto)
    del asked.graph.output[:]
    # Without a type: the runtime infers it.
    asked.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = _session(asked)
    return lambda picture: _run(session, names, feed(picture))


def _original(seen: Tensors, score: Score) -> Run:
    """The file as it was; a score is looked at before its curve, where it is exact."""

    def run(picture: NDArray[np.uint8]) -> Outputs:
        values, dense = seen(picture)
        side = picture.shape[0] // MAP_STRIDE
        return as_outputs(score.logit(values), np.asarray(dense, np.float32).reshape(side, side))

    return run


def _pictures(side: int, which: slice) -> list[NDArray[np.uint8]]:
    """Pictures to compare on: those of the shipped sample."""
    from edgedf import sample

    return [preprocess(image.path, side) for image in sample.images()[which]]


def _prove(original: Run, adopted: Run, pictures: Sequence[NDArray[np.uint8]], path: Path) -> None:
    """Compare on photographs, before anything is quantized."""
    old, new = [original(p) for p in pictures], [adopted(p) for p in pictures]
    dense = np.stack([outputs["defocus_map"] for outputs in old])
    if not np.isfinite(dense).all() or dense.min() < -0.5 or dense.max() > MAP_MAXIMUM + 0.5:
        raise SpecMismatch(
            f"The map of {path} goes from {dense.min():.3g} to {dense.max():.3g} on photographs.",
            expected=f"blur as the standard deviation of a Gaussian in pixels of the input, 0 to "
            f"{MAP_MAXIMUM:g}",
            next_step="scale it inside the model, or check mean and std",
        )
    for name in ("fake_logit", "defocus_map"):
        expected, actual = (np.stack([outputs[name] for outputs in runs]) for runs in (old, new))
        if name == "defocus_map":
            expected = expected.clip(0, MAP_MAXIMUM)
        worst = float(np.abs(expected - actual).max())
        if not worst <= _CLOSE * max(1.0, float(np.ptp(expected))):
            raise SpecMismatch(
                f"With bytes as input, {path} gives another {name}: it differs by {worst:.3g}.",
                expected="the same outputs, up to rounding",
                next_step="check mean and std; if they are right, please report it with the file",
            )
