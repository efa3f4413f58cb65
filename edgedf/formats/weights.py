"""A float model as convolutions and what lies between them, so that their weights can be changed.

:mod:`~edgedf.formats.tflite.weights` and :mod:`~edgedf.formats.onnx.weights` read and
write it. Nothing but weights and biases ever changes: operators, names and shapes stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from edgedf.formats.base import ModelGraph

__all__ = ["Convolution", "Parameters", "Step", "WeightGraph"]


class Parameters(NamedTuple):
    """What a convolution is made of.

    Args:
        weights: float32, (output channels, input channels / groups, height, width), whatever the
            order is in the file.
        bias: float32, (output channels,).
    """

    weights: NDArray[np.float32]
    bias: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Convolution:
    """One convolution.

    Args:
        made: Name of the tensor that it makes, by which it is known.
        taken: Name of the tensor that it takes.
        depthwise: Whether each channel has a filter of its own.
        parameters: Its weights and its bias.
    """

    made: str
    taken: str
    depthwise: bool
    parameters: Parameters


@dataclass(frozen=True)
class Step:
    """One operator, by what it does to a positive factor of a channel of what it takes.

    Args:
        kind: ``convolution``, of which the factor goes into the weights; ``each``, which gives
            every channel of the result the factor that the same channel of each input has
            (additions, pooling, resizing, relu); or ``other``.
        taken: Names of the tensors it takes, constants left out.
        made: Names of the tensors it makes.
        saturates: Whether its result ends at a number that is not 0, as with relu6. Whatever it
            takes, a factor of the result can then not be undone.
    """

    kind: Literal["convolution", "each", "other"]
    taken: tuple[str, ...]
    made: tuple[str, ...]
    saturates: bool = False


class WeightGraph(Protocol):
    """A float model whose weights can be changed.

    Attributes:
        steps: Its operators in order of execution.
        convolutions: By the name of the tensor that each makes; a bias that is missing is 0.
        channel_axis: Of activations: 1 in NCHW, 3 in NHWC.
        outputs: Names of the tensors that leave the model.
    """

    steps: tuple[Step, ...]
    convolutions: Mapping[str, Convolution]
    channel_axis: int
    outputs: frozenset[str]

    def changed(self, parameters: Mapping[str, Parameters]) -> ModelGraph:
        """The model with other weights.

        Args:
            parameters: By the name of the tensor that a convolution makes; the others stay.

        Returns:
            The model, without a spec.
        """
        ...
