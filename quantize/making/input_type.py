"""The type of a model's input: bytes, or what spares an app or a delegate the conversion.

A model begins with a cast of the picture's bytes to float32. Here that first operator of a finished
model, float or quantized, is replaced; nothing is exported, calibrated or quantized again.

=========  =================  ======================================================================
name       value              meant for
=========  =================  ======================================================================
uint8      byte               apps: no arithmetic at all
int8       byte - 128         accelerators that take int8 alone: CAST and QUANTIZE are gone
float32    byte, as a float   delegates that want floats, such as GPUs; still 0 to 255
=========  =================  ======================================================================
"""

from __future__ import annotations

import difflib
from dataclasses import replace

from edgedf.errors import ConfigError
from edgedf.precision import PrecisionName
from edgedf.spec import INPUT_TYPES, INPUT_ZERO_POINTS, InputSpec, InputType

__all__ = ["check_input_type", "described_input", "input_type_named"]


def input_type_named(name: str) -> InputType:
    """The input type of that name.

    Raises:
        ConfigError: There is none; the nearest is suggested.
    """
    if name in INPUT_TYPES:
        return name
    nearest = difflib.get_close_matches(name, INPUT_TYPES, 1)
    raise ConfigError(
        f"There is no input type {name!r}.",
        expected=f"one of {', '.join(INPUT_TYPES)}",
        next_step=f"--io {nearest[0]}" if nearest else "edgedf convert --help",
    )


def check_input_type(wanted: InputType, precision: PrecisionName) -> None:
    """Refuse an int8 input where there is no int8 behind it.

    Args:
        wanted: Of the input.
        precision: Of the model.

    Raises:
        ConfigError: The precision does not compute in int8.
    """
    if wanted == "int8" and precision != "int8":
        raise ConfigError(
            f"There is no int8 input for {precision}: an int8 input spares int8 operators the "
            "conversion in front of them, and this model begins with others.",
            expected="--io uint8 or --io float32, or --precision int8",
            next_step="leave --io out: every precision takes the bytes as they are",
        )


def described_input(spec: InputSpec, wanted: InputType) -> InputSpec:
    """The spec of an input of another type.

    Args:
        spec: Of the model as it was.
        wanted: The type it gets.
    """
    return replace(spec, dtype=wanted, zero_point=INPUT_ZERO_POINTS[wanted])
