"""``edgedf distill evaluate``: how good a checkpoint is on labelled pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

__all__ = ["EPILOG", "evaluate"]

EPILOG = """Examples:

[bold]edgedf distill evaluate runs/first/student.safetensors --data pictures/[/]

[bold]edgedf distill evaluate runs/first/student.safetensors --data pictures/ --split val --json[/]

[bold]edgedf distill evaluate runs/first/student.safetensors --data pictures/ --robustness[/]

Exit code: 0 all pictures were measured, 1 some (at most 5 %) could not be read."""

SOME_SKIPPED = 1


def evaluate(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A .safetensors file.")],
    data: Annotated[Path, typer.Option(metavar="DIR", help="Folder with manifest.csv.")],
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    metrics: Annotated[
        str,
        typer.Option(
            metavar="all|auc",
            help="all: every figure by set and source. auc: the few that the model card has.",
        ),
    ] = "all",
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Also the AUC of pictures recompressed, scaled, …")
    ] = False,
    cache: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where computed maps are kept. Default: a new folder."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Processes that compute maps. Default: one a core."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Measure a student: scores, verdicts and defocus maps, each figure with its 95 % interval.

    Blends and renderings are made as in the training that the checkpoint comes from. Exported
    models are measured by edgedf evaluate.
    """
    from edgedf.cli._console import StepProgress, new_console, print_json
    from edgedf.cli._figures import figures_table, needs_distill, report_tables, skipped_text

    with needs_distill("Evaluating a checkpoint"):
        from edgedf.distill.evaluation.evaluate import evaluate_checkpoint
    from edgedf import typed_json
    from edgedf.machine import available_cores

    with StepProgress() as progress:
        evaluation = evaluate_checkpoint(
            checkpoint,
            data,
            split,
            metrics=cast(Any, metrics),
            robustness=robustness,
            cache=cache,
            workers=workers or available_cores(),
            progress=progress,
        )
    if as_json:
        print_json({"checkpoint": str(checkpoint), **typed_json.encode(evaluation)})
    else:
        console = new_console()
        console.print(figures_table(evaluation.figures, f"{checkpoint.name}, {split} split"))
        for part in () if evaluation.report is None else report_tables(evaluation.report):
            console.print(part)
    if evaluation.skipped:
        new_console(stderr=True).print(skipped_text(evaluation.skipped))
        raise typer.Exit(SOME_SKIPPED)
