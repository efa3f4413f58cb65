"""``edgedf distill audit``: what is wrong with a data set before anything is trained on it."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgedf.cli._tables import ruled_table, shown
from edgedf.distill.settings import FRAMES

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

    from edgedf.distill.datasets.audit import Audit, Spread

__all__ = ["EPILOG", "audit"]

EPILOG = """Examples:

[bold]edgedf distill audit pictures/[/]

[bold]edgedf distill audit pictures/ --layout folders --json > audit.json[/]

[bold]edgedf distill audit FaceForensics++/ --frames 4 --cache frames/[/]

Exit code: 0 nothing is wrong, 1 there are warnings."""

WARNED = 1
_QUIET = "-8"  # AV_LOG_QUIET
_LISTED = 10


def audit(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the data set.")],
    layout: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="manifest, folders, faceforensics, celebdf, cifake, diffusiondb, coco, "
            "diffusiondb-coco; auto finds out.",
        ),
    ] = "auto",
    frames: Annotated[
        int, typer.Option(min=1, metavar="N", help="Frames of each video, evenly spaced.")
    ] = FRAMES,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where frames are put that have to be extracted from videos, and kept.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Look through a data set: classes, sizes, encodings, near-duplicates, and what leaks.

    Warns of near-duplicates and groups in more than one split, of classes that are missing or
    rare, of pictures that cannot be read, and where metadata alone (width, height, aspect ratio,
    bytes, format, quantisation tables) tell real from fake with an AUC above 0.6: a detector
    learns those first.
    """
    from edgedf.cli._console import StepProgress, new_console, print_json
    from edgedf.cli._figures import needs_distill

    with needs_distill("Auditing a data set"):
        from edgedf.distill.datasets.audit import audit as run
    from edgedf import typed_json
    from edgedf.distill.datasets import open_dataset

    # A damaged video is reported by us; FFmpeg inside OpenCV would write about it as well.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", _QUIET)
    with StepProgress() as progress:
        dataset = open_dataset(
            folder, layout, frames=frames, cache=cache, allow_torn=True, progress=progress
        )
        found = run(dataset, progress=progress)
    if as_json:
        print_json(typed_json.encode(found))
    else:
        console = new_console()
        for part in _tables(found):
            console.print(part)
    if found.warnings:
        new_console(stderr=True).print(_warnings(found), soft_wrap=True)
        raise typer.Exit(WARNED)


def _tables(found: Audit) -> Iterator[RenderableType]:
    yield shown(f"{found.folder}: {found.pictures} pictures, layout {found.layout}")
    for note in found.notes:
        yield shown(note)
    yield _counts(found)
    yield _sizes(found)
    yield _encodings(found)
    if found.metadata:
        yield _metadata(found)
    for title, lines in (
        ("In more than one split", [entry.group for entry in found.torn_groups]),
        ("Near-duplicates in more than one split", [_cluster(c.files) for c in found.duplicates]),
        ("Cannot be read", [f"{entry.file}: {entry.reason}" for entry in found.skipped]),
    ):
        if lines:
            yield shown("")
            yield shown(title, "bold")
            yield from map(shown, lines[:_LISTED])
            if len(lines) > _LISTED:
                yield shown(f"{len(lines) - _LISTED} more; --json lists them all.")


def _counts(found: Audit) -> Table:
    from edgedf.distill.datasets.dataset import SPLITS

    table = ruled_table("Real + fake pictures", ("set", "source", *SPLITS, "videos"))
    pictures: dict[tuple[str, str], dict[tuple[str, str], int]] = defaultdict(dict)
    videos: dict[tuple[str, str], int] = defaultdict(int)
    for count in found.counts:
        key = count.set, count.source
        pictures[key][count.split, count.label] = count.pictures
        videos[key] += count.videos
    for key, by_kind in pictures.items():
        cells = (f"{by_kind.get((s, 'real'), 0)} + {by_kind.get((s, 'fake'), 0)}" for s in SPLITS)
        table.add_row(*map(shown, key), *cells, str(videos[key] or "-"))
    return table


def _sizes(found: Audit) -> Table:
    headings = ("set", "label", "n", "width", "height", "sizes", "kB", "bytes a pixel")
    table = ruled_table("Smallest, median and largest", headings)
    for entry in found.sizes:
        table.add_row(
            shown(entry.set),
            entry.label,
            str(entry.pictures),
            _spread(entry.width, ".0f"),
            _spread(entry.height, ".0f"),
            str(entry.distinct),
            _spread(entry.bytes, ".1f", 1000),
            _spread(entry.bytes_per_pixel, ".2f"),
        )
    return table


def _encodings(found: Audit) -> Table:
    table = ruled_table("Formats and JPEG quantisation tables", ("set", "label", "n", "format"))
    listed: dict[tuple[str, str], int] = defaultdict(int)
    rest: dict[tuple[str, str], int] = defaultdict(int)
    for entry in found.encodings:
        key = entry.set, entry.label
        listed[key] += 1
        if listed[key] > _LISTED:
            rest[key] += entry.pictures
            continue
        name = f"{entry.format}, {entry.tables}" if entry.tables else entry.format
        table.add_row(shown(entry.set), entry.label, str(entry.pictures), shown(name))
    for (name, label), count in rest.items():
        more = f"{listed[name, label] - _LISTED} more kinds; --json lists them all"
        table.add_row(shown(name), label, str(count), more)
    return table


def _metadata(found: Audit) -> Table:
    from edgedf.distill.datasets.leakage import MIN_PICTURES

    table = ruled_table(
        "AUC of metadata alone (0.5: they tell nothing)",
        ("set", "n", "AUC", "95 % interval", "most telling by itself"),
    )
    for entry in found.metadata:
        if entry.leakage is None:
            few = f"fewer than {MIN_PICTURES} of a class, or one group"
            table.add_row(shown(entry.set), "-", "-", "-", few)
            continue
        auc, best = entry.leakage.auc, entry.leakage.features[:3]
        table.add_row(
            shown(entry.set),
            str(auc.n),
            f"{auc.value:.3f}",
            f"{auc.low:.3f} to {auc.high:.3f}",
            ", ".join(f"{one.name} {one.auc:.2f}" for one in best),
        )
    return table


def _warnings(found: Audit) -> Text:
    text = shown("")
    for number, warning in enumerate(found.warnings):
        text.append("\nWarning: " if number else "Warning: ", style="bold yellow")
        text.append_text(shown(warning))
    return text


def _cluster(files: tuple[str, ...]) -> str:
    more = f" and {len(files) - 3} more" if len(files) > 3 else ""
    return ", ".join(files[:3]) + more


def _spread(spread: Spread, style: str, unit: float = 1) -> str:
    same = spread.least == spread.most
    values = [spread.least] if same else [spread.least, spread.median, spread.most]
    return " ".join(format(value / unit, style) for value in values)
