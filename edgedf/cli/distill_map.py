"""``edgedf distill map``: the defocus maps that the student learns from, as files."""

# ruff: noqa: PTH113
from __future__ import annotations

import enum
import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgedf.distill.settings import StudentConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgedf.cli._console import StepProgress
    from edgedf.runtime.folder import Failure

__all__ = ["EPILOG", "UNITS_PER_PX", "write_maps"]

EPILOG = """Examples:

[bold]edgedf distill map photo.jpg[/]

[bold]edgedf distill map photos/ --out maps/ --workers 2[/]

[bold]edgedf distill map photos/ --profile reference --npy --json | jq .sigma_px[/]

Maps that are there already are left alone, so an interrupted run goes on where it was.

Exit code: 0 all maps are there, 1 some images could not be read, 2 none could."""

SOME_FAILED, NOTHING_READ = 1, 2
_SMALLEST = 32

UNITS_PER_PX = 10_000
"""Grey levels of a 16-bit PNG for one pixel of blur; the largest map value, 5 px, is 50000."""


class ProfileName(str, enum.Enum):
    """Names of the profiles, for the help; the stage that knows them is too heavy to import."""

    physical = "physical"
    reference = "reference"


@dataclass(frozen=True)
class _Job:
    """An image and the files that its map goes to."""

    source: str
    map: Path
    preview: Path


def write_maps(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH",
            help="Images (JPEG, PNG, WebP), folders searched with their subfolders, or patterns.",
        ),
    ],
    profile: Annotated[
        ProfileName,
        typer.Option(
            help="physical: edges over the whole tonal range, what the student learns. reference: "
            "the convention of the code released with the paper."
        ),
    ] = ProfileName.physical,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the maps.")] = Path("maps"),
    size: Annotated[
        int,
        typer.Option(
            min=0,
            max=4096,
            metavar="N",
            help="Measure the centre square at N x N pixels, as a model sees it; 0 measures the "
            "whole picture as it is, which takes about 2 s and 0.3 GB a megapixel.",
        ),
    ] = StudentConfig.input_size,
    npy: Annotated[
        bool,
        typer.Option(
            "--npy", help=f"float32 in pixels instead of 16-bit PNG in 1/{UNITS_PER_PX} pixel."
        ),
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=256, metavar="N", help="Processes. Default: one a core."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Compute maps again that are there already.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line instead of the table.")
    ] = False,
) -> None:
    """Estimate how far every pixel of a photograph is out of focus.

    A map holds the blur as the standard deviation of a Gaussian, in pixels of the image as
    measured. Beside each map goes a preview: photograph, colours, scale. Images that cannot be
    read are reported, the rest is done.
    """
    from edgedf.cli._console import StepProgress
    from edgedf.errors import ConfigError, EdgedfError
    from edgedf.picture_folders import left_out_text
    from edgedf.runtime.folder import Failure, find_images

    if 0 < size < _SMALLEST:
        raise ConfigError(
            f"Blur cannot be measured at {size} x {size} pixels.",
            expected=f"a --size of at least {_SMALLEST}, or 0 for the whole picture",
            next_step=f"leave --size out for {StudentConfig.input_size}, what the student sees",
        )
    with StepProgress() as progress:
        report = _Report(progress, as_json)
        jobs: list[_Job] = []
        left_out: Counter[str] = Counter()
        for place in find_images(paths, skip=out, left_out=left_out):
            if isinstance(place, Failure):
                report.failed(place)
                continue
            try:
                job = _plan(place, out, profile.value, size, ".npy" if npy else ".png")
            except EdgedfError as error:
                report.failed(Failure(place, error))
                continue
            # os.path answers where pathlib raises, as for a folder that may not be searched.
            if not force and os.path.isfile(job.map) and os.path.isfile(job.preview):
                report.done(job, None)
            else:
                jobs.append(job)
        _compute(jobs, profile.value, size or None, workers, report, progress)
        if left_out:
            progress.note(f"{left_out_text(left_out)}.")
        progress.note(report.summary())
    if report.failures:
        raise typer.Exit(SOME_FAILED if report.written + report.kept else NOTHING_READ)


