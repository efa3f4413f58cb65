"""``edgedf verify``: the accuracy gate, an artifact against its parent."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgedf.cli._gate import CODES, GateCommand, with_limits
from edgedf.cli._pictures import ComparedData, ComparedLayout, SetNames, SplitName
from edgedf.quantize.accuracy.limits import Limits

if TYPE_CHECKING:
    from edgedf.progress import Progress
    from edgedf.quantize.accuracy.verify import Pictures
    from edgedf.quantize.layer_error.opening import Opened
    from edgedf.quantize.layer_error.ranking import LayerRanking

__all__ = ["app"]

app = typer.Typer(add_completion=False)

_LAYERS = "8"  # what --layers alone means

_EPILOG = """Examples:

[bold]edgedf verify build/student_int8.tflite --data pictures/[/]

[bold]edgedf verify build/student_int8.onnx --data photos/ --flips-bound 1[/]

[bold]edgedf verify build/student_int8.tflite --limits limits.toml --json[/]

[bold]edgedf verify build/student_int8.tflite --html report.html --worst 20[/]

[bold]edgedf verify build/student_int8.tflite --data photos/ --layers[/]

Exit code: 0 passes, 1 fails, 2 cannot tell (too few pictures; it says how many
it would take), 64 something that was asked or given is wrong. With --json the
document's "verdict" says the same; where something is wrong there is none."""


class _Command(GateCommand):
    """Of which --layers may stand alone."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, list(_with_number_of_layers(args)))


def _with_number_of_layers(args: Sequence[str]) -> Iterator[str]:
    """The arguments, with the number that --layers stands for where none follows it."""
    for at, argument in enumerate(args):
        yield argument
        if argument == "--":
            yield from args[at + 1 :]
            return
        following = args[at + 1] if at + 1 < len(args) else ""
        if argument == "--layers" and not following.lstrip("-+").isdigit():
            yield _LAYERS


@app.command(cls=_Command, epilog=_EPILOG)
@with_limits(Limits)
def verify(
    artifact: Annotated[
        Path, typer.Argument(metavar="ARTIFACT", help="A .tflite or .onnx file from edgedf.")
    ],
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="PARENT",
            help="What it has to agree with: the float .tflite or .onnx, or the .safetensors "
            "checkpoint (needs the export extra). Default: the float export that edgedf carries, "
            "if ARTIFACT was made from the same checkpoint.",
            show_default=False,
        ),
    ] = None,
    data: ComparedData = None,
    layout: ComparedLayout = "auto",
    split: SplitName = None,
    sets: SetNames = None,
    limits: Limits = Limits(),
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write one self-contained page with the figures and worst images."
        ),
    ] = None,
    worst: Annotated[
        int, typer.Option(min=0, max=500, metavar="N", help="Worst images to list and show.")
    ] = 8,
    layers: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="[N]",
            help="Rank the layers of ARTIFACT by the error they cause, and measure of the N "
            "noisiest (8 where no number follows) what they do to the outputs. PARENT has to be "
            "the fp32 file of the same format. Needs the convert extra.",
            show_default=False,
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, max=256, metavar="N", help="For each model. Default: one a core, at most 4."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Prove on real pictures that a converted model is as good as its parent, or that it is not.

    Both run on the same pictures. What the artifact loses (AUC, TPR at 1 % FPR, flipped verdicts,
    error of the defocus map) comes with the 95 % interval of a paired bootstrap, and each is held
    against two limits: one for the estimate, one for the upper end of its interval.
    """
    from edgedf import typed_json
    from edgedf.cli._console import StepProgress, new_console, print_json, quiet_natives
    from edgedf.cli._figures import notes
    from edgedf.cli._pictures import SHIPPED, compared_pictures
    from edgedf.cli._verification import layer_parts, parts
    from edgedf.quantize.accuracy.verify import Gate, examples, verify_pair
    from edgedf.quantize.models.pair import open_pair

    with contextlib.ExitStack() as stack:
        page = None if html is None else stack.enter_context(_writable(html))
        with quiet_natives():  # what runtimes say when they load a model
            pair = stack.enter_context(open_pair(artifact, against, threads=threads))
            opened = None if layers is None else _open_layers(artifact, against, threads)
        progress = stack.enter_context(StepProgress())
        chosen = compared_pictures(data, layout, split, sets or (), progress)
        verification = verify_pair(
            pair,
            Gate(
                chosen.pictures,
                limits,
                SHIPPED if data is None else str(data),
                chosen.split,
                dict(chosen.left_out),
            ),
            worst=worst,
            progress=progress,
        )
        ranking = None
        if opened is not None and layers is not None:
            ranking = _rank(opened, chosen.pictures, layers, progress)
        if page is not None:
            from edgedf.quantize.accuracy.html_report import render

            shown = examples(pair, verification.worst, progress=progress)
            text = render(verification, shown, layers=ranking)
            page.write_text(text, encoding="utf-8")
    if as_json:
        document = typed_json.encode(verification)
        if ranking is not None:
            document["layers"] = typed_json.encode(ranking)
        print_json(document)
    else:
        console = new_console()
        for part in (*parts(verification), *(() if ranking is None else layer_parts(ranking))):
            console.print(part)
    for note in notes(verification):
        new_console(stderr=True).print(note, soft_wrap=True)
    raise typer.Exit(CODES[verification.verdict])


def _open_layers(artifact: Path, against: Path | None, threads: int | None) -> Opened:
    """Before the work, so that a parent that cannot be compared with costs none."""
    from edgedf.quantize.layer_error.opening import open_layers

    return open_layers(artifact, against, threads=threads)


def _rank(opened: Opened, pictures: Pictures, candidates: int, progress: Progress) -> LayerRanking:
    from edgedf.quantize.layer_error.opening import choose_pictures
    from edgedf.quantize.layer_error.ranking import rank

    images = choose_pictures(pictures, opened.side, progress=progress)
    return rank(opened, images, candidates=candidates, progress=progress)


@contextlib.contextmanager
def _writable(path: Path) -> Iterator[Path]:
    """Opened before the work, so that a path that cannot be written costs none."""
    from edgedf.errors import ConfigError
    from edgedf.files import atomic_path

    if path.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(
            f"--html {path} is no name for a page.",
            expected="a file such as report.html",
            next_step="write --html report.html",
        )
    with atomic_path(path) as temporary:
        yield temporary
