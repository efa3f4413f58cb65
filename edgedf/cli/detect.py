"""``edgedf detect``: a verdict on photographs."""

# ruff: noqa: PTH110, PTH112, PTH113
from __future__ import annotations

import contextlib
import io
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

if TYPE_CHECKING:
    from edgedf.cli._results import Result, Sink
    from edgedf.runtime.detector import Detector

__all__ = ["app"]

app = typer.Typer(add_completion=False)

SOME_FAILED, NOTHING_READ = 1, 2

_EPILOG = """Examples:

[bold]edgedf detect photo.jpg[/]

[bold]edgedf detect photos/ --csv verdicts.csv --overlay pictures/[/]

[bold]edgedf detect 'photos/**/*.jpg' --json | jq .score[/]

Exit code: 0 all images were judged, 1 some could not be read, 2 none could."""


@app.command(epilog=_EPILOG)
def detect(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH",
            help="Images (JPEG, PNG, WebP), folders searched with their subfolders, or patterns.",
        ),
    ],
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A .tflite or .onnx file from edgedf convert. Default: build/student_int8, else "
            "the float student that edgedf carries.",
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, max=256, metavar="N", help="For the model. Default: one a core, at most 4."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line instead of the table.")
    ] = False,
    csv: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write a CSV file; - is standard output."),
    ] = None,
    overlay: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Write photograph, defocus map and verdict side by side, as JPEG."
        ),
    ] = None,
) -> None:
    """Say of photographs whether they are real or fake, and where they are out of focus.

    A score near 1 means fake; the thresholds of the model turn it into real, fake or unsure.
    Images that cannot be read are reported, the rest is done. Only the centre square is judged.
    """
    from edgedf.cli._console import StepProgress, json_text
    from edgedf.cli._results import CsvRows, Failures, JsonLines, Overlays, Table, Tally
    from edgedf.errors import ConfigError
    from edgedf.picture_folders import left_out_text
    from edgedf.runtime.folder import Failure, find_images

    if csv == "/dev/stdout":
        csv = "-"
    if as_json and csv == "-":
        raise ConfigError(
            "--json and --csv - would both write to standard output.",
            expected="one of the two there",
            next_step="name a file: --csv FILE",
        )
    _check_outputs(paths, csv, overlay)
    with _opened(model, threads) as detector, contextlib.ExitStack() as stack:
        stream = None if csv is None else stack.enter_context(_csv_stream(csv))
        progress = stack.enter_context(StepProgress())
        left_out: Counter[str] = Counter()
        found = list(find_images(paths, skip=overlay, left_out=left_out))
        images = [place for place in found if isinstance(place, str)]

        tally = Tally()
        sinks: list[Sink] = [tally, Failures(progress)]
        if as_json:
            sinks.append(JsonLines(progress))
        elif csv != "-":
            sinks.append(Table(progress))
        if stream is not None:
            sinks.append(CsvRows(stream))
        overlays = None if overlay is None else Overlays(overlay, images)

        for place in found:
            if isinstance(place, Failure):
                _hand_out(place, sinks)
        start = time.perf_counter()
        for done, result in enumerate(detector.detect_folder(images), 1):
            _hand_out(result if overlays is None else overlays.drawn(result), sinks)
            progress("images", done, len(images))
        if left_out:
            progress.note(f"{left_out_text(left_out)}.")
            if as_json:
                progress.result(json_text({"left_out": left_out}))
        progress.note(tally.summary(time.perf_counter() - start))
    if tally.counts["failed"]:
        raise typer.Exit(SOME_FAILED if tally.judged else NOTHING_READ)


def _check_outputs(paths: list[str], csv: str | None, overlay: Path | None) -> None:
    """Refuse outputs that would destroy images or be judged themselves the next time."""
    from edgedf.errors import ConfigError
    from edgedf.imaging import IMAGE_SUFFIXES

    # What a shell makes of `--csv photos/*.jpg`.
    if csv is not None and Path(csv).suffix.lower() in IMAGE_SUFFIXES:
        raise ConfigError(
            f"--csv {csv} would write a table over an image.",
            expected="the name of a table, such as verdicts.csv",
            next_step="put it right behind --csv",
        )
    # os.path answers where pathlib raises, as for a name that is too long.
    searched = {os.path.realpath(path) for path in paths if os.path.isdir(path)}
    if overlay is not None and os.path.realpath(overlay) in searched:
        raise ConfigError(
            f"--overlay {overlay} would write its pictures among the images to judge.",
            expected="another folder; it may lie inside the one with the images",
            next_step=f"--overlay {overlay / 'overlays'}",
        )


def _hand_out(result: Result, sinks: list[Sink]) -> None:
    for sink in sinks:
        sink.take(result)


@contextlib.contextmanager
def _opened(model: Path | None, threads: int | None) -> Iterator[Detector]:
    from edgedf.cli._console import new_console, printable, quiet_natives
    from edgedf.int8_kernels import kernels_in_words
    from edgedf.runtime.detector import Detector
    from edgedf.runtime.models import default_model

    with quiet_natives():
        detector = Detector(default_model() if model is None else model, threads=threads)
    named = f"{detector.path} ({detector.spec.model_id}, {detector.runtime})"
    if detector.int8_kernels not in (None, "exact"):
        named += f"; {kernels_in_words(detector.int8_kernels)}"
    new_console(stderr=True).print(f"Model: {printable(named)}", style="dim", soft_wrap=True)
    with detector:
        yield detector


@contextlib.contextmanager
def _csv_stream(target: str) -> Iterator[TextIO]:
    if target == "-":
        if isinstance(sys.stdout, io.TextIOWrapper):  # the same bytes as into a file
            sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape", newline="")
        yield sys.stdout
        return
    from edgedf.files import atomic_path

    path = Path(os.path.realpath(target))  # the file behind a link, not the link
    with contextlib.ExitStack() as stack:
        if os.path.isfile(path) or os.path.isdir(path) or not os.path.exists(path):
            path = stack.enter_context(atomic_path(path))
        # Else a device or a pipe, which is written to, never replaced by a file.
        # surrogateescape: file names are bytes and need not be valid text.
        yield stack.enter_context(
            path.open("w", encoding="utf-8", errors="surrogateescape", newline="")
        )
