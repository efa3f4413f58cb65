"""Which precisions there are, what each asks for, and which format has it.

============  ==================  ====================  ============================================
name          weights             activations           arithmetic
============  ==================  ====================  ============================================
fp32          float32             float32               float32
fp16          float16             float32               float32, unless a delegate chooses float16
int8          int8, per channel   int8, calibrated      integer (PTQ, static)
int8-dynamic  int8, per channel   int8, range found     integer in convolutions but for depthwise
                                  at run time           ones, float elsewhere
int8-weights  int8, per channel   float32               float32, weights dequantized first
int8-a16      int8, per channel   int16, calibrated     integer with 16-bit activations
============  ==================  ====================  ============================================
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from edgedf.errors import ConfigError
from edgedf.formats import ModelFormat, format_named
from edgedf.spec import PRECISIONS, Precision

__all__ = ["AUTO", "CALIBRATED", "check_available", "computes_in_integers", "precision_named"]

CALIBRATED: frozenset[Precision] = frozenset({"int8", "int8-a16"})
"""Precisions whose activations have ranges that are measured on images."""

AUTO = "auto"
"""Not a precision: int8 with as much of a cure as it takes, see :mod:`edgedf.quantize.auto`."""


def precision_named(name: str) -> Precision:
    """The precision of that name.

    Raises:
        ConfigError: There is none; the nearest is suggested.
    """
    if name in PRECISIONS:
        return name
    nearest = difflib.get_close_matches(name, (*PRECISIONS, AUTO), 1)
    raise ConfigError(
        f"There is no precision {name!r}.",
        expected=f"one of {', '.join((*PRECISIONS, AUTO))}",
        next_step=f"--precision {nearest[0]}" if nearest else "edgedf convert --help",
    )


def check_available(precision: Precision, formats: Sequence[ModelFormat]) -> None:
    """Refuse what a format does not have.

    Args:
        precision: What is wanted.
        formats: In which formats.

    Raises:
        ConfigError: One of them does not have it; says why and what it has.
    """
    lacking = {name: format_named(name).missing_precisions for name in formats}
    for name, missing in lacking.items():
        if precision in missing:
            there = [known for known in PRECISIONS if known not in missing]
            others = [other for other, missed in lacking.items() if precision not in missed]
            raise ConfigError(
                f"There is no {precision} for .{name}: {missing[precision]}.",
                expected=f"for .{name} one of {', '.join(there)}",
                next_step=f"--to {others[0]}, or another precision"
                if others
                else "choose another precision",
            )


def computes_in_integers(precision: Precision, model_format: ModelFormat) -> bool:
    """Whether all operators but those at the ends are to be integer ones."""
    return precision in format_named(model_format).integer_precisions
