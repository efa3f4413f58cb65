"""Is a float model made for int8? Told from its graph, before a minute is spent on quantizing it.

A layer that stays float is an island with a conversion on either side. A layer that the CPU's
delegate does not take cuts the graph into pieces: hard-swish, of which XNNPACK has a float kernel
and no int8 one, makes a piece of everything between two of them. Either can make int8 slower
than float. What becomes of each operator is in :mod:`edgedf.quantize.lint.rules`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from edgedf.artifact import ModelFormat, read_model
from edgedf.errors import ConfigError, EdgedfError, MissingExtra
from edgedf.formats import open_graph
from edgedf.formats.onnx.container import SPEC_KEY
from edgedf.formats.onnx.float_island import CURVE_PREFIX
from edgedf.progress import Progress, silent
from edgedf.quantize.lint.graph import Graph, onnx_graph, tflite_graph
from edgedf.quantize.lint.partitions import Fate, count_pieces
from edgedf.quantize.lint.rules import (
    FLOAT_IN_ONNX_RUNTIME,
    KEEPS_SIGN,
    NEVER_NEGATIVE,
    Node,
    onnx_rule,
    tflite_rule,
)
from edgedf.quantize.sources.own_onnx import Description
from edgedf.quantize.sources.own_onnx_checks import parsed
from edgedf.quantize.sources.plain_graph import make_plain

__all__ = ["LintLayer", "LintReport", "check_int8_friendly", "lint_model", "lint_source"]

Problem = Literal["stays float", "left to the interpreter", "float and left to the interpreter"]

_SHOWN = 6


@dataclass(frozen=True)
class LintLayer:
    """A layer that int8 would not make fast.

    Args:
        name: Name of the tensor that it makes (TFLite), or of the node (ONNX).
        operator: Such as ``HARD_SWISH``.
        problem: What becomes of it.
        why: What it is about it, where its operator alone is no problem; else empty.
        remedy: What to do instead.
        tolerated: Whether int8 is worth it all the same.
        keep: Its name for ``--keep``, by which it can stay float; empty where it has none.
    """

    name: str
    operator: str
    problem: Problem
    why: str
    remedy: str
    tolerated: bool = False
    keep: str = ""


@dataclass(frozen=True)
class LintReport:
    """What int8 would make of a float model.

    Args:
        format: ``tflite`` or ``onnx``.
        operators: How many operators the float graph has.
        layers: The layers to change, in order of execution.
        pieces: Into how many pieces XNNPACK will take the model over; None for ``.onnx``, where
            no delegate is at work.
        undelegated: How many operators will be left to TFLite's interpreter, the CAST at the
            input among them; None for ``.onnx``.
    """

    format: ModelFormat
    operators: int
    layers: tuple[LintLayer, ...]
    pieces: int | None
    undelegated: int | None

    @property
    def friendly(self) -> bool:
        """Whether every layer is as it should be, but those that are tolerated."""
        return all(layer.tolerated for layer in self.layers)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "friendly": self.friendly}


def lint_model(model: bytes, model_format: ModelFormat) -> LintReport:
    """Predict what static int8 quantization and the runtime will make of a float model.

    Args:
        model: A float ``.tflite`` or ``.onnx`` file; it needs no spec.
        model_format: Which of the two.

    Returns:
        The prediction.

    Raises:
        ArtifactUnreadable: The model is damaged.
        MissingExtra: The package that reads the format is not installed.
    """
    try:
        if model_format == "tflite":
            return _tflite(tflite_graph(model), _names(model, model_format))
        return _onnx(onnx_graph(model), _names(model, model_format))
    except ImportError as error:
        raise MissingExtra("convert", f"Reading a .{model_format} model") from error


def lint_source(
    source: str | Path | None,
    formats: Sequence[str] | None = None,
    *,
    describe: Description | None = None,
    progress: Progress = silent,
) -> tuple[LintReport, ...]:
    """Lint whatever :func:`edgedf.convert` would convert, or any float model file.

    Args:
        source: As for :func:`edgedf.convert`, or a float ``.tflite`` or ``.onnx`` without a spec.
        formats: ``tflite``, ``onnx`` or both; None for all that the source can give.
        describe: As for :func:`edgedf.convert`; without it an ``.onnx`` is judged as it is.
        progress: Told about each step of an export.

    Returns:
        A report per format.

    Raises:
        EdgedfError: The source cannot be used.
    """
    from edgedf.quantize.sources.source import load_source, named_formats

    wanted = named_formats(formats)
    is_file = source is not None and Path(source).suffix.lower() in (".tflite", ".onnx")
    if source is not None and is_file and describe is None:
        model_format, model = read_model(source)
        if wanted in (None, (model_format,)):
            return (lint_model(_as_converted(model, model_format, Path(source)), model_format),)
    loaded = load_source(source, wanted, describe=describe, progress=progress)
    return tuple(lint_model(graph.file, name) for name, graph in loaded.models.items())


def _as_converted(model: bytes, model_format: ModelFormat, path: Path) -> bytes:
    """An ``.onnx`` of somebody's own in the form that it is brought into before it is quantized."""
    if model_format == "tflite":
        return model
    try:
        proto = parsed(model, path)
        if any(entry.key == SPEC_KEY for entry in proto.metadata_props):
            return model
        return bytes(make_plain(proto).SerializeToString(deterministic=True))
    except ImportError as error:
        raise MissingExtra("convert", "Reading an .onnx model") from error
    except EdgedfError:
        raise
    except Exception:  # whatever a damaged graph leads to; ONNX Runtime puts it into words
        return model


