"""``edgedf distill teach``: a teacher of several modalities, from labelled pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from edgedf.cli._training import CacheFolder, ConfigFile, Overrides, Workers

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
            metavar="LIST", help="Of rgb, frequency, defocus: teacher.modalities. Default: all."
        ),
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(metavar="NAME", help="lite0, lite1 or lite2: teacher.backbone.")
    ] = None,
    penalty: Annotated[
        float | None,
        typer.Option(min=0.0, metavar="X", help="On each branch's weights, the more the simpler."),
    ] = None,
    cache: CacheFolder = None,
    workers: Workers = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Fit a teacher: the picture, its fine detail and its defocus map, each judged by itself.

    Frozen encoders see the modalities; what they see is kept in the cache, and a linear verdict
    for each is found in closed form. edgedf distill train --teacher passes it on to a student.
    """
    from edgedf.cli._console import StepProgress, new_console, print_json
    from edgedf.cli._figures import figures_table, needs_distill, skipped_text
    from edgedf.cli._training import settings_of, show_settings

    with needs_distill("Teaching"):
        from edgedf.distill.distributed import MainFailed, cores_a_process, is_main
        from edgedf.distill.teach import REPORT, TeachSettings
        from edgedf.distill.teach import teach as run

    chosen = None
    if modalities is not None:
        chosen = json.dumps([name.strip() for name in modalities.split(",") if name.strip()])
    settings = settings_of(
        TeachSettings,
        config,
        overrides,
        {
            "penalty": penalty,
            "teacher.modalities": chosen,
            "teacher.backbone": backbone,
        },
    )
    speaks = is_main()
    if speaks and not as_json:
        show_settings(settings)
    workers = workers or cores_a_process()
    try:
        with StepProgress() as progress:
            report = run(data, out, settings, cache=cache, workers=workers, progress=progress)
    except MainFailed as error:  # the main process says why
        raise typer.Exit(2) from error
    if not speaks:
        return
    if as_json:
        print_json(json.loads((out / REPORT).read_text("utf-8")))
        return
    console = new_console()
    if report.skipped:
        new_console(stderr=True).print(skipped_text(report.skipped), soft_wrap=True)
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
