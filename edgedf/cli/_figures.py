"""What the verbs that show accuracy share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from edgedf.cli._console import printable
from edgedf.cli._tables import ruled_table, shown
from edgedf.reports.section import counted

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

    from edgedf.evaluation import Report, Row, Skipped
    from edgedf.figures import Figure
    from edgedf.quantize.accuracy.verify import Verification
    from edgedf.spec import Accuracy

__all__ = ["figures_table", "needs_distill", "notes", "report_tables", "skipped_text"]

_SCORES = (
    ("AUC", "auc"),
    ("AP", "average_precision"),
    ("EER", "eer"),
    ("TPR@1%", "tpr_at_1_percent_fpr"),
    ("TPR@5%", "tpr_at_5_percent_fpr"),
    ("accuracy", "accuracy"),
    ("Brier", "brier"),
    ("ECE", "ece"),
)
_LISTED = 5
_NAME = 14  # characters of the first column that are never folded


def figures_table(figures: Sequence[Accuracy], title: str) -> Table:
    """A line a figure: data, metric, value, interval, n, model."""
    table = _table(title, ("data", "metric", "value", "95 % interval", "n", "model"))
    for figure in figures:
        cells = (figure.dataset, figure.metric, f"{figure.value:.3f}", _interval(figure))
        table.add_row(*map(shown, (*cells, str(figure.n), figure.model)))
    return table


def report_tables(report: Report) -> Iterator[RenderableType]:
    """A report for people: scores, verdicts by set and source, maps, changed pictures.

    Args:
        report: What :mod:`edgedf.evaluation` made.

    Yields:
        What to print, one below the other; tables without a line are left out.
    """
    for level, unit in (("frame", "pictures"), ("video", "videos")):
        rows = [row for row in report.rows if row.level == level]
        if not rows:
            continue
        yield _scores(rows, f"Scores of {unit}, {report.split} split", report.mean_auc)
        if report.threshold is not None:
            yield _verdicts(rows, f"Verdicts on {unit}: share called", report)
    if report.maps:
        yield _maps(report)
    if report.robustness:
        yield _robustness(report)


def skipped_text(skipped: Sequence[Skipped]) -> Text:
    """How many pictures could not be read, and which."""
    are = "is" if len(skipped) == 1 else "are"
    text = shown(f"{counted(len(skipped), 'picture')} could not be read and {are} left out:")
    for entry in skipped[:_LISTED]:
        text.append("\n").append_text(shown(f"{entry.file}: {entry.reason}", "yellow"))
    if len(skipped) > _LISTED:
        text.append(f"\n{len(skipped) - _LISTED} more; --json lists them all.", style="yellow")
    return text


def notes(report: Report | Verification) -> Iterator[Text]:
    """What is to be said of the files, a line or more each."""
    from edgedf.picture_folders import left_out_text

    if report.left_out:
        yield shown(f"{left_out_text(report.left_out)}.")
    if report.damaged:
        are = "is" if len(report.damaged) == 1 else "are"
        files = ", ".join(report.damaged[:_LISTED])
        more = len(report.damaged) - _LISTED
        yield shown(
            f"{counted(len(report.damaged), 'picture')} {are} damaged and judged all the same: "
            f"{files}{f' and {more} more; --json lists them all' * (more > 0)}.",
            "yellow",
        )
    if report.skipped:
        yield skipped_text(report.skipped)


@contextlib.contextmanager
def needs_distill(what: str) -> Iterator[None]:
    """Turn a failed import of the training stage into the command that brings it."""
    try:
        yield
    except ModuleNotFoundError as error:
        from edgedf.errors import MissingExtra

        raise MissingExtra("distill", what) from error


def _scores(rows: Sequence[Row], title: str, mean: Figure | None) -> Table:
    table = _table(title, ("data", "real+fake", *(heading for heading, _ in _SCORES)))
    sets = [row.metrics for row in rows if row.by == "set"]
    for row in rows:
        # A set of one source says all there is to say of that source.
        if row.metrics.auc is None or (row.by in ("source", "fakes") and row.metrics in sets):
            continue
        figures = [getattr(row.metrics, name) for _, name in _SCORES]
        name = f"{row.name}, all real" if row.by == "fakes" else row.name
        counts = f"{row.metrics.real}+{row.metrics.fake}"
        table.add_row(shown(name), counts, *map(_cell, figures))
    both = sum(metrics.auc is not None for metrics in sets)
    if mean is not None and both > 1 and rows[0].level == "frame":
        table.add_row(f"mean of {both} sets", str(mean.n), _cell(mean))
    return table


def _verdicts(rows: Sequence[Row], title: str, report: Report) -> Table:
    cuts = report.threshold
    if cuts is not None:
        title = f"{title} fake (score from {cuts.fake_at:g}), real (up to {cuts.real_at:g}), unsure"
    headings = ("data", "n", "called fake", "95 % interval", "unsure", "called real")
    table = _table(title, headings)
    for label in ("real", "fake"):
        for row in rows:
            confusion = row.metrics.confusion
            figure = row.metrics.false_alarms if label == "real" else row.metrics.detections
            if row.by == "fakes" or confusion is None or figure is None:
                continue
            counts = confusion.real if label == "real" else confusion.fake
            table.add_row(
                shown(f"{label}: {row.name}"),
                str(figure.n),
                f"{figure.value:.1%}",
                f"{figure.low:.1%} to {figure.high:.1%}",
                f"{counts.unsure / figure.n:.1%}",
                f"{counts.real / figure.n:.1%}",
            )
        if label == "real":
            table.add_section()
    return table


def _maps(report: Report) -> Table:
    headings = ("data", "against", "error, px", "95 % interval", "correlation", "interval", "n")
    table = _table("Defocus maps", headings)
    for row in report.maps:
        error, correlation = row.metrics.error, row.metrics.correlation
        table.add_row(
            shown(row.name),
            f"{row.against} map",
            f"{error.value:.3f}",
            _interval(error),
            "-" if correlation is None else f"{correlation.value:.3f}",
            "-" if correlation is None else _interval(correlation),
            str(error.n),
        )
    return table


def _robustness(report: Report) -> Table:
    names = list(dict.fromkeys(row.name for row in report.robustness))
    aucs = {(row.change, row.name): row.auc for row in report.robustness}
    changes = {row.change: row.definition for row in report.robustness}
    table = _table("AUC of changed pictures", ("change", *names, "definition"))
    for change, definition in changes.items():
        cells = (_cell(aucs.get((change, name))) for name in names)
        table.add_row(change, *cells, shown(definition))
    return table


def _table(title: str, headings: Sequence[str]) -> Table:
    table = ruled_table(title, tuple(map(printable, headings)))
    table.columns[0].min_width = _NAME
    return table


def _cell(figure: Figure | None) -> RenderableType:
    """A value with its interval below."""
    from rich.text import Text

    if figure is None:
        return "-"
    # Without the zeros that say nothing, eight columns fit.
    ends = (
        f"{end:.3f}".removeprefix("0").removesuffix(".000") for end in (figure.low, figure.high)
    )
    interval = "–".join(end or "0" for end in ends)
    return Text(f"{figure.value:.3f}\n").append(interval, style="dim")


def _interval(figure: Figure | Accuracy) -> str:
    return f"{figure.low:.3f} to {figure.high:.3f}"
