"""``edgedf evaluate``: how good an exported model is on labelled photographs."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from edgedf.cli._pictures import SetNames, SplitName

if TYPE_CHECKING:
    from edgedf.evaluation import Judgement
    from edgedf.result import Threshold
    from edgedf.runtime.detector import Detector

__all__ = ["app"]

app = typer.Typer(add_completion=False)

SOME_SKIPPED = 1

_EPILOG = """Examples:

[bold]edgedf evaluate build/student_int8.tflite pictures/[/]

[bold]edgedf evaluate build/student_int8.onnx pictures/ --csv predictions.csv[/]

[bold]edgedf evaluate build/student_int8.tflite pictures/ --robustness --json > report.json[/]

Exit code: 0 all pictures were judged, 1 some (at most 5 %) could not be read."""

_COLUMNS = ("file", "set", "source", "group", "label", "score", "verdict", "damaged")


@app.command(epilog=_EPILOG)
def evaluate(
    model: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="A .tflite or .onnx file from edgedf convert."),
    ],
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA", help="Folder with manifest.csv, with the folders real and fake, …"
        ),
    ],
    layout: Annotated[
        str, typer.Option(metavar="NAME", help="How DATA is laid out; see docs/datasets.md.")
    ] = "auto",
    split: SplitName = None,
    sets: SetNames = None,
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Also the AUC of pictures recompressed, scaled, …")
    ] = False,
    predictions: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE", help="Write a line a picture: score and verdict."),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, max=256, metavar="N", help="For the model. Default: one a core, at most 4."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Measure a model on labelled photographs, each figure with its 95 % interval.

    AUC, average precision, equal error rate, accuracy and calibration of the scores; verdicts and
    false alarms at the thresholds in the model; by set and source and pooled, for pictures and,
    where the manifest has a column video, for videos.
    """
    from edgedf import typed_json
    from edgedf.cli._console import StepProgress, new_console, print_json
    from edgedf.cli._figures import notes, report_tables
    from edgedf.cli._pictures import labelled_pictures
    from edgedf.distill.evaluation.perturb import perturbations
    from edgedf.runtime.evaluate import evaluate as run

    with contextlib.ExitStack() as stack:
        stream = None if predictions is None else stack.enter_context(_writable(predictions))
        detector = stack.enter_context(_opened(model, threads))
        progress = stack.enter_context(StepProgress())
        chosen = labelled_pictures(data, layout, split, sets or (), progress)
        report, judgements = run(
            detector,
            chosen.pictures,
            data=str(data),
            split=chosen.split,
            changes=perturbations() if robustness else (),
            progress=progress,
        )
        if stream is not None:
            _write(stream, judgements, detector.spec.threshold)
    report = dataclasses.replace(report, left_out=dict(chosen.left_out))
    if as_json:
        print_json(typed_json.encode(report))
    else:
        console = new_console()
        for part in report_tables(report):
            console.print(part)
    for note in notes(report):
        new_console(stderr=True).print(note, soft_wrap=True)
    if report.skipped:
        raise typer.Exit(SOME_SKIPPED)


@contextlib.contextmanager
def _opened(model: Path, threads: int | None) -> Iterator[Detector]:
    from edgedf.cli._console import quiet_natives
    from edgedf.runtime.detector import Detector

    with quiet_natives():
        detector = Detector(model, threads=threads)
    with detector:
        yield detector


@contextlib.contextmanager
def _writable(path: Path) -> Iterator[TextIO]:
    """Opened before the work, so that a path that cannot be written costs none."""
    from edgedf.errors import ConfigError
    from edgedf.files import atomic_path
    from edgedf.imaging import IMAGE_SUFFIXES

    if path.suffix.lower() in IMAGE_SUFFIXES or path == Path("-"):
        raise ConfigError(
            f"--csv {path} is no name for a table.",
            expected="a file such as predictions.csv",
            next_step="write --csv predictions.csv",
        )
    # surrogateescape: file names are bytes and need not be valid text.
    with (
        atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as stream,
    ):
        yield stream


def _write(stream: TextIO, judgements: Sequence[Judgement], threshold: Threshold) -> None:
    from edgedf.cli._results import _no_formula

    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for judgement in judgements:
        picture, score = judgement.picture, judgement.score
        names = (picture.set, picture.source, picture.group)
        writer.writerow(
            (
                _no_formula(picture.file, "./"),
                *(_no_formula(name, " ") for name in names),
                picture.label,
                f"{score:.6f}",
                threshold.label(score),
                str(judgement.damaged).lower(),
            )
        )
