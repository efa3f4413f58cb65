"""``edgedf convert``: a student to int8 TFLite and ONNX, with proof."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgedf.cli._options import option
from edgedf.precision import AUTO, PRECISIONS, precision_named
from edgedf.quantize.calibration.settings import CalibrationImages
from edgedf.quantize.recipe import Recipe

if TYPE_CHECKING:
    from edgedf.progress import Progress
    from edgedf.quantize.accuracy.verify import Gate
    from edgedf.quantize.auto.per_format import Search
    from edgedf.quantize.conversion.report import ConversionReport
    from edgedf.quantize.sources.description import Description

__all__ = ["app"]

app = typer.Typer(add_completion=False)

MOST_MINUTES = 24 * 60

_EPILOG = """Examples:

[bold]edgedf convert[/]

[bold]edgedf convert --to tflite --calibration photos/ --samples 64 --out models/[/]

[bold]edgedf convert --to tflite --calibration data/manifest.csv --method mse[/]

[bold]edgedf convert student.safetensors --precision fp16[/]

[bold]edgedf convert --precision int8-weights --out models/[/]

[bold]edgedf convert --to onnx --io float32 --keep fp32:'decoder.*'[/]

[bold]edgedf convert --gate pictures/ --limits limits.toml --out models/[/]

[bold]edgedf convert student.tflite --precision auto --gate pictures/ --limits limits.toml[/]

[bold]edgedf convert student.safetensors --lint[/]

[bold]edgedf convert detector.onnx --describe model.toml --to onnx[/]

[bold]edgedf convert --json | jq .passed[/]

