"""A student for export, with gains and the input's normalisation folded into the weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgedf.distill.networks.layers import MEAN, STD, Conv, Sum
from edgedf.distill.networks.student import Student

__all__ = ["Deployable", "folded_weights"]


class Deployable(nn.Module):
    """A student for export: float32 (N, 3, H, W) in [0, 255] → (fake_logit, defocus_map).

    The first convolution of the encoder takes what precedes it as it is: its weights are divided by
    the standard deviation and its bias takes the mean. Zeros around it are what the student pads
    its normalised input with (black), so the two are equal at the border as well.

    The fake head weighs channels and adds up the blocks before it averages over the picture and not
    after, which is the same sum in another order. In int8 it makes the difference. Rounding
    averages out over the pixels, where thousands of rounded averages would not; and ranges are
    measured on many pixels of a calibration picture, where a picture has but one average, so that
    unusual pictures were cut off.

    Args:
        student: Copied, not kept.
    """

    def __init__(self, student: Student) -> None:
        super().__init__()
        copy = Student(student.config)
        copy.normalised = _as_it_is  # type: ignore[method-assign]
        copy.load_state_dict(student.state_dict())
        self.student = copy
        widths = copy.widths
        self.by_mean = nn.ModuleList(Conv(width, 1, relu=False) for width in widths)
        self.by_spread = nn.ModuleList(Conv(width, 1, relu=False) for width in widths)
        self.evidence = nn.ModuleList(Sum() for _ in widths)
        self.totals = nn.ModuleList(Sum() for _ in widths[1:])
        # An average over 2 x 2 pixels, as a convolution, which XNNPACK has in int8.
        self.halve = Conv(1, 1, 2, stride=2, relu=False)
        self.average = nn.AdaptiveAvgPool2d(1)
        copy.encoder.stem.pad_value = 0.0
        if copy.high_pass is not None:
            # Three channels fill no vector: as a depthwise filter it took half of the whole
            # network's time. As a whole one it has zeros where a channel would look at another.
            copy.high_pass.conv = Conv(3, 3, copy.high_pass.conv.weight.shape[2])
        if copy.local is not None:
            copy.local.stem = _with_even_kernel(copy.local.stem)
        with torch.no_grad():
            for name, value in folded_weights(student).items():
                self.get_parameter(name).copy_(value)
            for module in self.modules():
                if isinstance(module, Conv):
                    module.gain.fill_(1.0)
                    module.folded = True
        self.eval().requires_grad_(False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Run the network; see the class."""
        student = self.student
        ends, inner = student.features(
            image if student.high_pass is None else student.high_pass.conv(image)
        )
        evidence = [
            add(by_mean(x), by_spread(spread(x)))
            for add, by_mean, by_spread, spread, x in zip(
                self.evidence, self.by_mean, self.by_spread, student.spreads, inner, strict=True
            )
        ]
        total = evidence[0]
        for add, part in zip(self.totals, evidence[1:], strict=True):
            while total.shape[2] > part.shape[2]:
                total = self.halve(total)
            total = add(total, part)
        return self.average(total).flatten(1), student.defocus_map(ends, image)


def folded_weights(student: Student) -> dict[str, Tensor]:
    """The weights of a :class:`Deployable` as a function of the student's, with gradients.

    Args:
        student: Gains, the normalisation of the input and that of the statistics are folded.

    Returns:
        Every weight and bias that :meth:`Deployable.forward` uses, by its name there.
    """
    weights_of = {}
    for name, conv in student.named_modules():
        if isinstance(conv, Conv):
            weights_of[f"student.{name}.weight"] = conv.effective_weight()
            weights_of[f"student.{name}.bias"] = conv.bias
    step = 1.0
    if student.high_pass is not None:
        step, name = student.high_pass.step, "student.high_pass.conv.weight"
        weights_of[name] = torch.diag_embed(weights_of[name][:, 0].permute(1, 2, 0)).permute(
            2, 3, 0, 1
        )
    _fold_normalisation(weights_of, "student.encoder.stem", step)
    if student.local is not None:
        _fold_normalisation(weights_of, "student.local.stem", 1.0)
        name = "student.local.stem.weight"
        weights_of[name] = F.pad(weights_of[name], (1, 0, 1, 0))
    widths = student.widths
    weights = (student.fake.weight[0] / student.deviation).split(widths * 2)
    centres = student.centre.split(widths * 2)
    names = [f"{kind}.{i}" for kind in ("by_mean", "by_spread") for i in range(len(widths))]
    for name, weight, centre in zip(names, weights, centres, strict=True):
        weights_of[f"{name}.weight"] = weight.reshape(1, -1, 1, 1)
        # Each part by itself is then near 0, which leaves int8 its finest step.
        weights_of[f"{name}.bias"] = -(weight @ centre).reshape(1)
    weights_of["by_mean.0.bias"] = weights_of["by_mean.0.bias"] + student.fake.bias
    weights_of["halve.weight"] = student.centre.new_full((1, 1, 2, 2), 0.25)
    weights_of["halve.bias"] = student.centre.new_zeros(1)
    return weights_of


def _fold_normalisation(weights: dict[str, Tensor], stem: str, step: float) -> None:
    """Let a first convolution take grey levels divided by ``step`` instead of normalised ones."""
    weight = weights[f"{stem}.weight"]
    weights[f"{stem}.bias"] = weights[f"{stem}.bias"] - weight.sum(dim=(1, 2, 3)) * (MEAN / STD)
    weights[f"{stem}.weight"] = weight * (step / STD)


def _as_it_is(image: Tensor) -> Tensor:
    return image


def _with_even_kernel(conv: Conv) -> Conv:
    """A convolution like it with a row and a column of zero weights to come in front.

    With an odd kernel and a stride of 2 there is a pixel of padding at the end alone, which becomes
    an operator of its own right behind the input, with the picture transposed around it.
    """
    outputs, inputs, side, _ = conv.weight.shape
    return Conv(inputs, outputs, side + 1, stride=conv.stride, relu=conv.relu)
