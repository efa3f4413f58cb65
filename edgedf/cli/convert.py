"""``edgedf convert``: a student to int8 TFLite and ONNX, with proof."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from edgedf.progress import Progress
    from edgedf.quantize.accuracy.verify import Gate
    from edgedf.quantize.auto.climbing import Trainer
    from edgedf.quantize.conversion.report import ConversionReport
    from edgedf.quantize.sources.own_onnx import Description

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
            help="int8, int8-a16, int8-weights, int8-dynamic (.tflite alone), fp16 (weights only) "
            "or fp32; auto for int8 with as much of a cure as it takes to pass --gate.",
        ),
    ] = "int8",
    io: Annotated[
        str,
        typer.Option(
            metavar="TYPE",
            help="Type of the input tensor: uint8 takes the picture's bytes, int8 bytes - 128, "
            "float32 the same 0 to 255. Outputs are float32.",
        ),
    ] = "uint8",
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
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Images to calibrate and to check with: a folder, best with subfolders 'real' and "
            "'fake', or a manifest.csv. Default: the sample that edgedf carries.",
            show_default=False,
        ),
    ] = None,
    calibration_split: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Split of the manifest to take images from. Default: train calibrates and val "
            "checks.",
            show_default=False,
        ),
    ] = None,
    samples: Annotated[
        int, typer.Option(metavar="N", help="Images to calibrate with; the others check.")
    ] = 32,
    method: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="How activation ranges are chosen: minmax, percentile, mse or entropy. Default: "
            "the ranges that distill train --qat has learned, else minmax.",
            show_default=False,
        ),
    ] = None,
    equalize: Annotated[
        bool,
        typer.Option(
            "--equalize", help="Make the channels of each tensor equally large before int8."
        ),
    ] = False,
    correct_biases: Annotated[
        bool,
        typer.Option(
            "--correct-biases", help="Let biases make up for the error of rounded weights."
        ),
    ] = False,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for NAME_PRECISION.FORMAT.")
    ] = Path("build"),
    seed: Annotated[int, typer.Option(metavar="N", help="Of the choice of images.")] = 0,
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
    from edgedf.quantize.conversion.convert import convert as run_conversion

    if lint:
        _lint(checkpoint, to, describe, as_json)
        return
    with quiet_but_for_progress(), StepProgress() as progress:
        wanted = _gate(gate, limits, progress)
        report = run_conversion(
            checkpoint,
            formats=_formats(to),
            precision=precision,
            io=io,
            keep=keep or (),
            calibration=calibration,
            calibration_split=calibration_split,
            samples=samples,
            method=method,
            equalize=equalize,
            correct_biases=correct_biases,
            out=out,
            seed=seed,
            keep_failing=keep_failing,
            allow_hostile=force,
            describe=_description(describe),
            trainer=_trainer(qat_minutes, precision),
            gate=wanted,
            progress=progress,
        )
    if as_json:
        print_json(report.to_dict())
    else:
        _print(report)
    report.raise_if_failed()


def _formats(to: str | None) -> list[str] | None:
    return None if to is None else to.replace(",", " ").split()


def _trainer(minutes: float | None, precision: str) -> Trainer | None:
    """Quantization-aware training with a budget; refused now and not after an hour of climbing."""
    if minutes is None:
        return None
    from edgedf.cli._figures import needs_distill
    from edgedf.errors import ConfigError
    from edgedf.quantize.precision import AUTO

    if precision != AUTO or not 0 < minutes < MOST_MINUTES:
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

    return train


def _description(path: Path | None) -> Description | None:
    if path is None:
        return None
    from edgedf.quantize.sources.own_onnx import Description
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
    from edgedf.quantize.accuracy.gate import Limits
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
