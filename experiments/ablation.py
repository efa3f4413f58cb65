"""What each part of the recipe brings: within the known sources, and with sources left out.

::

    python -m experiments.ablation --data pictures/ --out runs/ablation --cache runs/cache

Every recipe is fitted to the same records: to the training split, measured on the test split, and
once for each source left out, measured on that source. The second table is the one to choose by:
figures of a test split say how well a recipe knows its own sources. A result is written as soon as
it is there, so a run that is killed goes on with the next one.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from edgedf import typed_json
from edgedf.cli._console import StepProgress, print_error
from edgedf.distill.datasets.dataset import read_manifest
from edgedf.distill.records.targets import Records
from edgedf.errors import ConfigError, EdgedfError
from edgedf.files import write_text
from edgedf.machine import available_cores
from edgedf.progress import Progress, silent
from edgedf.spec import Accuracy
from experiments.leave_out import Fold, every_record, in_domain, left_out, left_out_units
from experiments.recipes import RECIPES, AblationSettings, Recipes

__all__ = ["Row", "ablate", "as_markdown", "main"]


@dataclass(frozen=True)
class Row:
    """A recipe in a fold.

    Args:
        recipe: One of :data:`RECIPES`.
        fold: ``test``, or ``without`` a source.
        figures: AUC by title.
    """

    recipe: str
    fold: str
    figures: tuple[Accuracy, ...]


def ablate(
    data: str | Path,
    out: str | Path,
    *,
    cache: str | Path,
    recipes: Sequence[str] = tuple(RECIPES),
    settings: AblationSettings | None = None,
    workers: int = 2,
    progress: Progress = silent,
) -> tuple[Row, ...]:
    """Fit and measure recipes, or go on where a run was cut off.

    Args:
        data: Folder with ``manifest.csv``.
        out: Folder for the results, a file each.
        cache: Folder for pictures, maps and statistics, which runs may share.
        recipes: Names from :data:`RECIPES`.
        settings: How they are fitted.
        workers: Processes that compute maps.
        progress: Told about maps, statistics, steps and results.

    Raises:
        ConfigError: There is no such recipe.
        DataError: The data cannot be used, or no source can be left out.
        OutputError: A folder cannot be written.
    """
    settings = settings or AblationSettings()
    unknown = [name for name in recipes if name not in RECIPES]
    if unknown or not recipes:
        raise ConfigError(
            f"There is no recipe {', '.join(unknown) or 'at all'}.",
            expected=", ".join(RECIPES),
            next_step="choose some of these",
        )
    left_out_units(read_manifest(data).samples)  # known before the minutes that maps take
    records = every_record(
        data, cache, size=settings.size, seed=settings.seed, workers=workers, progress=progress
    )
    folds = (in_domain(records), *left_out(records))
    fitted = Recipes(records, Path(out), Path(cache), settings, progress)
    rows = []
    for number, name in enumerate(recipes):
        rows += [_row(fitted, Path(out), name, fold, records) for fold in folds]
        progress("recipes", number + 1, len(recipes))
    return tuple(rows)


def as_markdown(rows: Sequence[Row]) -> str:
    """A table with a line a recipe and a column a title, and the mean over left-out sources."""
    figures: dict[str, dict[str, Accuracy]] = {}
    for row in rows:
        figures.setdefault(row.recipe, {}).update({f.dataset: f for f in row.figures})
    tables = []
    for is_out in (False, True):
        titles = list(
            dict.fromkeys(
                figure.dataset
                for row in rows
                if (row.fold != "test") is is_out
                for figure in row.figures
            )
        )
        if not titles:
            continue
        heads = ["recipe", *titles, *(["mean"] if is_out else [])]
        lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        for recipe, found in figures.items():
            shown = [found.get(title) for title in titles]
            cells = [
                "" if f is None else f"{f.value:.3f} ({f.low:.3f} to {f.high:.3f})" for f in shown
            ]
            if is_out:
                known = [f.value for f in shown if f is not None]
                cells.append(f"{np.mean(known):.3f}" if known else "")
            lines.append(f"| {' | '.join([RECIPES.get(recipe, recipe), *cells])} |")
        sizes = [next(f.n for found in figures.values() if (f := found.get(t))) for t in titles]
        lines.append(f"| {' | '.join(['n', *map(str, sizes), *([''] if is_out else [])])} |")
        tables.append("\n".join(lines))
    return "\n\n".join(tables) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line.

    Returns:
        Exit code: 0, or 2 after an error, which is printed.
    """
    parser = argparse.ArgumentParser(
        prog="python -m experiments.ablation",
        description="Compare recipes, within the known sources and with each source left out.",
        epilog="Recipes: " + "; ".join(f"{name}: {text}" for name, text in RECIPES.items()),
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    for name in ("data", "out", "cache"):
        parser.add_argument(f"--{name}", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--recipes", metavar="LIST", default=",".join(RECIPES), help="separated by commas"
    )
    for field in fields(AblationSettings):
        parser.add_argument(
            f"--{field.name}", type=type(field.default), default=field.default, help="a setting"
        )
    parser.add_argument("--workers", type=int, default=available_cores(), help="for maps")
    parser.add_argument("--json", action="store_true", help="one JSON document, not Markdown")
    options = parser.parse_args(arguments)
    try:
        settings = AblationSettings(
            **{f.name: getattr(options, f.name) for f in fields(AblationSettings)}
        )
        with StepProgress() as progress:
            rows = ablate(
                options.data,
                options.out,
                cache=options.cache,
                recipes=[name.strip() for name in options.recipes.split(",") if name.strip()],
                settings=settings,
                workers=options.workers,
                progress=progress,
            )
    except EdgedfError as error:
        print_error(error)
        return 2
    document = {"settings": typed_json.encode(settings), "rows": typed_json.encode(rows)}
    print(json.dumps(document, indent=2) if options.json else as_markdown(rows), end="")
    return 0


def _row(recipes: Recipes, out: Path, recipe: str, fold: Fold, records: Records) -> Row:
    """A recipe's figures in a fold, from its file where it is there."""
    path = out / f"{recipe}, {fold.name}, {recipes.key}.json"
    try:
        return typed_json.decode(Row, json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        pass
    row = Row(recipe, fold.name, fold.figures(records, recipes.fit(recipe, fold)))
    write_text(path, json.dumps(typed_json.encode(row), indent=1))
    shutil.rmtree(recipes.run_folder(recipe, fold), ignore_errors=True)
    return row


if __name__ == "__main__":
    sys.exit(main())
