"""What the verdict's output of a user's ``.onnx`` is: a logit, a score made of one, a probability.

Nothing in a file tells a logit from a probability but what it is made by and which values it takes.
A probability taken for a logit calls every picture fake, so that what stays within [0, 1] on
photographs has to be called by its name in the description.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgedf.errors import SpecMismatch
from edgedf.quantize.sources.description import Description
from edgedf.quantize.sources.own_onnx_checks import OutputNames
from edgedf.result import sigmoid
from edgedf.spec import LOGIT_BOUND

__all__ = ["SCORE_ENDS", "Score", "check_score", "find_score", "may_be_misread"]

SCORE_ENDS = sigmoid(-LOGIT_BOUND), sigmoid(LOGIT_BOUND)
"""A probability is clipped to these before its logit is computed, float."""

# What may come behind the curve of a score: changes of shape and type, or one of two values.
_SHAPES = ("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Cast", "Dropout")
_PARTS = ("Slice", "Gather", "Split")
# A Clip behind the curve of a score does not change it if it leaves at least this.
_KEPT_SCORES = (0.01, 0.99)
_NEARLY = 1e-3


class Score(NamedTuple):
    """What says whether a picture is fake.

    Args:
        tensor: Name of the tensor.
        shape: Its shape; None where it is not known.
        classes: How many values it has: one, or two.
        fake_class: Which of two is that of fakes; of one, 1 where a higher value means fake and 0
            where it means real.
        is_probability: Whether the values are probabilities.
    """

    tensor: str
    shape: tuple[int, ...] | None
    classes: int
    fake_class: int
    is_probability: bool

    def logit(self, values: NDArray[np.floating]) -> float:
        """The logit of the picture being fake.

        Args:
            values: Of the tensor: one, or two.
        """
        logits = values.astype(np.float64).ravel()
        if self.is_probability:
            shares = np.clip(logits, *SCORE_ENDS)
            logits = np.log(shares / (1 - shares))
            if self.classes == 2:
                return float(logits[self.fake_class])
        if self.classes == 2:
            return float(logits[self.fake_class] - logits[1 - self.fake_class])
        return float(logits[0] if self.fake_class == 1 else -logits[0])


def find_score(graph: Any, outputs: OutputNames, path: Path, description: Description) -> Score:
    """Find what a score is made of.

    Args:
        graph: An ``onnx.GraphProto``.
        outputs: The outputs of the model.
        path: For messages.
        description: May say what the output is.

    Raises:
        SpecMismatch: It is a part of a softmax and not described; or not what it is described as.
    """
    classes = int(np.prod(outputs.logit_shape))
    tensor = _before_curve(graph, outputs)
    if tensor is None and description.output is None:
        raise SpecMismatch(
            f"The output {outputs.logit} of {path} is a part of a softmax.",
            expected="logits: what a score is made from",
            next_step=f"export the model without its softmax, or with both classes; or {_SAY_SO}",
        )
    if tensor != outputs.logit and description.output == "logit":
        raise SpecMismatch(
            f"The output {outputs.logit} of {path} is described as a logit, but is made by a "
            "sigmoid or softmax.",
            expected="output = 'probability' for what is between 0 and 1",
            next_step="correct output in the description, or leave it out",
        )
    is_logit = tensor is not None and (tensor != outputs.logit or description.output is None)
    is_logit = is_logit or description.output == "logit"
    tensor = tensor or outputs.logit
    return Score(
        tensor,
        outputs.logit_shape if tensor == outputs.logit else None,
        classes,
        description.fake_class,
        not is_logit,
    )


_SAY_SO = (
    "say so in the description: output = 'probability', with fake_class = 0 if it is that of being "
    "real"
)


def check_score(
    score: Score, values: Sequence[NDArray[np.floating]], path: Path, description: Description
) -> None:
    """Hold the values on some pictures against what they are taken for.

    Args:
        score: What they are taken for.
        values: Of its tensor, for each picture.
        path: For messages.
        description: May say what the output is.

    Raises:
        SpecMismatch: They are something else, or look like it.
    """
    scores = np.stack([entry.ravel() for entry in values]).astype(np.float64)
    lowest, highest = float(scores.min()), float(scores.max())
    measured = f"The verdict of {path} ({score.tensor}) goes from {lowest:.3g} to {highest:.3g}"
    if score.is_probability:
        if not _within(scores):
            raise SpecMismatch(
                f"{measured} on photographs, and is described as a probability.",
                expected="values between 0 and 1",
                next_step="for a logit: output = 'logit'; otherwise scale it inside the model",
            )
        if score.classes == 2 and np.abs(scores.sum(axis=1) - 1).max() > _NEARLY:
            raise SpecMismatch(
                f"The two probabilities of {path} ({score.tensor}) do not add up to 1.",
                expected="the probabilities of the two classes, or one of them",
                next_step="export the logits, or one probability",
            )
    elif may_be_misread(score, values, description):
        raise SpecMismatch(
            f"{measured} on every picture shown: that is a probability rather than a logit.",
            expected="a logit, of which the sigmoid is the score, or word of what it is",
            next_step=f"{_SAY_SO}; or output = 'logit' if it is a logit after all",
        )


def may_be_misread(
    score: Score, values: Sequence[NDArray[np.floating]], description: Description
) -> bool:
    """Whether what is taken for a logit may be a probability: all values are within [0, 1].

    Args:
        score: What it is taken for.
        values: Of its tensor, for each picture.
        description: May say that it is a logit.
    """
    if score.is_probability or score.shape is None or description.output is not None:
        return False
    return _within(np.stack([entry.ravel() for entry in values]))


def _within(values: NDArray[np.floating]) -> bool:
    return bool(values.min() >= -_NEARLY and values.max() <= 1 + _NEARLY)


def _before_curve(graph: Any, outputs: OutputNames) -> str | None:
    """The logit behind a score: what goes into a last sigmoid, or a last softmax of two classes.

    Changes of shape or type behind the curve do not hide it, nor does a Clip that leaves nearly all
    scores as they are.

    Args:
        graph: An ``onnx.GraphProto``.
        outputs: The outputs of the model.

    Returns:
        The tensor's name; that of the output where there is no curve, None where one value was
        taken out of a softmax.
    """
    name, shape = outputs.logit, outputs.logit_shape
    classes = int(np.prod(shape))
    makers = {tensor: node for node in graph.node for tensor in node.output}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    at = name
    while (node := makers.get(at)) is not None:
        if node.op_type == "Sigmoid":
            return str(node.input[0])
        if node.op_type == "Softmax":
            if classes == 1:
                return None
            axis = next((a.i for a in node.attribute if a.name == "axis"), -1)
            return str(node.input[0]) if axis in (-1, len(shape) - 1) else name
        is_part = classes == 1 and node.op_type in _PARTS
        if not (is_part or node.op_type in _SHAPES or _keeps_scores(node, constants)):
            break
        at = node.input[0]
    return name


def _keeps_scores(node: Any, constants: Mapping[str, Any]) -> bool:
    """Whether it is a Clip that changes no score but those at the very ends."""
    import onnx

    def end(place: int, otherwise: float) -> float:
        name = node.input[place] if place < len(node.input) else ""
        if not name:
            return otherwise
        known = name in constants
        return float(onnx.numpy_helper.to_array(constants[name]).item()) if known else math.nan

    lowest, highest = _KEPT_SCORES
    return node.op_type == "Clip" and end(1, -math.inf) <= lowest and end(2, math.inf) >= highest
