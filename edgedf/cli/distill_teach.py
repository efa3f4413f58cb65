"""``edgedf distill teach``: a teacher of several modalities, from labelled pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from edgedf.cli._training import CacheFolder, ConfigFile, Overrides, Workers
from edgedf.distill.settings import MODALITIES, LoopSettings, TeacherConfig, TeachSettings

__all__ = ["EPILOG", "teach"]

EPILOG = """Examples:

[bold]edgedf distill teach --data pictures/ --out runs/teacher --cache runs/cache[/]

[bold]edgedf distill teach --data pictures/ --out runs/rgb --modalities rgb[/]

[bold]torchrun --nproc-per-node 2 -m edgedf.cli distill teach --data pictures/ --out runs/teacher[/]

A run that was killed goes on when it is started again with the same options."""


def teach(
    data: Annotated[Path, typer.Option(metavar="DIR", help="Folder with manifest.csv.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the teacher goes.")],
    config: ConfigFile = None,
    overrides: Overrides = None,
    modalities: Annotated[
        str | None,
        typer.Option(
            metavar="LIST", help=f"Of {', '.join(MODALITIES)}: teacher.modalities. Default: all."
        ),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=f"lite0, lite1 or lite2: teacher.backbone. Default: {TeacherConfig.backbone}.",
        ),
    ] = None,
    penalty: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            metavar="X",
            help="On each branch's weights, the more the simpler. "
            f"Default: {TeachSettings.penalty:g}.",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Optimiser steps of the map's head: loop.steps. "
            f"Default: {TeachSettings().loop.steps}.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help=f"Of everything random: loop.seed. Default: {LoopSettings.seed}.",
        ),
    ] = None,
    cache: CacheFolder = None,
    workers: Workers = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Fit a teacher: the picture, its fine detail and its defocus map, each judged by itself.

    Frozen encoders see the modalities; what they see is kept in the cache, and a linear verdict
    for each is found in closed form. A head of its own learns from renderings to improve the
    physical defocus map. edgedf distill train --teacher passes both on to a student.
    """
    from edgedf.cli._console import new_console
    from edgedf.cli._figures import figures_table, needs_distill
    from edgedf.cli._training import run_and_report, settings_of

    with needs_distill("Teaching"):
        from edgedf.distill.training.teach import REPORT
        from edgedf.distill.training.teach import teach as run

    chosen = None
    if modalities is not None:
        chosen = json.dumps([name.strip() for name in modalities.split(",") if name.strip()])
    settings = settings_of(
        TeachSettings,
        config,
        overrides,
        {
            "penalty": penalty,
            "loop.steps": steps,
            "loop.seed": seed,
            "teacher.modalities": chosen,
            "teacher.backbone": backbone,
        },
    )
    report = run_and_report(
        lambda progress, count: run(
            data, out, settings, cache=cache, workers=count, progress=progress
        ),
        settings,
        workers,
        out / REPORT,
        as_json=as_json,
    )
    if report is None:
        return
    console = new_console()
    console.print(figures_table(report.test, "Test split, used for no choice"))
    console.print(figures_table(report.calibration, "Calibration"))
    heat = ", ".join(f"{name} {value:.2f}" for name, value in report.temperatures.items())
    console.print(f"Temperatures: {heat}")
    console.print(f"Teacher: {report.teacher}", soft_wrap=True, markup=False)
    console.print(
        f"Next: edgedf distill train --teacher {report.teacher} --data {data} --out runs/student",
        soft_wrap=True,
        markup=False,
    )
