"""What ``edgedf convert`` says about a conversion, for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from edgedf.cli._console import printable
from edgedf.cli._figures import notes
from edgedf.cli._search import search_table, threshold_text
from edgedf.cli._tables import mark, new_table
from edgedf.cli._verification import parts
from edgedf.int8_kernels import session_option_lines
from edgedf.quantize.accuracy.diagnosis import next_step, sentence
from edgedf.reports.section import counted
from edgedf.runtime.int8_speed import sentence as speed_sentence

if TYPE_CHECKING:
    from rich.console import RenderableType

    from edgedf.quantize.accuracy.parity import Comparison
    from edgedf.quantize.calibration.audit import CalibrationAudit
    from edgedf.quantize.conversion.report import ConversionReport, ConvertedModel
    from edgedf.spec import LayerOverride

__all__ = ["names_of", "sections"]

_SHOWN_SKIPPED = 5


def sections(report: ConversionReport) -> Iterator[tuple[str, RenderableType]]:
    """The report as titles and what stands below them.

    Args:
        report: What a conversion gave.

    Yields:
        A title and its body.
    """
    yield f"{report.model} from {printable(report.source)} to {report.precision}", _images(report)
    if report.audit is not None:
        yield "Calibration audit", _audit(report.audit)
    for search in report.searches:
        yield f"Stages tried for .{search.model}", search_table(search)
    for comparison in report.comparisons:
        images = f"{comparison.n} images {_SETS[comparison.images]}"
        yield f"{comparison.model} against {comparison.reference} on {images}", _rows(comparison)
    for verification in report.gate:
        yield (
            f"Gate on {printable(verification.data)}",
            Group(*parts(verification), *notes(verification)),
        )
    for model in report.models:
        if model.recalibration is not None and model.threshold is not None:
            yield (
                f"Thresholds of .{model.format}",
                threshold_text(
                    model.recalibration, model.threshold.fake_at, model.threshold.real_at
                ),
            )
        state = "" if model.written else " (not written)"
        yield printable(str(model.path)) + state, Text("\n".join(_facts(model)))
    stages = ", ".join(f"{name} {s:.1f}" for name, s in report.seconds.items() if name != "total")
    yield f"{report.seconds['total']:.1f} seconds", Text(stages)


_SETS = {"calibration": "used for calibration", "held out": "that calibration never saw"}


def _images(report: ConversionReport) -> Text:
    text = Text(printable(f"Images: {report.images}."))
    for entry in report.skipped[:_SHOWN_SKIPPED]:
        text.append("\n" + printable(f"Skipped {entry.path}: {entry.reason}"), style="yellow")
    if len(report.skipped) > _SHOWN_SKIPPED:
        more = len(report.skipped) - _SHOWN_SKIPPED
        text.append(f"\nSkipped {more} more; --json lists them all.", style="yellow")
    return text


_STYLES = {"note": "dim", "warning": "yellow", "error": "bold red"}


def _audit(audit: CalibrationAudit) -> Text:
    codecs = ", ".join(f"{count} {name}" for name, count in audit.codecs.items())
    text = Text(printable(f"{audit.images} images: {audit.real} real, {audit.fake} fake; {codecs}"))
    for name, tensors in audit.coverage.items():
        for worst in tensors[:1]:
            share = f"at most {worst.lost:.2%} of an activation's signal is clipped"
            where = f"on {audit.held_out} other images ({worst.tensor})"
            text.append("\n" + printable(f"{name}: {share} {where}"))
    for finding in audit.findings:
        said = f"{finding.severity}: {finding.message} Next step: {finding.next_step}."
        text.append("\n" + printable(said), style=_STYLES[finding.severity])
    if audit.worst in (None, "note"):
        text.append("\n✓ nothing to worry about", style="green")
    return text


def _rows(comparison: Comparison) -> Table:
    numbers = ("max", "mean", "of range", "corr.")
    table = new_table(("", "output", *numbers, "tolerance"), numbers=numbers)
    for column, width in zip(table.columns, (0, 11, 7, 7, 7, 7), strict=False):
        column.min_width = width  # tables of several comparisons stand below each other
    for output in comparison.outputs:
        correlation = "-" if output.correlation is None else f"{output.correlation:.4f}"
        dead = ", does not vary" if output.dead else ""
        table.add_row(
            mark("pass" if output.passed else "fail"),
            output.output + dead,
            f"{output.max_abs:.4f}",
            f"{output.mean_abs:.4f}",
            f"{100 * output.mean_relative:.2f} %",
            correlation,
            output.limit,
        )
    verdicts = comparison.verdicts
    changes = f", {verdicts.changes} to or from unsure" if verdicts.changes else ""
    flips = f"{counted(verdicts.flips, 'flip')}{changes}"
    limit = f"{flips}; allowed: {verdicts.allowed}"
    table.add_row(mark("pass" if verdicts.passed else "fail"), "verdicts", *[""] * 4, limit)
    return table


def _facts(model: ConvertedModel) -> Iterator[str]:
    share, source = model.bytes / model.source_bytes, model.source_bytes / 1e6
    size = f"{model.bytes / 1e6:.2f} MB, {share:.0%} of the float file ({source:.2f} MB)"
    yield f"{size}; made in {model.seconds:.1f} s"
    kinds = ", ".join(f"{count} {name}" for name, count in model.operators.items())
    yield f"{sum(model.operators.values())} operators: {kinds}"
    for entry in model.kept:
        yield printable(f"Kept in {entry.precision} by {entry.pattern}: {names_of(entry)}")
    if model.kept_operators:
        kinds = ", ".join(f"{count} {name}" for name, count in model.kept_operators.items())
        yield f"Operators of kept layers, with the conversions around them: {kinds}"
    if model.kept_in_vain:
        yield f"Kept in vain, in int8 after all: {', '.join(model.kept_in_vain)}"
    if model.boundary_operators:
        ends = _counted(model.boundary_operators)
        if model.float_operators:
            yield f"In float: {', '.join(model.float_operators)}; at input and outputs: {ends}"
        elif model.kept:
            yield f"All others int8 but those at input and outputs: {ends}"
        else:
            yield f"All int8 but those at input and outputs: {ends}"
    if model.diagnosis is not None:
        yield f"{sentence(model.diagnosis)}"
        todo = next_step(model.diagnosis, model.format)
        if todo:
            yield f"Next step: {todo}."
    if model.session_options:
        names = ", ".join(f"{name} = {value}" for name, value in model.session_options.items())
        yield (
            f"An app that opens it with an ONNX Runtime session of its own has to set {names} on "
            "x86-64 processors without VNNI, or answers are wrong there (edgedf does so itself; "
            "elsewhere leave it out):"
        )
        for language, lines in session_option_lines(model.session_options).items():
            yield f"  {language}: {' '.join(lines)}"
    if model.delegate_partitions is not None:
        partitions = counted(model.delegate_partitions, "partition")
        left = _counted(model.undelegated_operators) or "none"
        yield f"XNNPACK takes them over in {partitions}; left to the interpreter: {left}"
    if model.speed is not None:
        yield from filter(None, (speed_sentence(model.speed),))


def names_of(override: LayerOverride) -> str:
    """The layers that one ``--keep`` is about, in words."""
    names = ", ".join(override.layers) or "none that a later --keep does not name"
    behind = ", ".join(override.followers)
    return f"{names}; what takes these: {behind}" if behind else names


def _counted(names: Sequence[str]) -> str:
    counts = Counter(names)
    return ", ".join(f"{n} × {name}" if n > 1 else name for name, n in counts.items())
