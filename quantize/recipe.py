"""How an int8 file is made: everything that is chosen besides the model and the images."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Recipe"]


@dataclass(frozen=True)
class Recipe:
    """Choices of one conversion.

    Args:
        method: How the range of an activation is found, such as ``minmax``.
        equalize: Whether channels are made equally large first; see
            :mod:`edgedf.quantize.equalize`.
        correct_biases: Whether biases make up for rounded weights, after that.
        keep: Layers that stay out of int8, as ``--keep`` takes them.
        trained: Whether weights and ranges come from quantization-aware training.
    """

    method: str = "minmax"
    equalize: bool = False
    correct_biases: bool = False
    keep: tuple[str, ...] = ()
    trained: bool = False

    def options(self) -> str:
        """The same as options of ``edgedf convert``.

        Example:
            >>> Recipe(method="mse", keep=("fp32:decoder.*",)).options()
            "--method mse --keep fp32:'decoder.*'"
        """
        parts = [f"--method {self.method}"] if self.method != "minmax" else []
        parts += ["--equalize"] if self.equalize else []
        parts += ["--correct-biases"] if self.correct_biases else []
        for entry in self.keep:
            precision, _, pattern = entry.partition(":")
            parts.append(f"--keep {precision}:'{pattern}'")
        return " ".join(parts)
