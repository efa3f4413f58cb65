"""The layers by the error they cause, in words: for the terminal and for the HTML report alike."""

from __future__ import annotations

from collections.abc import Sequence

from edgedf.quantize.layer_error.ranking import LayerError, LayerRanking
from edgedf.reports.section import NONE, Section, counted

__all__ = ["HEADINGS", "TEXTS", "conclusion", "matching", "section", "shown"]

HEADINGS = ("#", "operator", "layer", "SQNR", "added", "clipped", "weights", "logit", "map")
"""Of the table; see docs/commands/verify.md for what they mean."""

TEXTS = ("operator", "layer")
"""Those of the headings below which there are words and not numbers."""

_UNMEASURED_SHOWN = 8  # rows where no effect was measured

# From here on one layer is worth an exception of its own; below, what is lost is lost all over.
_STANDS_OUT = 2.0


def shown(ranking: LayerRanking) -> tuple[LayerError, ...]:
    """The layers for a table: those whose effect was measured, else the first."""
    measured = tuple(layer for layer in ranking.layers if layer.effect is not None)
    return measured or ranking.layers[:_UNMEASURED_SHOWN]


def section(ranking: LayerRanking) -> Section:
    """A row for each layer of :func:`shown`, and below them what they tell."""
    rows = tuple(map(_row, shown(ranking)))
    return Section(
        "Layers, the worst first", HEADINGS, rows, (matching(ranking), conclusion(ranking))
    )


def matching(ranking: LayerRanking) -> str:
    """What could be compared and what could not, in a sentence or two."""
    text = (
        f"Compared on {counted(ranking.pictures, 'picture')}: "
        f"{counted(ranking.matched, 'tensor')} and "
        f"{counted(ranking.matched_weights, 'constant')} of the artifact by name"
    )
    missing = (*ranking.unmatched, *ranking.unmatched_weights)
    if not missing:
        return f"{text}; none is without a counterpart in the parent."
    return f"{text}; {len(missing)} without a counterpart in the parent, such as {missing[0]}."


def conclusion(ranking: LayerRanking) -> str:
    """Which layer is worst, by how much, and what would help."""
    measured = [layer for layer in ranking.layers if layer.effect is not None]
    if not measured:
        worst = next((e for e in ranking.layers if e.quantized and e.added is not None), None)
        if worst is None:
            return "No layer adds noise."
        return (
            f"Most noise seems to reach the outputs from {_named(worst)}, which adds "
            f"{_percent(worst.added)} of its signal. What that does to them was not measured; "
            "--layers 8 would."
        )
    worst, *others = measured
    sizes = [layer.effect.largest for layer in measured if layer.effect is not None]
    if sizes[0] == 0.0:
        return f"None of the {len(measured)} layers measured changes an output by itself."
    text = (
        f"Worst is {_named(worst)}: quantized alone, it moves {_moves(worst)} (all layers "
        f"together: {_both(ranking.artifact.logit, ranking.artifact.map)})"
    )
    if others and sizes[1] > 0.0:
        text += f", {sizes[0] / sizes[1]:.1f} times as much as the next"
    return f"{text}. {_remedy(worst, sizes)}"


def _remedy(worst: LayerError, sizes: Sequence[float]) -> str:
    stands_out = len(sizes) == 1 or sizes[0] > _STANDS_OUT * sizes[1]
    if (worst.rounding or 0.0) ** 2 < (worst.added or 0.0) ** 2 / 2:
        text = "Most of its noise comes from its rounded weights: train them on int8's grid"
        return f"{text}; 16-bit activations (int8-a16) would not help there."
    text = "Most of its noise comes from rounding its activations"
    if stands_out:
        return f"{text}, and it stands out: look at its range; else use --precision int8-a16."
    return f"{text}, and the next is close: --precision int8-a16 would help."


def _row(layer: LayerError) -> tuple[str, ...]:
    effect = layer.effect
    return (
        str(layer.order),
        layer.operator,
        layer.name,
        _decibels(layer.sqnr, layer.mean_abs > 0.0),
        _percent(layer.added),
        "float" if layer.clipped is None else _percent(layer.clipped),
        _weights(layer),
        "" if effect is None else _percent(effect.logit),
        "" if effect is None else _percent(effect.map),
    )


def _weights(layer: LayerError) -> str:
    if not layer.weights:
        return ""
    weights = min(layer.weights, key=lambda w: float("inf") if w.sqnr is None else w.sqnr)
    if weights.sqnr is None:
        return "exact"
    text = f"{weights.sqnr:.1f} dB"
    if weights.worst is None:
        return text
    return f"{text} ({weights.worst.channel}: {weights.worst.sqnr:.1f})"


def _named(layer: LayerError) -> str:
    return f"layer {layer.order}, {layer.operator} {layer.name}"


def _moves(layer: LayerError) -> str:
    effect = layer.effect
    return "" if effect is None else _both(effect.logit, effect.map)


def _both(logit: float | None, of_map: float | None) -> str:
    changes = [
        f"the {name} by {_percent(value)}"
        for name, value in (("logit", logit), ("map", of_map))
        if value is not None
    ]
    return f"{' and '.join(changes)} of a standard deviation" if changes else "nothing that varies"


def _decibels(value: float | None, noisy: bool) -> str:
    if value is None:
        return NONE if noisy else "exact"
    return f"{value:.1f} dB"


def _percent(value: float | None) -> str:
    if value is None:
        return NONE
    if 0.0 < value < 5e-5:
        return "<0.01%"
    return f"{value:.2%}"
