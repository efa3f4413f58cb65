"""A student as int8 computes it, in float and with gradients.

Both backends quantize alike: weights per output channel, symmetric, to whole numbers in
[-127, 127]; activations per tensor, asymmetric, to 256 levels (int8 in TFLite, uint8 in ONNX) of
which one is exactly 0. Here the same numbers are computed in float32 (*fake quantization*, Jacob
et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", CVPR 2018), on the graph that is exported: a convolution with its relu6, a sum and the
final average each give a quantized tensor; a resize keeps the levels of what goes into it; the
picture's bytes are used as they are; a bias has 32 bits, in steps of the input's scale times that
of the channel's weights.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from edgedf.distill.networks.decoder import Double
from edgedf.distill.networks.deployable import Deployable, folded_weights
from edgedf.distill.networks.layers import Conv, Sum, on_int8_grid
from edgedf.distill.networks.student import Student
from edgedf.distill.qat.levels import fake_quantize, on_bias_grid, quantization_of
from edgedf.errors import CheckpointError
from edgedf.spec import LOGIT_BOUND, MAP_MAXIMUM

__all__ = ["FakeQuantized", "Ranges", "activations", "ranges_of"]

Ranges = dict[str, tuple[float, float]]
"""Lowest and highest value of each quantized activation, by the module that makes it."""

# What these modules make is quantized, each with a range of its own.
_QUANTIZED = (Conv, Sum, nn.AdaptiveAvgPool2d)
_FIXED = {"student.blur": (0.0, MAP_MAXIMUM), "average": (-LOGIT_BOUND, LOGIT_BOUND)}
# How far the average of ranges moves towards those of each new batch.
_MOMENTUM = 0.05


class FakeQuantized(nn.Module):
    """A student whose deployable form computes with the values that int8 leaves.

    What is trained is the student itself: gains and normalisation are folded anew at each step,
    with gradients, so that its weights can be saved like those of any other.

    Attributes:
        names: The modules of :class:`~edgedf.distill.networks.student.Deployable` that make a
            quantized tensor, in order of execution. A second call of the same module has ``.2``
            appended.

    Args:
        student: Trained in place.
        ranges: ``learned`` trains the ends of the ranges beside the weights, on a logarithmic
            scale (as Jain et al., "Trained Quantization Thresholds", MLSys 2020, for the speed not
            to depend on the range); ``ema`` follows the moving average of each batch's smallest
            and largest value.
    """

    low: Tensor
    high: Tensor

    def __init__(self, student: Student, ranges: Literal["learned", "ema"] = "learned") -> None:
        super().__init__()
        self.student = student
        self.follows = ranges == "ema"
        # Structure alone, without weights of its own, and no submodule: it has nothing to train.
        self._graph = [Deployable(student).to("meta")]
        self.names, self._inputs = _structure(self._graph[0], student.config.input_size)
        self._index = {name: index for index, name in enumerate(self.names)}
        ends = torch.tensor([_FIXED.get(name, (0.0, 0.0)) for name in self.names])
        self.register_buffer("low", ends[:, 0].clone())
        self.register_buffer("high", ends[:, 1].clone())
        self.stretch = nn.Parameter(torch.zeros(len(self.names), 2))
        self.stretch.requires_grad_(ranges == "learned")

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W), whole numbers in [0, 255] → logit (N, 1), map (N, 1, H / 4, W / 4)."""
        follows = self.training and self.follows
        low, high = self.ends()

        def quantized(name: str, output: Tensor, resized: bool) -> Tensor:
            index = self._index.get(name)
            if index is None:
                return output
            if follows and not resized:
                self._follow(index, output, _MOMENTUM)
            return fake_quantize(output, low[index], high[index])

        scales, _ = quantization_of(low, high)
        steps = {
            conv: 1.0 if source is None else scales[self._index[source]]
            for conv, source in self._inputs.items()
        }
        return self._run(image, quantized, steps)

    def observe(self, batches: Iterable[Tensor]) -> None:
        """Start with the ranges that activations have on some pictures.

        Only weights are quantized meanwhile. Each range is the mean over batches of the smallest
        and largest value.

        Args:
            batches: (N, 3, H, W) each, whole numbers in [0, 255].
        """
        count = 0

        def watched(name: str, output: Tensor, resized: bool) -> Tensor:
            if name in self._index and not resized:
                # The mean over batches.
                self._follow(self._index[name], output, 1 / (count + 1))
            return output

        with torch.no_grad():
            for batch in batches:
                self._run(batch, watched, {})
                count += 1

    def ends(self) -> tuple[Tensor, Tensor]:
        """Lowest and highest value of each quantized activation, (n,) each."""
        is_free = torch.tensor([name not in _FIXED for name in self.names])
        stretch = torch.exp(self.stretch * is_free[:, None].to(self.stretch))
        return self.low * stretch[:, 0], self.high * stretch[:, 1]

    def ranges(self) -> Ranges:
        """The same by name."""
        low, high = (end.detach().tolist() for end in self.ends())
        return {name: (low[i], high[i]) for i, name in enumerate(self.names)}

    def set_ranges(self, ranges: Mapping[str, tuple[float, float]]) -> None:
        """Take ranges that :meth:`ranges` gave.

        Raises:
            KeyError: One is missing.
        """
        ends = self.low.new_tensor([ranges[name] for name in self.names])
        with torch.no_grad():
            self.low.copy_(ends[:, 0])
            self.high.copy_(ends[:, 1])
            self.stretch.zero_()

    def _follow(self, index: int, output: Tensor, share: float) -> None:
        if self.names[index] in _FIXED:
            return
        with torch.no_grad():
            low, high = output.detach().aminmax()
            self.low[index].lerp_(low.clamp_max(0), share)
            self.high[index].lerp_(high.clamp_min(0), share)

    def _run(
        self, image: Tensor, change: Any, steps: Mapping[str, Tensor | float]
    ) -> tuple[Tensor, Tensor]:
        """Run with weights on their grid.

        So are the biases of the convolutions in ``steps``, whose inputs have these scales.
        """
        (graph,) = self._graph
        weights = folded_weights(self.student)
        for name, value in weights.items():
            if value.dim() == 4:
                weights[name] = on_int8_grid(value)
        for conv, step in steps.items():
            bias, weight = f"{conv}.bias", weights[f"{conv}.weight"]
            weights[bias] = on_bias_grid(weights[bias], weight, step)
        with _changing(graph, change):
            outputs = torch.func.functional_call(graph, weights, (image,))
        return cast(tuple[Tensor, Tensor], outputs)


