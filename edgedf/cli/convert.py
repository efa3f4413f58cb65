"""``edgedf convert``: a student to int8 TFLite and ONNX, with proof."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from edgedf.progress import Progress
    from edgedf.quantize.report import ConversionReport
    from edgedf.quantize.verify import Gate

__all__ = ["app"]

app = typer.Typer(add_completion=False)

_EPILOG = """Examples:

[bold]edgedf convert[/]

[bold]edgedf convert --to tflite --calibration photos/ --samples 64 --out models/[/]

[bold]edgedf convert student.safetensors --precision fp16[/]

[bold]edgedf convert --precision int8-weights --out models/[/]

[bold]edgedf convert --to onnx --io float32 --keep fp32:'decoder.*'[/]

[bold]edgedf convert --gate pictures/ --limits limits.toml --out models/[/]

[bold]edgedf convert --json | jq .passed[/]

Exit code: 0 the files agree with the original, 1 they do not, 2 something
that was asked or given is wrong."""


@app.command(epilog=_EPILOG)
def convert(
    checkpoint: Annotated[
        Path | None,
        typer.Argument(
            metavar="CHECKPOINT",
            help="A .safetensors checkpoint (needs the export extra), or a float .tflite or .onnx "
            "of ours. Default: the student that edgedf carries.",
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
            "or fp32.",
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
            metavar="DIR",
            help="Images to calibrate and to check with, best in subfolders 'real' and 'fake'. "
            "Default: the sample that edgedf carries.",
            show_default=False,
        ),
    ] = None,
    samples: Annotated[
        int, typer.Option(metavar="N", help="Images to calibrate with; the others check.")
    ] = 32,
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
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
    keep_failing: Annotated[
        bool, typer.Option("--keep-failing", help="Write the files even if they do not agree.")
    ] = False,
) -> None:
    """Convert a student to int8 TFLite and ONNX, and prove that the files agree with it.

    Original and result run on the calibration images and on images that calibration never saw.
    Files appear whole or not at all, and only when every figure is within its tolerance.
    """
    from edgedf.cli._console import StepProgress, print_json
    from edgedf.quantize.convert import convert as run_conversion

    with _quiet_but_for_progress(), StepProgress() as progress:
        wanted = _gate(gate, limits, progress)
        report = run_conversion(
            checkpoint,
            formats=None if to is None else to.replace(",", " ").split(),
            precision=precision,
            io=io,
            keep=keep or (),
            calibration=calibration,
            samples=samples,
            out=out,
            seed=seed,
            keep_failing=keep_failing,
            gate=wanted,
            progress=progress,
        )
    if as_json:
        print_json(report.to_dict())
    else:
        _print(report)
    report.raise_if_failed()


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
    from edgedf.cli._pictures import compared_pictures
    from edgedf.cli._verification import limits_of
    from edgedf.quantize.verify import Gate

    allowed = limits_of(limits, {})
    pictures, split = compared_pictures(data, "auto", None, (), progress)
    return Gate(pictures, allowed, str(data), split)


@contextlib.contextmanager
def _quiet_but_for_progress() -> Iterator[None]:
    """Drop what C++ libraries write to standard error, and keep what Python writes there."""
    from edgedf.cli._console import quiet_natives

    try:
        is_plain = sys.stderr.fileno() == 2
    except (OSError, AttributeError, ValueError):
        is_plain = False
    with contextlib.ExitStack() as stack:
        if is_plain:
            copy = os.fdopen(os.dup(2), "w", 1, sys.stderr.encoding, "backslashreplace")
            stack.enter_context(copy)
            stack.enter_context(contextlib.redirect_stderr(copy))
        stack.enter_context(quiet_natives())
        yield


def _print(report: ConversionReport) -> None:
    from rich.padding import Padding
    from rich.text import Text

    from edgedf.cli._console import new_console
    from edgedf.cli._conversion import sections

    console = new_console()
    for title, body in sections(report):
        console.print(Text(title, style="bold"))
        console.print(Padding(body, (0, 0, 0, 2)))
