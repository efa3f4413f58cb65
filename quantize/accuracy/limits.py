"""What a model may lose, and how large and slow it may be."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal

from edgedf.errors import ConfigError

__all__ = ["WITH_INTERVAL", "DiffLimits", "Limits"]

WITH_INTERVAL: tuple[Literal["auc_drop", "tpr_drop", "flips", "map_error"], ...] = (
    "auc_drop",
    "tpr_drop",
    "flips",
    "map_error",
)


@dataclass(frozen=True)
class Limits:
    """What an artifact may lose against its parent; the defaults are for int8.

    A limit of 1 switches a drop, flips or the map error off; -1 a correlation. Correlations are
    Pearson's; the range of the maps is the parent's largest value minus its smallest.

    Args:
        auc_drop: AUC that may be lost.
        auc_drop_bound: Upper end of its 95 % interval.
        tpr_drop: The same of the TPR at an FPR of at most 1 %.
        tpr_drop_bound: Upper end of its interval.
        flips: Share of verdicts turned from real to fake or back.
        flips_bound: Upper end of its interval.
        map_error: Mean absolute difference of the maps, as a fraction of their range.
        map_error_bound: Upper end of its interval.
        logit_correlation: At least, over pictures.
        map_correlation: At least, over pixels.

    Raises:
        ConfigError: A limit is out of range, or a bound below the limit it belongs to.
    """

    auc_drop: float = 0.005
    auc_drop_bound: float = 0.01
    tpr_drop: float = 0.02
    tpr_drop_bound: float = 0.05
    flips: float = 0.01
    flips_bound: float = 0.02
    map_error: float = 0.02
    map_error_bound: float = 0.03
    logit_correlation: float = 0.99
    map_correlation: float = 0.98

    def __post_init__(self) -> None:
        for field in fields(Limits):
            value = getattr(self, field.name)
            least = -1.0 if field.name.endswith("_correlation") else 0.0
            if not least <= value <= 1.0:
                raise ConfigError(
                    f"The limit {field.name} is {value:g}.",
                    expected=f"a number from {least:g} to 1",
                    next_step=f"the default is {field.default:g}",
                )
        for name in WITH_INTERVAL:
            limit, bound = getattr(self, name), getattr(self, f"{name}_bound")
            if bound < limit:
                raise ConfigError(
                    f"The limit {name}_bound of {bound:g} is below {name}, which is {limit:g}.",
                    expected="a bound for the upper end of the interval of at least the limit for "
                    "the estimate",
                    next_step=f"raise {name}_bound as well",
                )


@dataclass(frozen=True)
class DiffLimits(Limits):
    """What B may lose against A, and how large and slow it may be.

    Args:
        max_size_ratio: Bytes of B by those of A, at most.
        max_latency_ratio: Latency of B by that of A, likewise.

    The others are those of :class:`Limits`, where A stands for the
    parent and B for the artifact.

    Raises:
        ConfigError: A limit is out of range.
    """

    max_size_ratio: float | None = None
    max_latency_ratio: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("max_size_ratio", "max_latency_ratio"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0.0):
                raise ConfigError(
                    f"The limit {name} is {value:g}.",
                    expected="a number above 0, such as 0.5 for half of what A has",
                    next_step="leave it out for no limit",
                )

    @property
    def of_gate(self) -> Limits:
        """Those that :mod:`~edgedf.quantize.accuracy.gate` judges by."""
        return Limits(**{field.name: getattr(self, field.name) for field in fields(Limits)})
