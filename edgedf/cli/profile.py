"""``edgedf profile``: how fast a model is, here, on a board over SSH, on a phone over adb."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgedf.cli._gate import GateCommand
from edgedf.cli._options import refuse_alone, refuse_together

if TYPE_CHECKING:
    from edgedf.runtime.profile.against import Comparison
    from edgedf.runtime.profile.document import Profile

__all__ = ["app"]

app = typer.Typer(add_completion=False)

_WRITTEN = ("profile.json", "report.html", "report.md")
_IMAGES = 16  # of the shipped sample, shown in turn
NOT_VALID, CANNOT_TELL, INTERRUPTED = 1, 2, 130

_EPILOG = """Examples:

[bold]edgedf profile --quick[/]

[bold]edgedf profile build/student_int8.tflite --threads 1,2 --out profiles[/]

[bold]edgedf profile --against profiles/profile.json --limit 0.1[/]

[bold]edgedf profile --recommend build/student_int8.tflite build/student_int8.onnx[/]

[bold]edgedf profile --device ssh:pi@raspberrypi.local --sustained 30m[/]

[bold]edgedf profile --device adb --runner benchmark_model[/]

Exit code: 0 every figure can be believed (with --quick: as a first look) and is
within --limit, 1 one is invalid, a device was lost or --limit is broken, 2
--against or --recommend cannot tell, 64 something that was asked or given is
wrong."""


@app.command(cls=GateCommand, epilog=_EPILOG)
def profile(
    models: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="MODEL",
            help="Files from edgedf convert. Default: those in build/, else the student that "
            "edgedf carries.",
            show_default=False,
        ),
    ] = None,
    threads: Annotated[
        str, typer.Option(metavar="N,N,…", help="Numbers of threads, each of them timed.")
    ] = "1",
    devices: Annotated[
        list[str] | None,
        typer.Option(
            "--device",
            metavar="DEVICE",
            help="host, ssh:[USER@]HOST[:PORT] or adb[:SERIAL]; may be repeated. Default: host.",
            show_default=False,
        ),
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Photographs to show: a folder, a file or a pattern; the first 64 are used. "
            "Default: 16 of the sample that edgedf carries.",
            show_default=False,
        ),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="128 inferences and 5 s: for a look, not to be published."),
    ] = False,
    queries: Annotated[
        int | None,
        typer.Option(
            min=8, max=10_000_000, metavar="N", help="At least so many inferences. Default: 1024."
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            min=0.1, max=86_400, metavar="S", help="And for at least so long. Default: 60."
        ),
    ] = None,
    sustained: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Then the first model without a pause for so long: 90s, 30m, 1h.",
            show_default=False,
        ),
    ] = None,
    no_pipeline: Annotated[
        bool, typer.Option("--no-pipeline", help="Leave out decoding, resizing and the rest.")
    ] = False,
    no_operators: Annotated[
        bool, typer.Option("--no-operators", help="Do not time single operators.")
    ] = False,
    runner: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="adb: a native benchmark built for the phone: TFLite's benchmark_model or "
            "LiteRT's.",
            rich_help_panel="Devices",
        ),
    ] = None,
    python: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="ssh, adb: the Python to use there. Default over SSH: python3.",
            rich_help_panel="Devices",
        ),
    ] = None,
    wheels: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="ssh, adb: folder with the device's wheels; nothing is downloaded then.",
            rich_help_panel="Devices",
        ),
    ] = None,
    identity: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="ssh: the private key to use.", rich_help_panel="Devices"
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A profile.json of before: what has become slower, larger or hungrier since?",
            rich_help_panel="Comparing",
        ),
    ] = None,
    limit: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=100.0,
            metavar="X",
            help="With --against: share that a figure may grow by. Default: 0.1.",
            rich_help_panel="Comparing",
        ),
    ] = None,
    recommend: Annotated[
        bool,
        typer.Option(
            "--recommend",
            help="Name the file to ship, of several formats and precisions of one student, by "
            "accuracy, speed and size; or say that one cannot tell.",
            rich_help_panel="Comparing",
        ),
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="With --recommend: labelled pictures to judge accuracy on, as edgedf verify does. "
            "Default: what the files say of themselves.",
            show_default=False,
            rich_help_panel="Comparing",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write profile.json, report.html and report.md there, and keep what devices say "
            "while they say it.",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="With --out: do not measure again what is complete in DIR."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Tables to paste into a pull request.")
    ] = False,
) -> None:
    """Measure latency, memory and where the time goes, and say whether the figures are valid.

    Models and numbers of threads take turns on real photographs, each for at least 1024 inferences
    and 60 seconds; then come whole pictures from file to verdict, single operators and, if asked
    for, a long run. A figure from a machine that was throttled or busy is called invalid.
    """
    from edgedf.cli._console import StepProgress, print_json, printable
    from edgedf.cli._profile import accuracies_of, chosen_images, chosen_models, job_of, show
    from edgedf.files import check_target
    from edgedf.runtime.profile.devices import Tools, open_device

    refuse_together("--json", as_json, "--markdown", as_markdown)
    refuse_alone("--limit", limit is not None, "--against", against is not None)
    refuse_alone("--data", data is not None, "--recommend", recommend)
    previous = _previous(against)
    shown, images_from = chosen_images(images, _IMAGES)
    files = chosen_models(models or [])
    job = job_of(
        files,
        shown,
        threads=threads,
        quick=quick,
        queries=queries,
        seconds=seconds,
        sustained=sustained,
        pipeline=not no_pipeline,
        operators=not no_operators,
    )
    tools = Tools(runner=runner, python=python, wheels=wheels, identity=identity)
    machines = [open_device(name, tools) for name in devices or ["host"]]
    if out is not None:
        for name in _WRITTEN:
            check_target(out / name)
    from edgedf.runtime.profile.session import profile as measure

    accuracies = accuracies_of(files, data) if recommend else None
    with StepProgress() as progress:
        profiled, interrupted = measure(
            job,
            machines,
            images_from=images_from,
            folder=out,
            resume=resume,
            progress=progress,
        )
    if accuracies is not None:
        from edgedf.runtime.profile.recommend import recommend as recommended

        profiled = recommended(profiled, *accuracies)
    comparison = None
    if previous is not None:
        from edgedf.runtime.profile.against import LIMIT, compare

        comparison = compare(profiled, previous, limit=LIMIT if limit is None else limit)
    if out is not None:
        _write(out, profiled, comparison)
    if as_json:
        from edgedf import typed_json

        document = typed_json.encode(profiled)
        if comparison is not None:
            document["against"] = typed_json.encode(comparison)
        print_json(document)
    elif as_markdown:
        from edgedf.runtime.profile.report.markdown import markdown

        print("\n".join(map(printable, markdown(profiled, comparison).splitlines())))
    else:
        show(profiled, comparison)
    raise typer.Exit(_code(profiled, comparison, interrupted))


def _previous(path: Path | None) -> Profile | None:
    """Read before the work, so that a wrong file costs none."""
    if path is None:
        return None
    from edgedf.runtime.profile.document import from_json

    return from_json(path)


def _write(folder: Path, profiled: Profile, comparison: Comparison | None) -> None:
    from edgedf.files import write_text
    from edgedf.runtime.profile.document import to_json
    from edgedf.runtime.profile.report.html_report import render
    from edgedf.runtime.profile.report.markdown import markdown

    texts = to_json(profiled), render(profiled, comparison), markdown(profiled, comparison)
    for name, text in zip(_WRITTEN, texts, strict=True):
        write_text(folder / name, text)


def _code(profiled: Profile, comparison: Comparison | None, interrupted: bool) -> int:
    if interrupted:
        return INTERRUPTED
    bad = any(
        run.status != "complete" or any(r.validity.status == "invalid" for r in run.results)
        for run in profiled.devices
    )
    if bad or (comparison is not None and comparison.verdict == "fail"):
        return NOT_VALID
    open_ = any(each.model is None for run in profiled.devices for each in run.recommendations)
    if open_ or (comparison is not None and comparison.verdict == "cannot tell"):
        return CANNOT_TELL
    return 0
