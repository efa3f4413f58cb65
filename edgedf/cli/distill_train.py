"""``edgedf distill train``: a student from a folder of labelled pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgedf.cli._training import CacheFolder, ConfigFile, Overrides, Workers
from edgedf.distill.settings import LoopSettings, QatLoopSettings, StudentConfig, TrainSettings

__all__ = ["EPILOG", "train"]

MAX_ABOUT_BYTES = 100_000

EPILOG = """Examples:

[bold]edgedf distill train --data pictures/ --out runs/first[/]

[bold]edgedf distill train --data pictures/ --out runs/second
--teacher runs/teacher/teacher.safetensors[/]

[bold]edgedf distill train --data pictures/ --out runs/quick --steps 300 --json[/]

[bold]edgedf distill train --data pictures/ --out runs/next --config runs/first/settings.toml
--set loop.patience=3 --set student.decoder_channels=32[/]

[bold]edgedf distill train --data pictures/ --out runs/int8
--qat runs/first/student.safetensors --steps 300[/]

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
    qat: Annotated[
        Path | None,
        typer.Option(
            metavar="STUDENT",
            help="Fine-tune this checkpoint for int8 (quantization-aware training); it is its own "
            "teacher, and labels are not needed.",
        ),
    ] = None,
    config: ConfigFile = None,
    overrides: Overrides = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help=f"Optimiser steps: loop.steps. Default: {LoopSettings.steps}, with --qat "
            f"{QatLoopSettings.steps}.",
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help=f"Pictures a step and process: loop.batch. Default: {LoopSettings.batch}, with "
            f"--qat {QatLoopSettings.batch}.",
        ),
    ] = None,
    penalty: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            metavar="X",
            help="On the fake head's weights, the more the simpler. "
            f"Default: {TrainSettings.penalty:g}.",
        ),
    ] = None,
    input_size: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Side of the input, a multiple of 32: student.input_size. "
            f"Default: {StudentConfig.input_size}.",
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
    about: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Markdown about the pictures, for the model card."),
    ] = None,
    cache: CacheFolder = None,
    workers: Workers = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Train a student and measure it on the test split.

    First the defocus map of every picture is computed (once; kept in the cache), then the student
    learns maps step by step, and its verdict in closed form. The weights with the best maps on the
    validation split are tested once.

    With --qat a student that is trained already learns to be the same in int8.
    """
    if qat is not None:
        from edgedf.cli._qat import train_qat

        train_qat(
            data,
            out,
            qat,
            config,
            overrides,
            {"loop.steps": steps, "loop.batch": batch, "loop.seed": seed},
            {
                "--teacher": teacher,
                "--penalty": penalty,
                "--input-size": input_size,
                "--about": about,
                "--cache": cache,
                "--workers": workers,
            },
            as_json=as_json,
        )
        return
    from edgedf.cli._console import new_console
    from edgedf.cli._figures import figures_table, needs_distill
    from edgedf.cli._training import run_and_report, settings_of

    with needs_distill("Training"):
        from edgedf.distill.training.train import REPORT
        from edgedf.distill.training.train import train as run

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
    text = "" if about is None else _read(about)
    report = run_and_report(
        lambda progress, count: run(
            data,
            out,
            settings,
            teacher=teacher,
            about=text,
            cache=cache,
            workers=count,
            progress=progress,
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
    early = ", stopped early" if report.stopped_early else ""
    console.print(
        f"{report.parameters / 1e6:.2f} M parameters, weights of step {report.best_step}{early}, "
        f"{report.seconds / 60:.0f} min of steps"
    )
    console.print(f"Student: {report.checkpoint}", soft_wrap=True, markup=False)
    console.print(f"Next: edgedf convert {report.checkpoint}", soft_wrap=True, markup=False)


def _read(path: Path) -> str:
    """A text for the card, known to be there before training and not after.

    Raises:
        ConfigError: It cannot be read.
    """
    from edgedf.errors import ConfigError
    from edgedf.files import open_text

    try:
        if path.is_file() and path.stat().st_size > MAX_ABOUT_BYTES:
            raise ValueError(f"it has {path.stat().st_size / 1e6:.0f} MB")
        with open_text(path) as stream:
            return stream.read()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"--about {path} cannot be read: {getattr(error, 'strerror', None) or error}.",
            expected=f"a Markdown file of at most {MAX_ABOUT_BYTES // 1000} kB",
            next_step="check the path",
        ) from error
