"""The precisions that a file can have, and everything that differs between them: one record each.

Runtimes and stages ask a record instead of comparing names, so a new precision is an entry of
:data:`PRECISIONS`, a name in :data:`PrecisionName` and what makes it
(:mod:`edgedf.quantize.making.make`). Which formats have it is for the formats to say
(:class:`edgedf.formats.Format`).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from edgedf.errors import ConfigError

__all__ = [
    "AUTO",
    "CALIBRATED",
    "KEPT_PRECISIONS",
    "PRECISIONS",
    "KeptPrecision",
    "Precision",
    "PrecisionName",
    "Tolerance",
    "precision_named",
]

PrecisionName = Literal["fp32", "fp16", "int8", "int8-dynamic", "int8-weights", "int8-a16"]

KeptPrecision = Literal["fp32", "int8-a16"]
"""In which layers can be kept that are to stay out of a precision."""
KEPT_PRECISIONS: tuple[KeptPrecision, ...] = get_args(KeptPrecision)

AUTO = "auto"
"""Not a precision: the search for an int8 file that passes a gate, :mod:`edgedf.quantize.auto`."""


@dataclass(frozen=True)
class Tolerance:
    """What a file may lose against its original on a few images.

    Args:
        logit_correlation: At least, in [0, 1].
        map_correlation: At least, over all pixels of all images: a mean error alone passes a map
            that is right where it is flat and cut off where it matters.
        map_mean_error: At most: mean absolute difference as a fraction of the range (largest
            minus smallest value) that the original's map takes on the images.
        flips: At most this fraction of the verdicts.
        flips_always: This many flips are allowed however few the images: with fewer than
            1 / ``flips`` of them a single one would already be over the limit.
    """

    logit_correlation: float
    map_correlation: float
    map_mean_error: float
    flips: float
    flips_always: int

    def flips_allowed(self, images: int) -> int:
        """Largest number of flips on that many images."""
        return max(self.flips_always, math.floor(self.flips * images))


@dataclass(frozen=True)
class Precision:
    """What the numbers of a file are, and what follows from that.

    Args:
        name: What ``--precision`` and the spec call it.
        tolerance: What the proof lets a file of this precision lose.
        activation_bits: Bits of activations whose ranges are calibrated on images; None where no
            activation has such a range.
        without_ranges: Why no activation has one, for people; empty where they have.
        integer: Whether weights and activations are multiplied as integers.
        wants_dot_product: Whether it is faster than float only on processors with dot-product
            instructions for int8.
        note: What ``--help`` says behind the name.
    """

    name: PrecisionName
    tolerance: Tolerance
    activation_bits: Literal[8, 16] | None = None
    without_ranges: str = ""
    integer: bool = False
    wants_dot_product: bool = False
    note: str = ""


PRECISIONS: Mapping[PrecisionName, Precision] = {
    record.name: record
    for record in (
        Precision(
            "fp32",
            Tolerance(0.99999, 0.99999, 0.0001, 0.0, flips_always=0),
            without_ranges="nothing in it is quantized",
        ),
        Precision(
            "fp16",
            Tolerance(0.9999, 0.9999, 0.001, 0.0, flips_always=0),
            without_ranges=(
                "its weights are float16 and its activations float32, so none has a scale"
            ),
            note="weights only",
        ),
        Precision(
            "int8",
            Tolerance(0.99, 0.98, 0.02, 0.01, flips_always=1),
            activation_bits=8,
            integer=True,
            wants_dot_product=True,
        ),
        Precision(
            "int8-dynamic",
            Tolerance(0.99, 0.99, 0.01, 0.01, flips_always=1),
            without_ranges="its activations get their scales at run time, picture by picture",
            integer=True,
            wants_dot_product=True,
            note=".tflite alone",
        ),
        Precision(
            "int8-weights",
            Tolerance(0.99, 0.999, 0.002, 0.01, flips_always=1),
            without_ranges="its activations are float32, so none has a scale",
        ),
        Precision(
            "int8-a16",
            Tolerance(0.99, 0.999, 0.002, 0.01, flips_always=1),
            activation_bits=16,
            integer=True,
            note="16-bit activations",
        ),
    )
}
"""Every precision by its name."""

CALIBRATED: tuple[PrecisionName, ...] = tuple(
    record.name for record in PRECISIONS.values() if record.activation_bits is not None
)
"""Precisions whose activations have ranges that are measured on images."""


def precision_named(name: str) -> PrecisionName:
    """Return the name of a precision.

    Raises:
        ConfigError: There is none of that name; the error suggests the nearest.
    """
    for known in PRECISIONS:
        if name == known:
            return known
    nearest = difflib.get_close_matches(name, (*PRECISIONS, AUTO), 1)
    raise ConfigError(
        f"There is no precision {name!r}.",
        expected=f"one of {', '.join((*PRECISIONS, AUTO))}",
        next_step=f"--precision {nearest[0]}" if nearest else "edgedf convert --help",
    )
