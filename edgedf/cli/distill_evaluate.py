"""``edgedf distill evaluate``: how good a checkpoint is on labelled pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["EPILOG", "evaluate"]

EPILOG = """Examples:

[bold]edgedf distill evaluate runs/first/student.safetensors --data pictures/[/]

[bold]edgedf distill evaluate runs/first/best.safetensors --data pictures/ --split val --json[/]"""


def evaluate(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A .safetensors file.")],
    data: Annotated[Path, typer.Option(metavar="DIR", help="Folder with manifest.csv.")],
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
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
    """Measure a student: AUC by set and map error, each with its 95 % interval."""
    from edgedf.cli._console import StepProgress, new_console, print_json
    from edgedf.cli._figures import figures_table, needs_distill

    with needs_distill("Evaluating a checkpoint"):
        from edgedf.distill.evaluate import evaluate_checkpoint
    from edgedf import typed_json
    from edgedf.cores import available_cores

    with StepProgress() as progress:
        figures = evaluate_checkpoint(
            checkpoint,
            data,
            split,
            cache=cache,
            workers=workers or available_cores(),
            progress=progress,
        )
    if as_json:
        print_json({"checkpoint": str(checkpoint), "figures": typed_json.encode(figures)})
    else:
        new_console().print(figures_table(figures, f"{checkpoint.name}, {split} split"))
