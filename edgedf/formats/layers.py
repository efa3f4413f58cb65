"""What the two formats have in common when an artifact is compared with its parent layer by layer.

A *layer* is an operator of the artifact together with its weights and the tensor that it makes.
:mod:`~edgedf.formats.tflite.layers` and :mod:`~edgedf.formats.onnx.layers` find them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from edgedf.imaging import RGBImage
from edgedf.precision import KeptPrecision
from edgedf.spec import LayerOverride

__all__ = [
    "Answer",
    "Graphs",
    "KeptLayers",
    "Layer",
    "NamedLayer",
    "Seen",
    "Steps",
    "Weight",
]

Answer = Callable[[RGBImage], tuple[float, NDArray[np.float32]]]


@dataclass(frozen=True)
class NamedLayer:
    """A layer of a float model, by the name that its artifacts know it by.

    Args:
        name: Unique in the model.
        operators: What it computes: one, or one with the activation function behind it.
        tensors: Names of what these make; the last is what other layers take.
        inputs: Names of the tensors that it takes.
    """

    name: str
    operators: tuple[str, ...]
    tensors: tuple[str, ...]
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class KeptLayers:
    """Which layers of one float model are kept.

    Args:
        overrides: For the spec: one for each pattern that was asked for.
        matched: Tensor → precision, of all that matched layers make.
        followed: Likewise of their followers.
        layers: The layers that compute in each precision, in order of execution.
    """

    overrides: tuple[LayerOverride, ...] = ()
    matched: Mapping[str, KeptPrecision] = field(default_factory=dict)
    followed: Mapping[str, KeptPrecision] = field(default_factory=dict)
    layers: Mapping[KeptPrecision, tuple[NamedLayer, ...]] = field(default_factory=dict)

    def operators(self, precision: KeptPrecision) -> Counter[str]:
        """How many operators of each name compute in this precision."""
        return Counter(name for layer in self.layers.get(precision, ()) for name in layer.operators)

    def tensors(self, precision: KeptPrecision) -> frozenset[str]:
        """All that layers of this precision make, followers included."""
        both = {**self.matched, **self.followed}
        return frozenset(tensor for tensor, found in both.items() if found == precision)


@dataclass(frozen=True, eq=False)
class Steps:
    """What the integers of a quantized tensor stand for.

    Args:
        scale: Step between two integers; one, or one a channel.
        zero_point: The integer that stands for 0; as many.
        dtype: Type of the integers.
        axis: Which axis the channels are, where there is more than one scale.
    """

    scale: NDArray[np.float32]
    zero_point: NDArray[np.int64]
    dtype: np.dtype[Any]
    axis: int = 0

    def values(self, integers: NDArray[Any]) -> NDArray[np.float32]:
        """The real values of integers: scale * (integer - zero point)."""
        scale, zero_point = self.scale, self.zero_point
        if scale.size > 1:
            shape = [-1 if at == self.axis % integers.ndim else 1 for at in range(integers.ndim)]
            scale, zero_point = scale.reshape(shape), zero_point.reshape(shape)
        else:
            scale, zero_point = scale.reshape(()), zero_point.reshape(())
        shifted = integers.astype(np.int64) - zero_point if integers.itemsize > 2 else None
        if shifted is None:  # 8 and 16 bits are exact in float32, which is faster
            found = (integers.astype(np.float32) - zero_point.astype(np.float32)) * scale
            return np.asarray(found)  # of a tensor without dimensions NumPy makes a number
        return np.asarray(shifted * scale.astype(np.float64), np.float32)

    def rounded(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """What is left of real values in a tensor with one scale: rounded and clipped."""
        scale, zero_point = np.float32(self.scale.flat[0]), float(self.zero_point.flat[0])
        limits = np.iinfo(self.dtype)
        steps = np.rint(values / scale)
        np.clip(steps, limits.min - zero_point, limits.max - zero_point, out=steps)
        return np.asarray(steps * scale, np.float32)

    @property
    def range(self) -> tuple[float, float]:
        """Smallest and largest value that a tensor with one scale can hold."""
        limits = np.iinfo(self.dtype)
        scale, zero_point = float(self.scale.flat[0]), int(self.zero_point.flat[0])
        return scale * (int(limits.min) - zero_point), scale * (int(limits.max) - zero_point)

    def clipped(self, values: NDArray[np.float32]) -> int:
        """How many values lie outside the range by more than rounding, half a step."""
        low, high = self.range
        half = float(self.scale.flat[0]) / 2
        return int(np.count_nonzero((values < low - half) | (values > high + half)))


@dataclass(frozen=True, eq=False)
class Weight:
    """A constant of a layer that the artifact holds as integers.

    Args:
        name: Its name in the parent.
        parent: The parent's values.
        artifact: What the artifact's integers stand for.
        bits: Width of those integers; a bias has 32, or 64 beside 16-bit activations.
        axis: Of the output channels; None where that is not known.
    """

    name: str
    parent: NDArray[np.float32]
    artifact: NDArray[np.float32]
    bits: int
    axis: int | None

    @property
    def is_bias(self) -> bool:
        """Whether it is added up in an accumulator rather than multiplied by."""
        return self.bits > 16


@dataclass(frozen=True, eq=False)
class Layer:
    """An operator of the artifact that has a counterpart in the parent.

    Args:
        order: Its place in the artifact's order of execution, from 0; operators that only change
            the type are not counted.
        operator: Such as ``CONV_2D`` or ``Conv``.
        tensor: Name of the tensor it makes, in the parent.
        name: A shorter one, for people, which :class:`NamedLayer` defines.
        inputs: Tensors of other layers that it takes.
        steps: How that tensor is quantized; None where it is float in the artifact too.
        weights: Its quantized constants.
    """

    order: int
    operator: str
    tensor: str
    name: str
    inputs: tuple[str, ...]
    steps: Steps | None
    weights: tuple[Weight, ...]

    @property
    def quantized(self) -> bool:
        """Whether anything of it is quantized."""
        return self.steps is not None or bool(self.weights)


class Seen(NamedTuple):
    """Values of one layer's tensor for one picture, all float32 and of the same shape.

    Args:
        layer: Which layer.
        parent: In the parent.
        artifact: In the artifact.
        own: What the parent's operators make of the artifact's inputs: the noise between this and
            ``artifact`` is the layer's own, that between this and ``parent`` is inherited.
    """

    layer: Layer
    parent: NDArray[np.float32]
    artifact: NDArray[np.float32]
    own: NDArray[np.float32]


class Graphs(Protocol):
    """An artifact and its parent, tensor by tensor.

    Attributes:
        layers: In order of execution.
        unmatched: Tensors of the artifact without a counterpart in the parent.
        unmatched_weights: Likewise its quantized constants.
    """

    layers: tuple[Layer, ...]
    unmatched: tuple[str, ...]
    unmatched_weights: tuple[str, ...]

    def compare(self, image: RGBImage) -> Iterator[Seen]:
        """Run both on a picture.

        Args:
            image: uint8 RGB of the model's size.

        Yields:
            What every layer makes, in order of execution.
        """
        ...

    def isolated(self, tensors: Collection[str]) -> Answer:
        """The parent, with some layers quantized as they are in the artifact.

        The weights are those of the artifact, and the tensor passes through the artifact's own
        scale and zero point; nothing is calibrated again.

        Args:
            tensors: :attr:`Layer.tensor` of these layers; none for the parent as it is.

        Returns:
            A function of a picture that gives logit and map.
        """
        ...
