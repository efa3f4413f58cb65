"""``edgedf distill train --qat``: a student that is trained already, fine-tuned for int8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from edgedf.distill.qat.figures import Agreement

__all__ = ["train_qat"]


def train_qat(
    data: Path,
    out: Path,
    student: Path,
    config: Path | None,
    overrides: Sequence[str] | None,
    shortcuts: Mapping[str, Any],
    others: Mapping[str, Any],
    *,
    as_json: bool,
) -> None:
    """Train, and print what came of it.

    Args:
        data: Folder with ``manifest.csv``.
        out: Folder of the run.
        student: The checkpoint to fine-tune.
        config: What ``--config`` was given.
        overrides: What ``--set`` was given.
        shortcuts: Settings that have options of their own; None where not given.
        others: Options of training from nothing, by name; None where not given.
        as_json: Print the report and nothing else.

    Raises:
        ConfigError: One of the other options was given.
        EdgedfError: As :func:`edgedf.distill.qat.qat.train_qat`.
    """
    from edgedf.cli._console import new_console
    from edgedf.cli._figures import needs_distill
    from edgedf.cli._training import run_and_report, settings_of
    from edgedf.errors import ConfigError

    given = [name for name, value in others.items() if value is not None]
    if given:
        raise ConfigError(
            f"{given[0]} has no part in quantization-aware training.",
            expected="--data, --out, --qat, --steps, --batch, --seed, --config, --set",
            next_step=f"leave {given[0]} out",
        )
    with needs_distill("Training"):
        from edgedf.distill.qat.qat import REPORT
        from edgedf.distill.qat.qat import train_qat as run
        from edgedf.distill.settings import QatSettings

    settings = settings_of(QatSettings, config, overrides, shortcuts)
    report = run_and_report(
        lambda progress, _: run(data, out, student, settings, progress=progress),
        settings,
        None,
        out / REPORT,
        as_json=as_json,
    )
    if report is None:
        return
    console = new_console()
    console.print(_table(report.figures))
    early = ", stopped early" if report.stopped_early else ""
    console.print(
        f"Weights of step {report.best_step} of {report.steps}{early}, "
        f"{report.seconds / 60:.0f} min of steps"
    )
    console.print(f"Student: {report.checkpoint}", soft_wrap=True, markup=False)
    console.print(f"Next: edgedf convert {report.checkpoint}", soft_wrap=True, markup=False)


def _table(figures: Sequence[Agreement]) -> Table:
    from edgedf.cli._tables import new_table

    numbers = ("n", "logit error", "corr.", "map error, px", "flips", "AUC", "float AUC")
    headings = ("pictures", "model", *numbers)
    table = new_table(headings, title="Against the float student", numbers=numbers)
    for figure in figures:
        correlation = figure.logit_correlation
        aucs = (figure.auc, figure.parent_auc)
        table.add_row(
            figure.data,
            figure.model,
            str(figure.n),
            f"{figure.logit_error:.4f}",
            "-" if correlation is None else f"{correlation:.4f}",
            f"{figure.map_error:.4f}",
            str(figure.flips),
            *("-" if auc is None else f"{auc.value:.4f}" for auc in aucs),
        )
    return table