def check_int8_friendly(model: bytes, model_format: ModelFormat, *, delegated: bool = True) -> None:
    """Refuse a float model that would not become a good int8 one.

    Args:
        model: A float ``.tflite`` or ``.onnx`` file.
        model_format: Which of the two.
        delegated: Whether the CPU's delegate is to take it over; else only layers that stay float
            count.

    Raises:
        ConfigError: Layers would stay float or cut the model into pieces; says which operators,
            with the remedies.
        MissingExtra: The package that reads the format is not installed.
    """
    report = lint_model(model, model_format)
    bad = [
        layer
        for layer in report.layers
        if not layer.tolerated and (delegated or "float" in layer.problem)
    ]
    if not bad:
        return
    counts = Counter(layer.operator for layer in bad)
    listed = ", ".join(f"{count} {name}" for name, count in counts.items())
    remedies = {layer.operator: layer.remedy for layer in bad}
    shown = [f"instead of {name}: {remedy}" for name, remedy in list(remedies.items())[:_SHOWN]]
    whole = delegated and report.pieces is not None
    pieces = f" that XNNPACK takes over in one piece, not in {report.pieces}" if whole else ""
    raise ConfigError(
        f"The .{model_format} model has operators that break int8: {listed}.",
        expected=f"operators that become integers{pieces}",
        next_step=f"{'; '.join(shown)}; or convert it with --precision fp16, or as it is with "
        "--force; edgedf convert --lint names each layer",
    )


def _names(model: bytes, model_format: ModelFormat) -> dict[str, str]:
    """The name for ``--keep`` of the layer that makes a tensor."""
    layers = open_graph(model, model_format).named_layers()
    return {tensor: layer.name for layer in layers for tensor in layer.tensors}


def _tflite(graph: Graph, names: Mapping[str, str]) -> LintReport:
    layers, fates = [], []
    for node in graph.nodes:
        rule = tflite_rule(node.operator)
        is_input = node.operator == "CAST" and graph.inputs.issuperset(node.inputs)
        if is_input or not node.floats:
            fates.append(Fate(integer=False, taken=False))
            continue
        limit = next((limit for limit in rule.limits if limit.when(node)), None)
        taken = rule.taken and limit is None
        fates.append(Fate(rule.integer, taken))
        if rule.integer and taken:
            continue
        problem: Problem = "left to the interpreter"
        if not rule.integer:
            problem = "stays float" if taken else "float and left to the interpreter"
        layers.append(
            LintLayer(
                node.name,
                node.operator,
                problem,
                limit.what if limit is not None else "",
                limit.remedy if limit is not None else rule.remedy,
                keep=names.get(node.outputs[0], ""),
            )
        )
    return LintReport(
        "tflite",
        len(graph.nodes),
        tuple(layers),
        count_pieces(graph, fates),
        sum(not fate.taken for fate in fates),
    )


def _onnx(graph: Graph, names: Mapping[str, str]) -> LintReport:
    """Follow the quantizer through the graph: what it has put into integers so far."""
    quantized = set(graph.inputs)
    positive: set[str] = set()
    layers = []
    for node in graph.nodes:
        if not node.floats or node.operator == "Shape" or node.name.startswith(CURVE_PREFIX):
            continue  # nothing of it is quantized
        if node.operator == "Cast":  # of the input's bytes
            quantized.update(node.outputs)
            continue
        rule = onnx_rule(node.operator)
        limit = next((limit for limit in rule.limits if limit.when(node)), None)
        is_quantized = {
            "computes": True,
            "quantized": True,
            "follows": bool(node.inputs) and node.inputs[0] in quantized,
            "joins": quantized.issuperset(_floats_in(node)),
            "maximum": (quantized & positive).issuperset(node.inputs),
            "float": False,
        }[rule.kind]
        if _is_positive(node, positive):
            positive.update(node.outputs)
        if is_quantized:
            quantized.update(node.outputs)
        if rule.kind in ("computes", "quantized"):
            quantized.update(node.inputs)
        if is_quantized and rule.kind != "quantized" and limit is None:
            continue
        remedy = limit.remedy if limit is not None else rule.remedy
        why = limit.what if limit is not None else ""
        if not remedy:
            why, remedy = "what goes into it stays float", "change the layer before it"
        tolerated = node.operator in FLOAT_IN_ONNX_RUNTIME and is_quantized
        keep = names.get(node.outputs[0], "")
        layers.append(
            LintLayer(node.name, node.operator, "stays float", why, remedy, tolerated, keep)
        )
    return LintReport("onnx", len(graph.nodes), tuple(layers), None, None)


def _is_positive(node: Node, positive: set[str]) -> bool:
    """Whether nothing that a node makes is below 0, given which tensors are so."""
    if node.operator in NEVER_NEGATIVE:
        return True
    shifts = node.operator in ("Add", "Mul", "Concat") and bool(node.fixed)
    return node.operator in KEEPS_SIGN and not shifts and positive.issuperset(node.inputs)


def _floats_in(node: Node) -> list[str]:
    return [name for name in node.inputs if name in node.floats]