def activations(student: Student, image: Tensor) -> dict[str, Tensor]:
    """What a student's deployable form computes in float, by the name of :class:`FakeQuantized`.

    Args:
        student: Runs as it is.
        image: (N, 3, H, W) in [0, 255].

    Returns:
        The tensors that int8 quantizes with a range of their own, in order of execution.
    """
    graph, tensors = Deployable(student), dict[str, Tensor]()
    used, _ = _structure(Deployable(student).to("meta"), student.config.input_size)

    def keep(name: str, output: Tensor, resized: bool) -> Tensor:
        if not resized:
            tensors[name] = output
        return output

    with torch.no_grad(), _changing(graph, keep):
        graph(image)
    return {name: tensors[name] for name in used}


def ranges_of(metadata: Mapping[str, Any]) -> Ranges | None:
    """The activation ranges that a checkpoint's metadata hold; None where it was not trained so.

    Raises:
        CheckpointError: They are no ranges.
    """
    if "qat" not in metadata:
        return None
    try:
        ranges = {
            str(name): (float(low), float(high))
            for name, (low, high) in metadata["qat"]["ranges"].items()
        }
        if not all(-math.inf < low <= 0 <= high < math.inf for low, high in ranges.values()):
            raise ValueError("a range does not hold 0")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"The checkpoint's activation ranges cannot be used: {error}.",
            expected="what `edgedf distill train --qat` writes",
            next_step="train it again",
        ) from error
    return ranges


@contextlib.contextmanager
def _changing(
    graph: nn.Module, change: Any, sources: dict[str, str | None] | None = None
) -> Iterator[None]:
    """Let ``change(name, tensor, resized)`` replace what each module makes that int8 quantizes.

    A resized tensor comes with the name of the one that it is made from, whose range it shares.
    What each convolution takes goes into ``sources``: an activation's name, None for the picture.
    """
    calls: dict[str, int] = {}
    # By identity; the tensor is kept, or another one might be given its identity.
    makers: dict[int, tuple[str, Tensor]] = {}

    def hook(name: str) -> Any:
        def after(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            resized = isinstance(module, Double)
            if resized:
                called, _ = makers[id(inputs[0])]
            else:
                calls[name] = calls.get(name, 0) + 1
                called = name if calls[name] == 1 else f"{name}.{calls[name]}"
            if sources is not None and isinstance(module, Conv):
                sources[name] = makers[id(inputs[0])][0] if id(inputs[0]) in makers else None
            changed: Tensor = change(called, output, resized)
            makers[id(changed)] = called, changed
            return changed

        return after

    handles = [
        module.register_forward_hook(hook(name))
        for name, module in graph.named_modules()
        if isinstance(module, (*_QUANTIZED, Double))
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _structure(graph: nn.Module, size: int) -> tuple[tuple[str, ...], dict[str, str | None]]:
    """What is quantized and has a part in an output, and what the convolutions take.

    Args:
        graph: On the device ``meta``, where nothing is computed.
        size: Side of the picture.

    Returns:
        Names of activations in order of execution; and for each convolution that makes one of them
        the name of its input, None for the picture.
    """
    tensors: dict[str, Tensor] = {}
    sources: dict[str, str | None] = {}

    def keep(name: str, output: Tensor, resized: bool) -> Tensor:
        return output if resized else tensors.setdefault(name, output)

    with _changing(graph, keep, sources):
        outputs = graph(torch.zeros(1, 3, size, size, device="meta", requires_grad=True))
    total = sum(output.sum() for output in outputs)
    reached = torch.autograd.grad(cast(Tensor, total), list(tensors.values()), allow_unused=True)
    names = tuple(name for name, used in zip(tensors, reached, strict=True) if used is not None)
    return names, {conv: source for conv, source in sources.items() if conv in names}
