"""What ``edgedf convert --precision auto`` says about the rungs it tried, and about thresholds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from edgedf.cli._console import printable
from edgedf.cli._tables import mark, new_table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from edgedf.quantize.auto.ladder import Ladder, Rung
    from edgedf.spec import OperatingPoint, Recalibration

__all__ = ["ladder_table", "threshold_text"]

_TITLES = {
    "int8": "int8",
    "ranges": "other ranges",
    "equalized": "equal channels",
    "kept": "layers in float",
    "trained": "trained for int8",
}
_SHOWN_OPTIONS = 60


def ladder_table(ladder: Ladder) -> RenderableType:
    """The rungs as a table, and below it how each was made, or why not.

    Args:
        ladder: From :func:`edgedf.quantize.auto.ladder.climb`.
    """
    numbers = ("MB", "time", "AUC drop", "flips", "map err.", "logit corr.")
    table = new_table(("", "rung", *numbers), numbers=numbers, no_wrap=True)
    notes = []
    for number, rung in enumerate(ladder.rungs, 1):
        table.add_row(*_cells(number, rung))
        notes.extend(_notes(number, rung))
    return Group(table, *notes)


def _cells(number: int, rung: Rung) -> list[Text | str]:
    title = f"{number} {_TITLES[rung.name]}"
    size = "" if rung.bytes is None else f"{rung.bytes / 1e6:.2f}"
    time = "" if rung.latency is None else f"× {rung.latency.ratio:.2f}"
    verification = rung.verification
    if verification is None:
        outcome = Text("-", style="dim") if rung.bytes is None else mark("fail")
        return [outcome, title, size, time, "", "", "", ""]
    found = {row.name: row for row in verification.rows}

    def cell(name: str, shown: str) -> str:
        row = found.get(name)  # type: ignore[call-overload]
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


def _notes(number: int, rung: Rung) -> list[Text]:
    options = "" if rung.recipe is None else rung.recipe.options()
    if len(options) > _SHOWN_OPTIONS and rung.recipe is not None and rung.recipe.keep:
        kept = rung.recipe.keep
        without = options.partition(" --keep")[0] if not options.startswith("--keep") else ""
        names = ", ".join(entry.pattern for entry in kept[:3])
        more = f" and {len(kept) - 3} more" if len(kept) > 3 else ""
        plural = "s" * (len(kept) > 1)
        options = f"{without} {len(kept)} layer{plural} kept: {names}{more}".strip()
    said = "; ".join(part for part in (options, rung.note) if part)
    return [Text(printable(f"{number}: {said}"), style="dim")] if said else []


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
