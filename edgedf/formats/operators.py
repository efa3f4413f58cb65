"""What a model consists of: its operators, what its layers compute in, delegate partitions.

A model that "is int8" may still have float islands, and a delegate that takes nine tenths of the
operators in thirty partitions is slower than none. Both are counted here rather than believed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = [
    "BOUNDARY_OPERATORS",
    "DYNAMIC",
    "FoundKept",
    "LayerPrecision",
    "Operator",
    "Partition",
    "TypeChanges",
    "boundary_operators",
    "count_operators",
    "float_operators",
    "kept_found",
]

# Allowed to touch floats in an int8 model where they change the type at the input or the outputs.
BOUNDARY_OPERATORS = frozenset(
    {"CAST", "QUANTIZE", "DEQUANTIZE", "Cast", "QuantizeLinear", "DequantizeLinear"}
)
DYNAMIC = "int8 at run time"


@dataclass(frozen=True)
class Operator:
    """One operator of a model.

    Args:
        name: Such as ``CONV_2D`` (TFLite) or ``Conv`` (ONNX).
        inputs: Types of its inputs, weights included; empty where the file does not say.
        outputs: Types of its outputs.
        boundary: Whether it does nothing but change the type between the model's input or outputs
            and what lies behind them, or make the logit of a probability.
        tensor: Of what ONNX Runtime executes: the tensor of the file that it makes, or goes to make
            where it is a part of that; else empty.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    boundary: bool = False
    tensor: str = ""

    def __str__(self) -> str:
        kinds = " → ".join(dict.fromkeys((*self.inputs[:1], *self.outputs[:1])))
        return f"{self.name} {kinds}".rstrip()


@dataclass(frozen=True)
class Partition:
    """What one delegate node replaces.

    Args:
        operators: Indices of the operators in the file, in order of execution.
    """

    operators: tuple[int, ...]


@dataclass(frozen=True)
class LayerPrecision:
    """What one layer computes in.

    Args:
        tensor: Name of the tensor it makes; it says which layer this is.
        name: A shorter one, for people; two layers may share it.
        operator: Such as ``CONV_2D`` or ``Conv``.
        computes: Type of its activations, such as ``float32`` or ``int8``; ``int8 at run time``
            where float activations are quantized whenever the model runs (dynamic range).
        weights: Type in which its weights are stored; None where it has none.
    """

    tensor: str
    name: str
    operator: str
    computes: str
    weights: str | None

    @property
    def precision(self) -> str:
        """Both in a few words, such as ``int8`` or ``float32, weights float16``."""
        if self.weights in (None, self.computes) or self.computes == DYNAMIC:
            return self.computes
        return f"{self.computes}, weights {self.weights}"


@dataclass(frozen=True)
class FoundKept:
    """What became of kept layers in a model that was made.

    Args:
        operators: How many operators of each name are not int8 because of them.
        misplaced: Names of those that compute in float without being asked to.
        missing: Names of those that should not, but compute in int8.
    """

    operators: dict[str, int]
    misplaced: tuple[str, ...]
    missing: tuple[str, ...]


def count_operators(operators: Sequence[Operator]) -> dict[str, int]:
    """How often each operator occurs, the most frequent first."""
    counts = Counter(operator.name for operator in operators)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def float_operators(operators: Sequence[Operator]) -> tuple[Operator, ...]:
    """Operators that compute in floating point; empty for a full-integer ``.tflite``."""
    return tuple(
        operator
        for operator in operators
        if not operator.boundary
        and any("float" in kind for kind in (*operator.inputs, *operator.outputs))
    )


def boundary_operators(operators: Sequence[Operator]) -> tuple[Operator, ...]:
    """Operators that change the type at the input and the outputs."""
    return tuple(operator for operator in operators if operator.boundary)


def kept_found(
    seen: Counter[str], misplaced: set[str], missing: set[str], asked: bool
) -> FoundKept:
    """What became of kept layers, in a fixed order.

    Args:
        seen: How often each operator computes in what it was kept in.
        misplaced: As :class:`FoundKept` has them.
        missing: Likewise.
        asked: Whether any layer was to be kept.
    """
    counts = sorted(seen.items(), key=lambda item: (-item[1], item[0]))
    return FoundKept(
        {name: count for name, count in counts if asked and name not in misplaced},
        tuple(sorted(misplaced)),
        tuple(sorted(missing)),
    )


class TypeChanges:
    """Finds the operators that only change the type between a graph's ends and its inside."""

    def __init__(self, inputs: Iterable[Any], outputs: Iterable[Any]) -> None:
        self._reached, self._outputs = set(inputs), set(outputs)

    def has(self, name: str, inputs: Sequence[Any], outputs: Sequence[Any]) -> bool:
        """Whether this operator, the next in order of execution, is one of them."""
        if name not in BOUNDARY_OPERATORS:
            return False
        if inputs[0] in self._reached:
            self._reached.update(outputs)
            return True
        return outputs[0] in self._outputs
