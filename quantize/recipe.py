"""How a file is made: everything that is chosen besides the model, the format and the images."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from edgedf.quantize.calibration.ranges import Method
from edgedf.quantize.making.kept_layers import Keep
from edgedf.spec import InputType, Precision

__all__ = ["Recipe"]


@dataclass(frozen=True)
class Recipe:
    """Choices of one conversion; what is checked is checked by who reads them.

    Args:
        precision: One of :mod:`edgedf.quantize.precision`.
        input_type: One of :mod:`edgedf.quantize.making.input_type`.
        method: How the range of an activation is found: one of
            :mod:`edgedf.quantize.calibration.ranges`.
        equalize: Whether channels are made equally large first: see
            :mod:`edgedf.quantize.repair.equalization`.
        correct_biases: Whether biases make up for rounded weights, after that.
        keep: Layers that stay out of the precision: see :mod:`edgedf.quantize.making.kept_layers`.
    """

    precision: Precision = "int8"
    input_type: InputType = "uint8"
    method: Method = "minmax"
    equalize: bool = False
    correct_biases: bool = False
    keep: tuple[Keep, ...] = ()

    @property
    def takes_learned_ranges(self) -> bool:
        """Whether ranges that training found hold for what it makes.

        They are of 8-bit activations and of the weights as training left them: a repair changes
        what the layers compute, and another method than the default is there to find others.
        """
        repaired = self.equalize or self.correct_biases
        return self.precision == "int8" and self.method == "minmax" and not repaired

    def options(self) -> str:
        """The same as options of ``edgedf convert``, those with their default left out.

        Example:
            >>> Recipe(method="mse", keep=(Keep("fp32", "decoder.*"),)).options()
            "--method mse --keep 'fp32:decoder.*'"
        """
        parts = [] if self.precision == "int8" else ["--precision", self.precision]
        parts += [] if self.input_type == "uint8" else ["--io", self.input_type]
        parts += [] if self.method == "minmax" else ["--method", self.method]
        parts += ["--equalize"] if self.equalize else []
        parts += ["--correct-biases"] if self.correct_biases else []
        for entry in self.keep:
            parts += ["--keep", f"{entry.precision}:{entry.pattern}"]
        return shlex.join(parts)
