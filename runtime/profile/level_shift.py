"""Another load given away by latency alone: a stretch of a run with a level of its own."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Shift", "level_shift"]

# Blocks of an undisturbed run stay within a few per cent of each other.
_SHIFT = 0.07
# Of all pairs of a block inside a stretch and one outside, how many are the same way round.
_SEPARATION = 0.85
# And how large the step has to be in standard errors; many stretches are tried, so more than 3.
_ERRORS = 5.0
_MOST_GROUPS = 48
_LEAST_GROUPS = 8
_LEAST_STRETCH = 4  # groups, and at least an eighth of them


@dataclass(frozen=True)
class Shift:
    """A stretch of a run that has another level than the rest.

    Args:
        start: First block of it.
        stop: The one after its last.
        ratio: Its median divided by that of the rest.
    """

    start: int
    stop: int
    ratio: float


def level_shift(medians: NDArray[np.float64]) -> Shift | None:
    """The stretch whose level differs most from the rest, where it differs by more than noise.

    It may be anywhere, of any length from an eighth of the run on, slower or faster: a load that
    came, one that went, one that came and went. Three things are asked of it: a median that is 7 %
    off; that its blocks lie beyond the others one by one (a Mann-Whitney U of 0.85); and a step of
    five standard errors, by the median deviation from both levels. A single slow block, however
    slow, has none of these.

    Args:
        medians: Of each block, in the order of time.
    """
    count = len(medians)
    if count < _LEAST_GROUPS or not np.all(medians > 0):
        return None
    edges = np.linspace(0, count, min(count, _MOST_GROUPS) + 1).round().astype(int)
    levels = np.array([np.median(medians[a:b]) for a, b in itertools.pairwise(edges)])
    groups = len(levels)
    least = max(_LEAST_STRETCH, groups // 8)
    starts, stops = np.triu_indices(groups + 1, least)
    kept = groups - (stops - starts) >= least
    starts, stops = starts[kept], stops[kept]
    at = np.arange(groups)
    inside = (at >= starts[:, None]) & (at < stops[:, None])
    logs = np.log(levels)
    within, without = _medians(logs, inside), _medians(logs, ~inside)
    ratios = np.exp(within - without)
    apart = _separations(levels, inside)
    apart = np.where(ratios > 1, apart, 1 - apart)
    sizes = np.abs(within - without)
    off = np.abs(logs - np.where(inside, within[:, None], without[:, None]))
    noise = 1.4826 * np.median(off, axis=1)
    error = noise * np.sqrt(1 / (stops - starts) + 1 / (groups - (stops - starts)))
    distinct = (sizes > np.log1p(_SHIFT)) & (apart >= _SEPARATION) & (sizes >= _ERRORS * error)
    if not distinct.any():
        return None
    # The clearest: a stretch that reaches too far mixes both levels.
    best = int(np.argmax(np.where(distinct, sizes * apart, -1)))
    return Shift(int(edges[starts[best]]), int(edges[stops[best]]), float(ratios[best]))


def _medians(levels: NDArray[np.float64], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Median of the masked levels, row by row."""
    ordered = np.sort(np.where(mask, levels, np.inf), axis=1)
    count = mask.sum(1)
    rows = np.arange(len(mask))
    return (ordered[rows, (count - 1) // 2] + ordered[rows, count // 2]) / 2


def _separations(levels: NDArray[np.float64], inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Share of pairs in which the level inside is above the one outside; ties count half."""
    ordered = np.sort(levels)
    below = np.searchsorted(ordered, levels, "left")
    ranks = (below + np.searchsorted(ordered, levels, "right") + 1) / 2
    count = inside.sum(1)
    above = inside @ ranks - count * (count + 1) / 2
    return above / (count * (len(levels) - count))