def _plan(source: str, out: Path, profile: str, size: int, suffix: str) -> _Job:
    """Name the files after the image and what its map depends on.

    So a changed image gets a new map, an unchanged one keeps it, and two images of one name do not
    meet.

    Raises:
        ImageError: There is nothing to read, or too much.
    """
    import hashlib

    from edgedf.imaging import read_image_bytes

    content = hashlib.sha256(read_image_bytes(source)).hexdigest()[:12]
    stem = f"{Path(source).stem}_{content}_{profile}_{size or 'whole'}"
    return _Job(source, out / f"{stem}{suffix}", out / f"{stem}_preview.jpg")


def _compute(
    jobs: list[_Job],
    profile: str,
    size: int | None,
    workers: int | None,
    report: _Report,
    progress: StepProgress,
) -> None:
    if not jobs:
        return
    from edgedf.errors import EdgedfError, MissingExtra
    from edgedf.imaging import load_image, prepare
    from edgedf.runtime.folder import Failure

    try:
        from edgedf.distill.optics.batch import defocus_maps
        from edgedf.distill.optics.preview import draw_preview
    except ModuleNotFoundError as error:
        raise MissingExtra("distill", "edgedf distill map") from error
    from edgedf.files import write_bytes

    results = defocus_maps(
        [job.source for job in jobs],
        "reference" if profile == "reference" else "physical",
        size=size,
        workers=workers,
        progress=progress,
    )
    for job, result in zip(jobs, results, strict=True):
        if isinstance(result, EdgedfError):
            report.failed(Failure(job.source, result))
            continue
        image = load_image(job.source)
        shown = image if size is None else prepare(image, size)
        # The map comes last: where it is, all is there.
        write_bytes(job.preview, draw_preview(shown, result))
        write_bytes(job.map, _encoded(result, job.map.suffix))
        report.done(job, result)


def _encoded(defocus: NDArray[np.float32], suffix: str) -> bytes:
    import io

    import cv2
    import numpy as np

    if suffix == ".npy":
        stream = io.BytesIO()
        np.save(stream, defocus, allow_pickle=False)
        return stream.getvalue()
    # The guided filter of the reference profile goes a little below 0.
    levels = np.clip(np.rint(defocus * UNITS_PER_PX), 0, 65535).astype(np.uint16)
    return bytes(cv2.imencode(".png", levels)[1])


class _Report:
    """Says what became of each image, and counts."""

    def __init__(self, progress: StepProgress, as_json: bool) -> None:
        self.written = self.kept = self.failures = 0
        self._progress = progress
        self._as_json = as_json
        self._start = time.perf_counter()
        self._has_header = False

    def done(self, job: _Job, defocus: NDArray[np.float32] | None) -> None:
        """A map is written (``defocus``) or was there already (None)."""
        from rich.text import Text

        from edgedf.cli._console import json_text, printable

        mean = largest = None
        if defocus is None:
            self.kept += 1
        else:
            self.written += 1
            mean, largest = float(defocus.mean()), float(defocus.max())
        if self._as_json:
            row: dict[str, Any] = {
                "source": job.source,
                "map": str(job.map),
                "preview": str(job.preview),
                "unit_px": 1 if job.map.suffix == ".npy" else 1 / UNITS_PER_PX,
                "status": "kept" if defocus is None else "written",
                "sigma_px": None if mean is None else {"mean": mean, "max": largest},
            }
            self._progress.result(Text(json_text(row)))
            return
        if not self._has_header:
            self._has_header = True
            self._progress.result(Text("mean px  max px  map", style="bold"))
        blur = "there already  " if mean is None else f"{mean:7.2f}  {largest:6.2f}"
        shown = f"{blur}  {job.map} of {job.source}"
        self._progress.result(Text(printable(shown)))

    def failed(self, failure: Failure) -> None:
        """An image gave no map."""
        from rich.text import Text

        from edgedf.cli._console import json_text

        self.failures += 1
        if self._as_json:
            self._progress.result(Text(json_text(failure.to_dict())))
        self._progress.failure(failure.source, failure.error)

    def summary(self) -> str:
        """One line about all images."""
        seconds = time.perf_counter() - self._start
        maps = "1 map" if self.written == 1 else f"{self.written} maps"
        kept = f", {self.kept} there already" if self.kept else ""
        failed = f", {self.failures} failed" if self.failures else ""
        return f"{maps} written{kept}{failed}; {self.written / seconds:.1f} maps/s"
