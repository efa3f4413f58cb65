"""What a user says of a model of their own, which its graph cannot say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgedf.errors import ConfigError

__all__ = ["Description"]

_WHITE = 255


@dataclass(frozen=True)
class Description:
    """What a graph cannot say about itself.

    Args:
        name: Of the model; None for the file's.
        version: Of the model.
        licence: Of the weights.
        mean: Per channel, in grey levels: what the model's input has had subtracted. None where
            the model takes bytes.
        std: Per channel, in grey levels: what it was then divided by. None likewise.
        size: Side of the input where the file leaves it open.
        fake_logit: Name of that output, where neither its name nor its shape tells.
        defocus_map: Likewise.
        output: What the verdict's output is: ``logit``, or ``probability`` in [0, 1]; None to tell
            by the graph.
        fake_class: Which of two values is that of fakes. Of a single one: 1 where a higher value
            means fake, 0 where it means real.
        fake_at: Score from which a picture counts as fake.
        real_at: Score up to which it counts as real.
        how: How the two were chosen.
        data: What the model was trained on.

    Raises:
        ConfigError: A value makes no sense.
    """

    name: str | None = None
    version: str = "1"
    licence: str = "not stated"
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    size: int | None = None
    fake_logit: str | None = None
    defocus_map: str | None = None
    output: Literal["logit", "probability"] | None = None
    fake_class: int = 1
    fake_at: float = 0.5
    real_at: float = 0.5
    how: str = "by default; not calibrated"
    data: str = "not stated"

    def __post_init__(self) -> None:
        if self.mean is not None or self.std is not None:
            _check_grey_levels(self.mean, self.std)
        if self.fake_class not in (0, 1):
            raise ConfigError(
                f"There is no class {self.fake_class} of two.",
                expected="fake_class = 0 or 1",
                next_step="give the position of the value of fakes, or 0 where a single value is "
                "that of being real",
            )


def _check_grey_levels(mean: tuple[float, ...] | None, std: tuple[float, ...] | None) -> None:
    """Refuse a normalisation that no network was trained with, such as one for values in [0, 1]."""
    next_step = (
        "for a model that takes values in [0, 1]: mean = [0, 0, 0] and std = [255, 255, 255]"
    )
    if mean is not None and std is not None:
        in_range = all(0 <= m <= _WHITE for m in mean) and not any(0 < m < 1 for m in mean)
        if in_range and all(1 <= s <= 10 * _WHITE for s in std):
            return
        if all(0 <= m <= 1 for m in mean) and all(0 < s <= 1 for s in std):
            grey = [[round(_WHITE * v, 3) for v in values] for values in (mean, std)]
            next_step = (
                "if these are for values in [0, 1], which is usual, multiply them by 255: mean = "
                f"{grey[0]} and std = {grey[1]}; if the model subtracts them itself and takes "
                "values in [0, 1]: mean = [0, 0, 0] and std = [255, 255, 255]"
            )
    raise ConfigError(
        f"mean = {_listed(mean)} and std = {_listed(std)} are no normalisation of bytes.",
        expected="both or neither, in grey levels of 0 to 255: (byte - mean) / std, with a mean of "
        "0 or from 1 to 255 and a std of 1 to 2550",
        next_step=next_step,
    )


def _listed(values: tuple[float, ...] | None) -> str:
    return "nothing" if values is None else str(list(values))
