"""Which operators take the time."""

from __future__ import annotations

from edgedf.runtime.profile.document import OperatorShares
from edgedf.runtime.profile.plots.drawing import WIDTH, Drawing, fit, short, text_width

__all__ = ["TOP", "operators_plot"]

TOP = 10
"""Operators that get a bar of their own."""

_ROW = 32


def operators_plot(shares: OperatorShares, name: str) -> Drawing:
    """Draw a bar for each of the slowest operators, and one for all others.

    Args:
        shares: The operators, at least one.
        name: Of the result.
    """
    ordered = sorted(shares.operators, key=lambda each: -each.milliseconds)
    whole = sum(each.milliseconds for each in ordered)
    rows = [
        (f"{each.kind}{_executed_by(each.delegate, shares)}", each.name, each.milliseconds, style)
        for each in ordered[:TOP]
        for style in ("second" if _left_out(each.delegate, shares) else "first",)
    ]
    rest = ordered[TOP:]
    if rest:
        rows.append((f"{len(rest)} others", "", sum(each.milliseconds for each in rest), "fourth"))
    drawing = Drawing(
        f"Operators: {name}",
        f"{shares.verdict} "
        + "; ".join(f"{kind} {short(each)} ms" for kind, _, each, _ in rows)
        + ".",
        _ROW * len(rows) + 2,
    )
    longest = max((each for _, _, each, _ in rows), default=0.0)
    for row, (kind, operator, each, style) in enumerate(rows):
        y = row * _ROW + 13.0
        said = f"{short(each)} ms · {each / whole if whole > 0 else 0:.1%}"
        drawing.text(WIDTH, y, said, anchor="end", style="strong")
        room = WIDTH - text_width(said) - 10
        shown = fit(kind, room)
        drawing.text(0, y, shown)
        left = room - text_width(shown) - 8
        if operator and left > 40:
            drawing.text(text_width(shown) + 8, y, fit(operator, left), style="quiet")
        width = each / longest * WIDTH if longest > 0 else 0
        drawing.rectangle(0, y + 4, max(width, 1), 9, style, tip=f"{kind} {operator}".strip())
    return drawing


def _left_out(delegate: str, shares: OperatorShares) -> bool:
    return shares.delegated is not None and not delegate


def _executed_by(delegate: str, shares: OperatorShares) -> str:
    if delegate:
        return f" ({delegate})"
    return " (not delegated)" if _left_out(delegate, shares) else ""
