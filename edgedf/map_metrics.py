"""How close defocus maps are to the wanted ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgedf.errors import DataError
from edgedf.figures import Figure, Groups, mean_with_interval

__all__ = ["MapMetrics", "map_error_with_interval", "map_metrics"]

Floats = NDArray[np.float64]

_MAPS = 256  # pictures whose maps are compared at a time


@dataclass(frozen=True)
class MapMetrics:
    """How close defocus maps are to the wanted ones.

    Args:
        error: Mean absolute error in pixels of the model's input.
        correlation: Pearson correlation over the pixels of a map, averaged over maps; None where
            every wanted map is flat.
    """

    error: Figure
    correlation: Figure | None


def map_error_with_interval(
    maps: NDArray[np.floating], wanted: NDArray[np.floating], groups: Groups
) -> Figure:
    """Mean absolute error of defocus maps in pixels.

    Args:
        maps: (n, H, W), sigma in pixels.
        wanted: The same shape.
        groups: (n,): group of each picture.

    Raises:
        DataError: The shapes differ, or as :func:`mean_with_interval`.
    """
    return mean_with_interval(_compared(maps, wanted)[0], groups)


def map_metrics(
    maps: NDArray[np.floating], wanted: NDArray[np.floating], groups: Groups
) -> MapMetrics:
    """Error and correlation of defocus maps.

    A wanted map that is flat has no correlation with anything and counts for the error alone; a
    flat answer to one that is not flat counts as a correlation of 0.

    Args:
        maps: (n, H, W), sigma in pixels.
        wanted: The same shape.
        groups: (n,): group of each picture.

    Raises:
        DataError: The shapes differ, or as :func:`mean_with_interval`.
    """
    errors, correlations = _compared(maps, wanted)
    known = np.flatnonzero(~np.isnan(correlations))
    error = mean_with_interval(errors, groups)
    if not known.size:
        return MapMetrics(error, None)
    names = np.asarray(groups, dtype=object)
    return MapMetrics(error, mean_with_interval(correlations[known], names[known]))


def _compared(
    measured: NDArray[np.floating], wanted: NDArray[np.floating]
) -> tuple[Floats, Floats]:
    """Mean absolute error and correlation of each map; NaN for the latter where none is meant."""
    if measured.shape != wanted.shape or measured.ndim != 3:
        raise DataError(
            f"The maps have the shapes {measured.shape} and {wanted.shape}.",
            expected="twice the same: (n, height, width)",
            next_step="scale the wanted maps to the model's",
        )
    errors, correlations = np.empty(len(measured)), np.empty(len(measured))
    for at in range(0, len(measured), _MAPS):
        part = slice(at, at + _MAPS)
        one, other = (
            maps[part].reshape(len(maps[part]), -1).astype(np.float64)
            for maps in (measured, wanted)
        )
        errors[part] = np.abs(one - other).mean(axis=1)
        one, other = (maps - maps.mean(axis=1, keepdims=True) for maps in (one, other))
        lengths = np.sqrt(np.square(one).sum(axis=1)), np.sqrt(np.square(other).sum(axis=1))
        product = np.where(_is_flat(measured[part]), 0.0, lengths[0] * lengths[1])
        values = np.divide((one * other).sum(axis=1), product, where=product > 0, out=product * 0)
        correlations[part] = np.where(_is_flat(wanted[part]), np.nan, values)
    return errors, correlations


def _is_flat(maps: NDArray[np.floating]) -> NDArray[np.bool_]:
    # Not by a variance of 0, which rounding keeps from being exact.
    flat = maps.reshape(len(maps), -1)
    return np.asarray(flat.min(axis=1) == flat.max(axis=1))
