"""Which operators take the time."""

from __future__ import annotations

from dataclasses import dataclass

from edgedf.runtime.profile.document import OperatorShares
from edgedf.runtime.profile.events import OperatorTime
from edgedf.runtime.profile.report.figures import number
from edgedf.runtime.profile.report.plots.drawing import WIDTH, Drawing, fit, text_width

__all__ = ["TOP", "operators_plot"]

TOP = 10
"""Operators that get a bar of their own."""

_ROW, _LEGEND = 32, 18


def operators_plot(shares: OperatorShares, name: str) -> Drawing:
    """Draw a bar for each of the slowest operators, and one for all others.

    Args:
        shares: The operators, at least one.
        name: Of the result.
    """
    ordered = sorted(shares.operators, key=lambda each: -each.milliseconds)
    shown, rest = ordered[:TOP], ordered[TOP:]
    whole = sum(each.milliseconds for each in ordered)
    bars = [_bar(each, shares) for each in shown]
    if rest:
        bars.append(
            _Bar(f"{len(rest)} others", "", sum(each.milliseconds for each in rest), "fourth")
        )
    drawing = Drawing(
        f"Operators: {name}",
        f"{shares.verdict} "
        + "; ".join(f"{bar.kind} {bar.name} {number(bar.milliseconds)} ms" for bar in bars)
        + ".",
        _LEGEND + _ROW * len(bars) + 2,
    )
    _legend(drawing, shares)
    longest = max((bar.milliseconds for bar in bars), default=0.0)
    for row, bar in enumerate(bars):
        y = _LEGEND + row * _ROW + 13.0
        share = bar.milliseconds / whole if whole > 0 else 0.0
        said = f"{number(bar.milliseconds)} ms · {share:.1%}"
        drawing.text(WIDTH, y, said, anchor="end", style="strong")
        room = WIDTH - text_width(said) - 10
        kind = fit(bar.kind, room)
        left = room - text_width(kind) - 6
        drawing.text(0, y, kind, then=fit(bar.name, left) if left > 60 else "")
        width = bar.milliseconds / longest * WIDTH if longest > 0 else 0.0
        tip = f"{bar.kind} {bar.name}".strip()
        drawing.rectangle(0, y + 4, max(width, 1), 9, bar.style, tip=tip)
    return drawing


@dataclass(frozen=True)
class _Bar:
    kind: str
    name: str
    milliseconds: float
    style: str


def _bar(each: OperatorTime, shares: OperatorShares) -> _Bar:
    left_out = shares.delegated is not None and not each.delegate
    kind = each.kind
    if left_out:
        kind += " (not delegated)"
    elif len(_delegates(shares)) > 1:
        kind += f" ({each.delegate})"
    return _Bar(kind, each.name, each.milliseconds, "second" if left_out else "first")


def _delegates(shares: OperatorShares) -> list[str]:
    return sorted({each.delegate for each in shares.operators if each.delegate})


def _legend(drawing: Drawing, shares: OperatorShares) -> None:
    """Who executes them; where all are the runtime's own there is nothing to tell apart."""
    delegates = _delegates(shares)
    said = f"executed by {delegates[0]}" if len(delegates) == 1 else "the runtime's own"
    if len(delegates) > 1:
        said = "executed by a delegate"
    drawing.rectangle(0, 2, 10, 10, "first")
    drawing.text(14, 11, fit(said, 210))
    if shares.delegated is not None:
        drawing.rectangle(232, 2, 10, 10, "second")
        drawing.text(246, 11, "not delegated")
