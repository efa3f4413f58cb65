"""What the two formats have in common when an artifact is compared with its parent layer by layer.

A *layer* is an operator of the artifact together with its weights and the tensor that it makes.
:mod:`~edgedf.formats.tflite.layers` and :mod:`~edgedf.formats.onnx.layers` find them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from edgedf.imaging import RGBImage
from edgedf.quantize.layer_error.noise import Steps

__all__ = ["Answer", "Graphs", "Layer", "NamedLayer", "Seen", "Weight"]

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
