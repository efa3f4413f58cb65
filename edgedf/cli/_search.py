"""What ``edgedf convert --precision auto`` says about the stages it tried, and about thresholds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from edgedf.cli._console import printable
from edgedf.cli._tables import mark, new_table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from edgedf.quantize.auto.search import SearchResult, SearchStage
    from edgedf.spec import OperatingPoint, Recalibration

__all__ = ["search_table", "threshold_text"]

_TITLES = {
    "int8": "int8",
    "ranges": "other ranges",
    "equalized": "equal channels",
    "kept": "layers in float",
    "trained": "trained for int8",
}
_SHOWN_OPTIONS = 60


def search_table(result: SearchResult) -> RenderableType:
    """The stages as a table, and below it how each was made, or why not.

    Args:
        result: From :func:`edgedf.quantize.auto.search.find_candidate`.
    """
    numbers = ("MB", "time", "AUC drop", "flips", "map err.", "logit corr.")
    table = new_table(("", "stage", *numbers), numbers=numbers, no_wrap=True)
    notes = []
    for number, stage in enumerate(result.stages, 1):
        table.add_row(*_cells(number, stage))
        notes.extend(_notes(number, stage))
    return Group(table, *notes)


def _cells(number: int, stage: SearchStage) -> list[Text | str]:
    title = f"{number} {_TITLES[stage.name]}"
    size = "" if stage.bytes is None else f"{stage.bytes / 1e6:.2f}"
    time = "" if stage.latency is None else f"× {stage.latency.ratio:.2f}"
    verification = stage.verification
    if verification is None:
        outcome = Text("-", style="dim") if stage.bytes is None else mark("fail")
        return [outcome, title, size, time, "", "", "", ""]
    rows = {row.name: row for row in verification.rows}

    def cell(name: str, shown: str) -> str:
        row = rows.get(name)  # type: ignore[call-overload]
        return "" if row is None or row.value is None else format(row.value, shown)

    return [
        mark(verification.verdict),
        title,
        size,
        time,
        cell("auc_drop", ".4f"),
        cell("flips", ".2%"),
        cell("map_error", ".2%"),
        cell("logit_correlation", ".4f"),
    ]


def _notes(number: int, stage: SearchStage) -> list[Text]:
    options = "" if stage.recipe is None else stage.recipe.options()
    if len(options) > _SHOWN_OPTIONS and stage.recipe is not None and stage.recipe.keep:
        kept = stage.recipe.keep
        without = options.partition(" --keep")[0] if not options.startswith("--keep") else ""
        names = ", ".join(entry.pattern for entry in kept[:3])
        more = f" and {len(kept) - 3} more" if len(kept) > 3 else ""
        plural = "s" * (len(kept) > 1)
        options = f"{without} {len(kept)} layer{plural} kept: {names}{more}".strip()
    text = "; ".join(part for part in (options, stage.note) if part)
    return [Text(printable(f"{number}: {text}"), style="dim")] if text else []


def threshold_text(recalibration: Recalibration, fake_at: float, real_at: float) -> Text:
    """What a file's own thresholds change, in four lines at most.

    Args:
        recalibration: From its spec.
        fake_at: Its threshold for fakes.
        real_at: Its threshold for real pictures.
    """
    parent = recalibration.parent
    text = Text(f"On {recalibration.real} real and {recalibration.fake} fake calibration images:")
    before = f"real up to {parent.real_at:.4f}, fake from {parent.fake_at:.4f}"
    text.append(f"\nparent, {before}: {_rates(recalibration.of_parent)}")
    text.append(f"\nwith the same thresholds: {_rates(recalibration.kept)}")
    if (parent.fake_at, parent.real_at) == (fake_at, real_at):
        return text.append(", so they stay")
    after = f"real up to {real_at:.4f}, fake from {fake_at:.4f}"
    return text.append(f"\nwith its own, {after}: {_rates(recalibration.chosen)}")


def _rates(point: OperatingPoint) -> str:
    return (
        f"{point.real_called_fake:.1%} of real called fake, {point.fake_called_fake:.1%} of fakes "
        "found"
    )
