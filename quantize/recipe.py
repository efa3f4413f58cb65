"""How a file is made: everything that is chosen besides the model, the format and the images."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from edgedf.errors import ConfigError
from edgedf.formats import ModelFormat, format_named
from edgedf.precision import CALIBRATED, PRECISIONS, PrecisionName, precision_named
from edgedf.quantize.calibration.settings import Method, method_named
from edgedf.quantize.making.input_type import check_input_type, input_type_named
from edgedf.quantize.making.keep import Keep, parse_keep
from edgedf.spec import InputType

__all__ = ["Recipe", "check_available"]


@dataclass(frozen=True)
class Recipe:
    """What one conversion is to make; the defaults are those of ``edgedf convert``.

    Args:
        precision: Of the file, one of :data:`edgedf.precision.PRECISIONS`.
        input_type: Type of the input tensor: uint8 takes the picture's bytes, int8 bytes - 128,
            float32 the same 0 to 255. Outputs are float32.
        method: How activation ranges are chosen: minmax, percentile, mse or entropy. Default: the
            ranges that distill train --qat has learned, else minmax.
        equalize: Make the channels of each tensor equally large before int8.
        correct_biases: Let biases make up for the error of rounded weights.
        keep: Layers that stay out of the precision; the last that matches a layer counts.

    Raises:
        ConfigError: A choice does not exist, or does not go with the precision.

    Example:
        >>> Recipe("int8", method="mse", keep=(Keep("fp32", "decoder.*"),)).options()
        "--method mse --keep 'fp32:decoder.*'"
    """

    precision: PrecisionName = "int8"
    input_type: InputType = "uint8"
    method: Method | None = None
    equalize: bool = False
    correct_biases: bool = False
    keep: tuple[Keep, ...] = ()

    def __post_init__(self) -> None:
        calibrated = precision_named(self.precision) in CALIBRATED
        method = None if self.method is None else method_named(self.method)
        if not calibrated and method not in (None, "minmax"):
            raise ConfigError(
                f"The calibration method {method} has nothing to calibrate in {self.precision}.",
                expected=f"{' or '.join(CALIBRATED)}, whose activations have calibrated ranges",
                next_step="leave --method out, or choose another precision",
            )
        check_input_type(input_type_named(self.input_type), self.precision)
        parse_keep(self.keep, self.precision)
        if not calibrated and self.repairs:
            option = "--equalize" if self.equalize else "--correct-biases"
            raise ConfigError(
                f"{option} prepares for quantized activations, which {self.precision} does not "
                "have.",
                expected=" or ".join(CALIBRATED),
                next_step=f"leave {option} out, or choose another precision",
            )

    @property
    def repairs(self) -> bool:
        """Whether weights are changed, in a way that float does not notice, before int8."""
        return self.equalize or self.correct_biases

    @property
    def measured_by(self) -> Method:
        """The method for ranges that are measured."""
        return self.method or "minmax"

    @property
    def takes_learned_ranges(self) -> bool:
        """Whether ranges that training found hold for what this makes.

        They are of 8-bit activations and of the weights as training left them: a repair changes
        what the layers compute, and whoever names a method wants ranges that are measured.
        """
        return self.precision == "int8" and self.method is None and not self.repairs

    def options(self) -> str:
        """Return the same as options of ``edgedf convert``, without those that have defaults."""
        parts = [] if self.precision == "int8" else ["--precision", self.precision]
        parts += [] if self.input_type == "uint8" else ["--io", self.input_type]
        parts += [] if self.measured_by == "minmax" else ["--method", self.measured_by]
        parts += ["--equalize"] if self.equalize else []
        parts += ["--correct-biases"] if self.correct_biases else []
        for entry in self.keep:
            parts += ["--keep", f"{entry.precision}:{entry.pattern}"]
        return shlex.join(parts)


def check_available(precision: PrecisionName, formats: Sequence[ModelFormat]) -> None:
    """Refuse a precision that one of the formats does not have.

    Raises:
        ConfigError: One does not have it; the error says why, and what that format has.
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
                else "--precision int8",
            )