Exit code: 0 the files agree with the original, 1 they do not, 2 something
that was asked or given is wrong. With --lint: 0 the model is made for int8,
1 it is not."""


def _precisions() -> str:
    """All precisions for the help, with what has to be known of them."""
    names = [f"{name} ({it.note})" if it.note else name for name, it in PRECISIONS.items()]
    return f"{', '.join(names[:-1])} or {names[-1]}"


@app.command(epilog=_EPILOG)
def convert(
    checkpoint: Annotated[
        Path | None,
        typer.Argument(
            metavar="CHECKPOINT",
            help="A .safetensors checkpoint (needs the export extra), a float .tflite or .onnx "
            "of ours, or an .onnx of your own with --describe. Default: the student that edgedf "
            "carries.",
            show_default=False,
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="FORMATS",
            help="tflite, onnx, or both with a comma. Default: all that CHECKPOINT can give.",
            show_default=False,
        ),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help=f"{_precisions()}; {AUTO} to search for the int8 file that passes --gate.",
        ),
    ] = Recipe.precision,
    io: Annotated[str, option(Recipe, "input_type", metavar="TYPE")] = Recipe.input_type,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PRECISION:GLOB",
            help="Keep the layers of these names, as edgedf verify --layers prints them, in fp32 "
            "or int8-a16. Repeatable; the last that matches a layer counts.",
            show_default=False,
        ),
    ] = None,
    calibration: Annotated[
        Path | None, option(CalibrationImages, "path", metavar="PATH", show_default=False)
    ] = None,
    calibration_split: Annotated[
        str | None, option(CalibrationImages, "split", metavar="NAME", show_default=False)
    ] = None,
    samples: Annotated[
        int, option(CalibrationImages, "samples", metavar="N")
    ] = CalibrationImages.samples,
    method: Annotated[
        str | None, option(Recipe, "method", metavar="NAME", show_default=False)
    ] = None,
    equalize: Annotated[bool, option(Recipe, "equalize", "--equalize")] = False,
    correct_biases: Annotated[bool, option(Recipe, "correct_biases", "--correct-biases")] = False,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for NAME_PRECISION.FORMAT.")
    ] = Path("build"),
    seed: Annotated[int, option(CalibrationImages, "seed", metavar="N")] = CalibrationImages.seed,
    gate: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Pictures, best labelled, that each file has to pass on as in edgedf verify; one "
            "that fails, or of which that cannot be told, is not written.",
            show_default=False,
        ),
    ] = None,
    limits: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Of the gate, as for edgedf verify.", show_default=False),
    ] = None,
    qat_minutes: Annotated[
        float | None,
        typer.Option(
            metavar="MIN",
            help="With --precision auto: train a checkpoint for int8 so long where nothing else "
            "helps. Default: no training.",
            show_default=False,
        ),
    ] = None,
    describe: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="For an .onnx of your own: TOML with what its graph does not say.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
    keep_failing: Annotated[
        bool, typer.Option("--keep-failing", help="Write the files even if they do not agree.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Make int8 of a model too that --lint objects to.")
    ] = False,
    lint: Annotated[
        bool,
        typer.Option(
            "--lint",
            help="Convert nothing; name each layer that int8 would not make fast, and what to use "
            "instead.",
        ),
    ] = False,
) -> None:
    """Convert a student to int8 TFLite and ONNX, and prove that the files agree with it.

    Original and result run on the calibration images and on images that calibration never saw.
    Files appear whole or not at all, and only when every figure is within its tolerance.
    """
    from edgedf.cli._console import StepProgress, print_json, quiet_but_for_progress
    from edgedf.quantize.calibration.settings import method_named
    from edgedf.quantize.conversion.convert import convert as run_conversion
    from edgedf.quantize.making.input_type import input_type_named
    from edgedf.quantize.making.keep import Keep

    if lint:
        _lint(checkpoint, to, describe, as_json)
        return
    is_auto = precision == AUTO
    recipe = Recipe(
        "int8" if is_auto else precision_named(precision),
        input_type_named(io),
        None if method is None else method_named(method),
        equalize,
        correct_biases,
        tuple(map(Keep.parse, keep or ())),
    )
    with quiet_but_for_progress(), StepProgress() as progress:
        wanted = _gate(gate, limits, progress)
        report = run_conversion(
            checkpoint,
            recipe,
            formats=_formats(to),
            calibration=CalibrationImages(calibration, calibration_split, samples, seed),
            gate=wanted,
            search=_search(qat_minutes, is_auto),
            out=out,
            keep_failing=keep_failing,
            allow_hostile=force,
            describe=_description(describe),
            progress=progress,
        )
    if as_json:
        print_json(report.to_dict())
    else:
        _print(report)
    report.raise_if_failed()


def _formats(to: str | None) -> list[str] | None:
    return None if to is None else to.replace(",", " ").split()


def _search(minutes: float | None, is_auto: bool) -> Search | None:
    """The search of --precision auto; what its training lacks is said now, not after an hour."""
    from edgedf.cli._figures import needs_distill
    from edgedf.errors import ConfigError
    from edgedf.quantize.auto.per_format import Search

    if minutes is None:
        return Search() if is_auto else None
    if not is_auto or not 0 < minutes < MOST_MINUTES:
        raise ConfigError(
            f"--qat-minutes {minutes:g} does nothing.",
            expected=f"a time above 0 and below {MOST_MINUTES}, beside --precision auto",
            next_step="leave it out, or edgedf distill train --qat for training alone",
        )
    with needs_distill("Training for int8"):
        from edgedf.distill.qat.qat import fine_tune

    def train(checkpoint: Path, pictures: Sequence[Path], folder: Path, told: Progress) -> Path:
        return fine_tune(
            checkpoint, list(pictures), folder, minutes=minutes, progress=told
        ).checkpoint

    return Search(train)


def _description(path: Path | None) -> Description | None:
    if path is None:
        return None
    from edgedf.quantize.sources.description import Description
    from edgedf.settings import load_settings

    return load_settings(Description, path)


def _lint(checkpoint: Path | None, to: str | None, describe: Path | None, as_json: bool) -> None:
    """Say what int8 would make of the model; exit with 1 where that is not good."""
    from edgedf.cli._console import (
        StepProgress,
        new_console,
        print_json,
        quiet_but_for_progress,
    )
    from edgedf.cli._lint import lint_sections
    from edgedf.quantize.lint.report import lint_source

    with quiet_but_for_progress(), StepProgress() as progress:
        described = _description(describe)
        reports = lint_source(checkpoint, _formats(to), describe=described, progress=progress)
    friendly = all(report.friendly for report in reports)
    if as_json:
        print_json({"friendly": friendly, "models": [report.to_dict() for report in reports]})
    else:
        console = new_console()
        for part in lint_sections(reports):
            console.print(part)
    if not friendly:
        raise typer.Exit(1)


def _gate(data: Path | None, limits: Path | None, progress: Progress) -> Gate | None:
    """The gate that was asked for; read before anything is converted."""
    if data is None:
        if limits is not None:
            from edgedf.errors import ConfigError

            raise ConfigError(
                f"--limits {limits} limits nothing.",
                expected="--gate DIR beside it",
                next_step="name the pictures with --gate, or leave --limits out",
            )
        return None
    from edgedf.cli._gate import read_limits
    from edgedf.cli._pictures import compared_pictures
    from edgedf.quantize.accuracy.limits import Limits
    from edgedf.quantize.accuracy.verify import Gate

    allowed = read_limits(Limits, limits, {})
    chosen = compared_pictures(data, "auto", None, (), progress)
    return Gate(chosen.pictures, allowed, str(data), chosen.split, dict(chosen.left_out))


def _print(report: ConversionReport) -> None:
    from rich.padding import Padding
    from rich.text import Text

    from edgedf.cli._console import new_console
    from edgedf.cli._conversion import sections

    console = new_console()
    for title, body in sections(report):
        console.print(Text(title, style="bold"))
        console.print(Padding(body, (0, 0, 0, 2)))
