"""``edgedf distill train``: a student from a folder of labelled pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgedf.cli._training import CacheFolder, ConfigFile, Overrides, Workers

__all__ = ["EPILOG", "train"]

EPILOG = """Examples:

[bold]edgedf distill train --data pictures/ --out runs/first[/]

[bold]edgedf distill train --data pictures/ --out runs/second
--teacher runs/teacher/teacher.safetensors[/]

[bold]edgedf distill train --data pictures/ --out runs/quick --steps 300 --json[/]

[bold]edgedf distill train --data pictures/ --out runs/next --config runs/first/settings.toml
--set loop.patience=3 --set student.decoder_channels=32[/]

[bold]torchrun --nproc-per-node 2 -m edgedf.cli distill train --data pictures/ --out runs/two[/]

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
    teacher: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="From edgedf distill teach. Default: labels alone."),
    ] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    steps: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Optimiser steps: loop.steps."),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Pictures a step and process: loop.batch."),
    ] = None,
    penalty: Annotated[
        float | None,
        typer.Option(
            min=0.0, metavar="X", help="On the fake head's weights, the more the simpler: 3."
        ),
    ] = None,
    input_size: Annotated[
        int | None,
        typer.Option(
            min=16, metavar="N", help="Side of the input, a multiple of 32: student.input_size."
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Of everything random: loop.seed."),
    ] = None,
    cache: CacheFolder = None,
    workers: Workers = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Train a student and measure it on the test split.

    First the defocus map of every picture is computed (once; kept in the cache), then the student
    learns maps step by step, and its verdict in closed form. The weights with the best maps on the
    validation split are tested once.
    """
    from edgedf.cli._console import StepProgress, new_console, print_json
    from edgedf.cli._figures import figures_table, needs_distill, skipped_text
    from edgedf.cli._training import settings_of, show_settings

    with needs_distill("Training"):
        from edgedf.distill.distributed import MainFailed, cores_a_process, is_main
        from edgedf.distill.train import REPORT, TrainSettings
        from edgedf.distill.train import train as run

    settings = settings_of(
        TrainSettings,
        config,
        overrides,
        {
            "loop.steps": steps,
            "loop.batch": batch,
            "loop.seed": seed,
            "penalty": penalty,
            "student.input_size": input_size,
        },
    )
    speaks = is_main()
    if speaks and not as_json:
        show_settings(settings)
    workers = workers or cores_a_process()
    try:
        with StepProgress() as progress:
            report = run(
                data,
                out,
                settings,
                teacher=teacher,
                cache=cache,
                workers=workers,
                progress=progress,
            )
    except MainFailed as error:  # the main process says why
        raise typer.Exit(2) from error
    if not speaks:
        return
    if as_json:
        import json

        print_json(json.loads((out / REPORT).read_text("utf-8")))
        return
    console = new_console()
    if report.skipped:
        new_console(stderr=True).print(skipped_text(report.skipped), soft_wrap=True)
    console.print(figures_table(report.test, "Test split, used for no choice"))
    early = ", stopped early" if report.stopped_early else ""
    console.print(
        f"{report.parameters / 1e6:.2f} M parameters, weights of step {report.best_step}{early}, "
        f"{report.seconds / 60:.0f} min of steps"
    )
    console.print(f"Student: {report.checkpoint}", soft_wrap=True, markup=False)
    console.print(f"Next: edgedf convert {report.checkpoint}", soft_wrap=True, markup=False)
