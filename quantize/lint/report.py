"""Is a float model made for int8? It is quantized, and what became of its layers is looked at.

A layer that stays float is an island with a conversion on either side. A layer that the CPU's
delegate does not take cuts the graph into partitions: hard-swish, of which XNNPACK has a float
kernel and no int8 one, makes a partition of everything between two of them. Either can make int8
slower than float.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgedf import errors, typed_json
from edgedf.artifact import ModelFormat, read_model
from edgedf.errors import ArtifactUnreadable, ConfigError, EdgedfError, MissingExtra
from edgedf.formats import REGISTRY, ModelGraph, format_named, open_graph
from edgedf.formats.backend import first_line
from edgedf.formats.layers import KeptLayers
from edgedf.formats.lint import LintLayer
from edgedf.formats.onnx.container import SPEC_KEY
from edgedf.progress import Progress, silent
from edgedf.quantize.sources.description import Description
from edgedf.quantize.sources.own_onnx_checks import parsed
from edgedf.quantize.sources.plain_graph import make_plain

__all__ = ["LintLayer", "LintReport", "lint_model", "lint_quantized", "lint_source", "refuse"]

_SHOWN = 6
_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class LintReport:
    """What int8 makes of a float model.

    Args:
        format: ``tflite`` or ``onnx``.
        operators: How many operators the float graph has.
        layers: The layers to change, in order of execution.
        pieces: How many partitions the delegate takes over; None where the format has none.
        undelegated: How many operators are left to the interpreter, the CAST at the input among
            them; None likewise.
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


def lint_model(model: ModelGraph) -> LintReport:
    """Quantize a float model to int8 in memory, and look at what became of its layers.

    Args:
        model: A float model; it needs no spec.

    Raises:
        ArtifactUnreadable: The model is damaged.
        ConfigError: The model cannot be quantized.
        MissingExtra: The quantizer is not installed.
    """
    name = model.format.name
    try:
        quantized = model.try_int8()
    except ImportError as error:
        raise MissingExtra("convert", f"Quantizing a .{name} model") from error
    except EdgedfError:
        raise
    except Exception as error:  # the quantizers have no exceptions of their own
        raise ConfigError(
            f"The .{name} model cannot be quantized to int8: {first_line(error)}.",
            expected="a float model that runs, of operators that the quantizer knows",
            next_step="export it again, or convert it with --precision fp16",
        ) from error
    return lint_quantized(model, quantized)


def lint_quantized(
    model: ModelGraph, quantized: ModelGraph, *, kept: KeptLayers | None = None
) -> LintReport:
    """Look at what became of the layers of a float model.

    Args:
        model: The float model.
        quantized: The int8 model that was made from it.
        kept: Layers that were to stay out of int8; these are no findings, and neither is what only
            passes on what they make.
    """
    names = {tensor: layer.name for layer in model.named_layers() for tensor in layer.tensors}
    partitions, undelegated = quantized.partitions(), None
    if partitions is not None:
        taken = sum(len(partition.operators) for partition in partitions)
        undelegated = len(quantized.operators()) - taken
    return LintReport(
        model.format.name,
        len(model.operators()),
        quantized.slow_layers(names, kept or KeptLayers()),
        None if partitions is None else len(partitions),
        undelegated,
    )


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
    is_file = source is not None and Path(source).suffix.lower()[1:] in REGISTRY
    if source is not None and is_file and describe is None:
        model_format, model = read_model(source)
        if wanted in (None, (model_format,)):
            if not format_named(model_format).survives_damage:
                return (_lint_apart(Path(source)),)
            if format_named(model_format).takes_own:
                model = _as_converted(model, Path(source))
            return (lint_model(open_graph(model, model_format)),)
    loaded = load_source(source, wanted, describe=describe, progress=progress)
    return tuple(map(lint_model, loaded.models.values()))


def _as_converted(model: bytes, path: Path) -> bytes:
    """An ``.onnx`` of somebody's own in the form that it is brought into before it is quantized."""
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


def _lint_apart(path: Path) -> LintReport:
    """Lint a file in a process of its own, which a damaged one may end.

    Raises:
        EdgedfError: As :func:`lint_model`.
    """
    script = "import sys; from edgedf.quantize.lint.report import _answer; _answer(sys.argv[1])"
    try:
        done = subprocess.run(
            [sys.executable, "-c", script, str(path)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        if done.returncode == 0:
            # No pickle: whoever damages the process must not reach this one.
            answer = json.loads(done.stdout.splitlines()[-1])
            if "kind" not in answer:
                return typed_json.decode(LintReport, answer)
            kind = getattr(errors, answer.pop("kind"))
            if issubclass(kind, EdgedfError):
                raise errors.rebuild(kind, **answer)
            reason = "quantizing it gives no report"
        else:
            reason = f"quantizing it ends the process with exit code {done.returncode}"
    except subprocess.TimeoutExpired:
        reason = f"quantizing it took more than {_TIMEOUT_S:.0f} seconds"
    except (ValueError, TypeError, AttributeError, IndexError):
        reason = "quantizing it gives no report"
    raise ArtifactUnreadable(
        f"{path} is damaged: {reason}.",
        expected="a complete float model",
        next_step="copy or download it again, or export it again",
    )


def _answer(path: str) -> None:
    try:
        model_format, model = read_model(path)
        answer = typed_json.encode(lint_model(open_graph(model, model_format)))
    except EdgedfError as error:
        answer = {"kind": type(error).__name__, **vars(error)}
    print(json.dumps(answer))


def refuse(report: LintReport, *, delegated: bool = True) -> None:
    """Refuse a model that is not made for int8.

    Args:
        report: On the model.
        delegated: Whether the CPU's delegate is to take it over; else only layers that stay float
            count.

    Raises:
        ConfigError: Layers stay float or cut the model into partitions; says which operators, with
            the remedies.
    """
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
    taken = f" that XNNPACK takes over in one partition, not in {report.pieces}" if whole else ""
    raise ConfigError(
        f"The .{report.format} model has operators that break int8: {listed}.",
        expected=f"operators that become integers{taken}",
        next_step=f"{'; '.join(shown)}; or convert it with --precision fp16, or as it is with "
        "--force; edgedf convert --lint names each layer",
    )
