"""What ``edgedf convert --lint`` says, for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from edgedf.cli._console import printable
from edgedf.cli._tables import mark, new_table
from edgedf.reports.section import counted

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

    from edgedf.quantize.lint.report import LintLayer, LintReport

__all__ = ["lint_sections"]


def lint_sections(reports: Sequence[LintReport]) -> Iterator[RenderableType]:
    """One heading a format, and below it the layers to change.

    Args:
        reports: From :func:`edgedf.quantize.lint.report.lint_source`.
    """
    for report in reports:
        yield _heading(report)
        if report.layers:
            yield _table(report.layers)


def _heading(report: LintReport) -> Text:
    verdict = "is made for int8" if report.friendly else "is not made for int8"
    floats = sum("float" in layer.problem for layer in report.layers)
    facts = [f"{report.operators} operators", f"{floats or 'none'} of them stay float"]
    if report.pieces is not None:
        facts.append(f"XNNPACK takes them over in {counted(report.pieces, 'partition')}")
        facts.append(
            f"{report.undelegated} left to the interpreter, the CAST at the input included"
        )
    return mark("pass" if report.friendly else "fail").append(
        f" .{report.format} {verdict}: {', '.join(facts)}", style="default bold"
    )


def _table(layers: Sequence[LintLayer]) -> Table:
    table = new_table(("layer", "operator", "what becomes of it", "instead"))
    for layer in layers:
        problem = f"{layer.problem}: {layer.why}" if layer.why else layer.problem
        tolerated = " (tolerated)" if layer.tolerated else ""
        name = printable(layer.keep or layer.name)
        table.add_row(name, layer.operator, problem + tolerated, layer.remedy)
    return table
