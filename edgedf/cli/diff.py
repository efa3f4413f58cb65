"""``edgedf diff``: two model files compared, for people, for pull requests and for CI."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgedf.cli._gate import CODES, GateCommand, with_limits
from edgedf.cli._options import refuse_together
from edgedf.cli._pictures import ComparedData, ComparedLayout, SetNames, SplitName
from edgedf.quantize.accuracy.limits import DiffLimits

if TYPE_CHECKING:
    from edgedf.cli._pictures import Chosen
    from edgedf.quantize.accuracy.verify import Pictures

__all__ = ["app"]

app = typer.Typer(add_completion=False)

_DEFAULT_ROUNDS = 200

_EPILOG = """Examples:

[bold]edgedf diff build/student_int8.tflite build/student_int8.onnx[/]

[bold]edgedf diff old.tflite new.tflite --data pictures/ --max-size-ratio 1.05[/]

[bold]edgedf diff old.tflite new.tflite --limits limits.toml --markdown[/]

[bold]edgedf diff old.tflite new.tflite --no-pictures --no-latency --json[/]

Exit code: 0 no difference beyond the limits, 1 a limit is broken, 2 cannot tell
(too few pictures or rounds), 64 something that was asked or given is wrong. With
--json the document's "verdict" says the same."""


@app.command(cls=GateCommand, epilog=_EPILOG)
@with_limits(DiffLimits)
def diff(
    first: Annotated[
        Path, typer.Argument(metavar="A", help="A .tflite or .onnx file from edgedf: the old one.")
    ],
    second: Annotated[
        Path, typer.Argument(metavar="B", help="Another one, which is judged against A.")
    ],
    data: ComparedData = None,
    layout: ComparedLayout = "auto",
    split: SplitName = None,
    sets: SetNames = None,
    no_pictures: Annotated[
        bool, typer.Option("--no-pictures", help="Do not run the two on pictures.")
    ] = False,
    no_latency: Annotated[
        bool, typer.Option("--no-latency", help="Do not measure how long they take.")
    ] = False,
    rounds: Annotated[
        int, typer.Option(min=2, max=100_000, metavar="N", help="Turns of each that are timed.")
    ] = _DEFAULT_ROUNDS,
    threads: Annotated[int, typer.Option(min=1, max=256, metavar="N", help="For each model.")] = 1,
    limits: DiffLimits = DiffLimits(),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Tables to paste into a pull request.")
    ] = False,
) -> None:
    """Compare two model files: spec, size, operators, precision of each layer, answers, latency.

    Precisions, formats and parents may differ. What B loses on pictures is judged as edgedf verify
    judges it, with A in the parent's place. The two take turns when they are timed, so that a busy
    machine slows both down alike.
    """
    from edgedf import typed_json
    from edgedf.cli._console import StepProgress, new_console, print_json, printable, quiet_natives
    from edgedf.cli._figures import notes
    from edgedf.cli._pictures import SHIPPED, compared_pictures
    from edgedf.cli._tables import section_parts, verdict_text
    from edgedf.quantize.diff.compare import compare, open_files
    from edgedf.quantize.diff.wording import headline, markdown, sections

    refuse_together("--json", as_json, "--markdown", as_markdown)
    refuse_together("--no-pictures", no_pictures, "--data", data is not None)
    limited = limits.max_latency_ratio is not None
    refuse_together("--no-latency", no_latency, "a limit for the latency", limited)
    with contextlib.ExitStack() as stack:
        with quiet_natives():  # what runtimes say when they load a model
            opened = stack.enter_context(
                open_files(first, second, answering=not no_pictures, threads=threads)
            )
        progress = stack.enter_context(StepProgress())
        chosen: Chosen[Pictures] | None = None
        if not no_pictures:
            chosen = compared_pictures(data, layout, split, sets or (), progress)
        difference = compare(
            opened,
            pictures=None if chosen is None else chosen.pictures,
            limits=limits,
            data=SHIPPED if data is None else str(data),
            split="all" if chosen is None else chosen.split,
            rounds=None if no_latency else rounds,
            progress=progress,
        )
    if difference.verification is not None and chosen is not None:
        seen = dataclasses.replace(difference.verification, left_out=dict(chosen.left_out))
        difference = dataclasses.replace(difference, verification=seen)
    if as_json:
        print_json(typed_json.encode(difference))
    elif as_markdown:
        print("\n".join(map(printable, markdown(difference).splitlines())))
    else:
        console = new_console()
        for part in section_parts(sections(difference)):
            console.print(part)
        console.print(verdict_text(difference.verdict, headline(difference)))
    for note in () if difference.verification is None else notes(difference.verification):
        new_console(stderr=True).print(note, soft_wrap=True)
    raise typer.Exit(CODES[difference.verdict])
