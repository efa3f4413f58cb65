"""``edgedf distill leave-out``: how well the verdict carries over to sources it has not seen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["EPILOG", "leave_out"]

EPILOG = """Examples:

[bold]edgedf distill leave-out --data pictures/ --cache runs/cache[/]

[bold]edgedf distill leave-out --data pictures/ --cache runs/cache --no-high-pass --json[/]"""


def leave_out(
    data: Annotated[Path, typer.Option(metavar="DIR", help="Folder with manifest.csv.")],
    cache: Annotated[
        Path, typer.Option(metavar="DIR", help="Where computed maps are kept, for runs to share.")
    ],
    penalty: Annotated[
        float, typer.Option(min=0.01, metavar="X", help="On the fake head's weights.")
    ] = 3.0,
    high_pass: Annotated[
        bool, typer.Option(help="Whether the encoder sees fine detail alone, or the picture.")
    ] = True,
    blocks: Annotated[
        int, typer.Option(min=11, max=16, metavar="N", help="Blocks of the encoder.")
    ] = 12,
    judged_blocks: Annotated[
        int, typer.Option(min=1, max=16, metavar="N", help="Last blocks that are judged.")
    ] = 4,
    workers: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Processes that compute maps. Default: one a core."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Fit the student's verdict without a source, and measure it on that source, for each.

    The figure that counts when a student is chosen: those of a test split tell how well it knows
    its own sources. Takes a few minutes; needs no trained student.
    """
    from edgedf.cli._console import StepProgress, new_console, print_json
    from edgedf.cli._figures import figures_table, needs_distill

    with needs_distill("Leaving sources out"):
        from edgedf.distill.leave_out import leave_one_source_out
        from edgedf.distill.student import StudentConfig
    from edgedf import typed_json
    from edgedf.cores import available_cores

    with StepProgress() as progress:
        figures = leave_one_source_out(
            data,
            student=StudentConfig(blocks=blocks, judged_blocks=judged_blocks, high_pass=high_pass),
            penalty=penalty,
            cache=cache,
            workers=workers or available_cores(),
            progress=progress,
        )
    if as_json:
        print_json({"figures": typed_json.encode(figures)})
    else:
        new_console().print(figures_table(figures, "Each source left out of the fit"))
