"""``edgedf distill ablate``: what each part of the recipe brings, with sources left out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["EPILOG", "ablate"]

EPILOG = """Examples:

[bold]edgedf distill ablate --data pictures/ --out runs/ablation --cache runs/cache[/]

[bold]edgedf distill ablate --data pictures/ --out runs/ablation --cache runs/cache
--recipes frequency,student --json[/]

[bold]edgedf distill ablate --data pictures/ --out runs/ablation --cache runs/cache --markdown[/]

Recipes: rgb, frequency, defocus, teacher, student, student-distilled (minutes); xception,
fine-tune, student-maps, student-features (learn step by step: most of an hour each on two
cores)."""


def ablate(
    data: Annotated[Path, typer.Option(metavar="DIR", help="Folder with manifest.csv.")],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where results go, a file each, to go on from.")
    ],
    cache: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Where maps and statistics are kept, for runs to share."),
    ],
    recipes: Annotated[
        str | None, typer.Option(metavar="LIST", help="Which recipes. Default: all.")
    ] = None,
    penalty: Annotated[
        float, typer.Option(min=0.01, metavar="X", help="On weights found in closed form.")
    ] = 3.0,
    steps: Annotated[
        int, typer.Option(min=1, metavar="N", help="Of recipes that learn step by step.")
    ] = 600,
    batch: Annotated[
        int, typer.Option(min=1, metavar="N", help="Pictures a step of the same.")
    ] = 16,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of everything random.")] = 0,
    input_size: Annotated[
        int, typer.Option(min=32, metavar="N", help="Side of the pictures, a multiple of 32.")
    ] = 256,
    workers: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Processes that compute maps. Default: one a core."),
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Tables for a document.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Compare recipes: within the known sources, and with each source left out of the fit.

    The second table is the one to choose by: figures of a test split tell how well a recipe knows
    its own sources. Started again with the same options, a run that was cut off goes on.
    """
    from edgedf.cli._console import StepProgress, new_console, print_json
    from edgedf.cli._figures import figures_table, needs_distill

    with needs_distill("Comparing recipes"):
        from experiments.ablation import RECIPES, AblationSettings, as_markdown
        from experiments.ablation import ablate as run
    from edgedf import typed_json
    from edgedf.machine import available_cores

    chosen = tuple(RECIPES)
    if recipes is not None:
        chosen = tuple(name.strip() for name in recipes.split(",") if name.strip())
    settings = AblationSettings(
        penalty=penalty, steps=steps, batch=batch, seed=seed, size=input_size
    )
    with StepProgress() as progress:
        rows = run(
            data,
            out,
            cache=cache,
            recipes=chosen,
            settings=settings,
            workers=workers or available_cores(),
            progress=progress,
        )
    if as_json:
        print_json({"settings": typed_json.encode(settings), "rows": typed_json.encode(rows)})
    elif markdown:
        typer.echo(as_markdown(rows), nl=False)
    else:
        console = new_console()
        for name in chosen:
            figures = [figure for row in rows if row.recipe == name for figure in row.figures]
            console.print(figures_table(figures, f"{name}: {RECIPES[name]}"))
