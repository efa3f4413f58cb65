"""``edgedf distill train``: a student from a folder of labelled pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["EPILOG", "train"]

EPILOG = """Examples:

[bold]edgedf distill train --data pictures/ --out runs/first[/]

[bold]edgedf distill train --data pictures/ --out runs/quick --steps 300 --json[/]

Started again with the same options, a run that was cut off goes on where it was."""


def train(
    data: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="Folder with manifest.csv: file, set, label, group, split, source.",
        ),
    ],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of the run: state, metrics, student.")
    ],
    steps: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Optimiser steps. Default: 1800.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Pictures a step. Default: 32.")
    ] = None,
    frozen_stages: Annotated[
        int | None,
        typer.Option(
            min=0, max=5, metavar="N", help="Encoder stages that keep their ImageNet weights: 2."
        ),
    ] = None,
    input_size: Annotated[
        int | None,
        typer.Option(min=16, metavar="N", help="Side of the input, a multiple of 16: 256."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of everything random.")] = 0,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where computed maps are kept, for runs to share. Default: in --out.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Processes that compute maps. Default: one a core."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Train a student and measure it on the test split.

    First the defocus map of every picture is computed (once; kept in the cache), then the student
    learns maps and labels. The best averaged weights on the validation split are tested once.
    """
    from edgedf.cli._console import StepProgress, new_console, print_json
    from edgedf.cli._figures import figures_table, needs_distill

    with needs_distill("Training"):
        from edgedf.distill.student import StudentConfig
        from edgedf.distill.train import REPORT, TrainSettings
        from edgedf.distill.train import train as run
    from edgedf.cores import available_cores

    chosen: dict[str, Any] = {"steps": steps, "batch": batch, "frozen_stages": frozen_stages}
    settings = TrainSettings(
        seed=seed,
        student=StudentConfig() if input_size is None else StudentConfig(input_size=input_size),
        **{name: value for name, value in chosen.items() if value is not None},
    )
    with StepProgress() as progress:
        report = run(
            data,
            out,
            settings,
            cache=cache,
            workers=workers or available_cores(),
            progress=progress,
        )
    if as_json:
        import json

        print_json(json.loads((out / REPORT).read_text("utf-8")))
        return
    console = new_console()
    console.print(figures_table(report.test, "Test split, used for no choice"))
    console.print(
        f"{report.parameters / 1e6:.2f} M parameters, weights of step {report.best_step}, "
        f"{report.seconds / 60:.0f} min of steps"
    )
    console.print(f"Student: {report.checkpoint}", soft_wrap=True)
    console.print(f"Next: edgedf convert {report.checkpoint}", soft_wrap=True)
