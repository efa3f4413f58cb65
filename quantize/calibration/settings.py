"""What is chosen about calibration: the images and the method."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from edgedf.errors import ConfigError

__all__ = ["METHODS", "MIN_CALIBRATION", "CalibrationImages", "Method", "method_named"]

MIN_CALIBRATION = 8

Method = Literal["minmax", "percentile", "mse", "entropy"]
METHODS: tuple[Method, ...] = get_args(Method)


def method_named(name: str) -> Method:
    """The method of that name.

    Raises:
        ConfigError: There is none.
    """
    for method in METHODS:
        if name == method:
            return method
    raise ConfigError(
        f"There is no calibration method {name!r}.",
        expected=f"one of {', '.join(METHODS)}",
        next_step="minmax is the default; the page on edgedf convert says what each does",
    )


@dataclass(frozen=True)
class CalibrationImages:
    """Which images calibrate a model, and which others check it.

    Args:
        path: Images to calibrate and to check with: a folder, best with subfolders 'real' and
            'fake', or a manifest.csv. Default: the sample that edgedf carries.
        split: Split of the manifest to take images from. Default: train calibrates and val checks.
        samples: Images to calibrate with; the others check.
        seed: Seed of the choice of images.

    Raises:
        ConfigError: So few images cannot calibrate.
    """

    path: str | Path | None = None
    split: str | None = None
    samples: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        if self.samples < MIN_CALIBRATION:
            raise ConfigError(
                f"{self.samples} calibration images are too few.",
                expected=f"at least {MIN_CALIBRATION}",
                next_step=f"--samples {MIN_CALIBRATION} or more; {type(self).samples} is the "
                "default",
            )
