"""Layers of teacher and student, in operators that stay int8."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["MEAN", "STD", "Conv", "HighPass", "Sum", "on_int8_grid"]

# What EfficientNet-Lite's ImageNet weights were trained with, in grey levels.
MEAN = 127.0
STD = 128.0

# Grey levels a unit of relu6, whose range is 0 to 6.
_STEP = 255.0 / 6

# Sums to 0; one corner differs from the others, as 127 is odd.
_HIGH_PASS = (
    (-2, -1, -2, -2, -2, -1, -2),
    (-1, -2, -3, -4, -3, -2, -1),
    (-2, -3, -5, -5, -5, -3, -2),
    (-2, -4, -5, 127, -5, -4, -2),
    (-2, -3, -5, -5, -5, -3, -2),
    (-1, -2, -3, -4, -3, -2, -1),
    (-2, -1, -2, -2, -2, -1, -1),
)
# What the kernel leaves of a single bright pixel: 1 - G(0), G being 7 x 7 and of sum 1.
_HIGH_PASS_PEAK = 0.953


class Conv(nn.Module):
    """A convolution with TensorFlow's ``SAME`` padding and a fixed gain per output channel.

    ``gain`` holds what a batch normalisation with frozen statistics multiplies by; it is applied
    to the weights and not to the activations, which costs nothing and makes training and
    inference the same function whatever the batch.

    With ``int8_weights`` the weights are used as int8 will store them (Jacob et al., CVPR 2018,
    here per output channel). Without, rounding the first depthwise layer's weights alone moved
    the logit by 8 % of its spread.

    Args:
        inputs: Channels.
        outputs: Channels.
        kernel: Side of the kernel in pixels.
        stride: Pixels.
        depthwise: Whether each channel is filtered by itself.
        relu: Whether relu6 follows.
        pad_value: What surrounds the input.
    """

    gain: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        depthwise: bool = False,
        relu: bool = True,
        pad_value: float = 0.0,
    ) -> None:
        super().__init__()
        self.groups = inputs if depthwise else 1
        fan_in = inputs // self.groups * kernel * kernel
        self.weight = nn.Parameter(
            torch.randn(outputs, inputs // self.groups, kernel, kernel)
            * math.sqrt((2.0 if relu else 1.0) / fan_in)
        )
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("gain", torch.ones(outputs))
        self.stride, self.relu, self.pad_value = stride, relu, pad_value
        self.int8_weights = self.folded = False
        # Every side is a multiple of the stride: TensorFlow then pads kernel - stride in all,
        # the odd pixel at the end.
        total = max(kernel - stride, 0)
        self.before, self.after = total // 2, total - total // 2

    def effective_weight(self) -> Tensor:
        """The weights as they are used: gain applied, on the int8 grid where asked for.

        Where ``folded`` is set they are that already, and an exported graph must not carry
        multiplications by one.
        """
        if self.folded:
            return self.weight
        weight = self.weight * self.gain.reshape(-1, 1, 1, 1)
        return on_int8_grid(weight) if self.int8_weights else weight

    def forward(self, x: Tensor) -> Tensor:
        """Run the layer: (N, inputs, H, W) → (N, outputs, H / stride, W / stride)."""
        symmetric = self.before == self.after and self.pad_value == 0.0
        if not symmetric:
            sides = (self.before, self.after, self.before, self.after)
            x = F.pad(x, sides, value=self.pad_value)
        padding = self.before if symmetric else 0
        x = F.conv2d(
            x, self.effective_weight(), self.bias, self.stride, padding, groups=self.groups
        )
        return F.relu6(x) if self.relu else x


class Sum(nn.Module):
    """x + y. A module of its own, as its result is quantized like that of a convolution."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Add two tensors of one shape."""
        return x + y


class HighPass(nn.Module):
    """What a slight blur takes away from a picture, as a picture around mid-grey.

    Colour, light and most of the subject are gone; edges, texture and noise stay, which is where
    defocus shows. A frozen encoder that sees this carries over to unseen sources better than one
    that sees the picture itself (see docs/results.md). Residuals of this kind are usual in image
    forensics (Fridrich & Kodovsky, "Rich Models for Steganalysis", 2012).

    The kernel is 1 minus a Gaussian of sigma 2 px, cut off after 3 px, in whole 127ths of its
    centre, so that rounding to int8 changes nothing and flat areas give exactly mid-grey. Values
    are clipped to [0, 255] by a relu6, as the picture's own are.

    Args:
        gain: How much the difference from the blurred picture is amplified.
    """

    step = _STEP
    """Grey levels a unit that :attr:`conv` gives."""

    def __init__(self, gain: float = 3.0) -> None:
        super().__init__()
        kernel = torch.tensor(_HIGH_PASS, dtype=torch.float32)
        self.conv = Conv(3, 3, kernel.shape[0], depthwise=True)
        with torch.no_grad():
            self.conv.weight.copy_(kernel * (gain * _HIGH_PASS_PEAK / 127 / _STEP))
            self.conv.bias.fill_(MEAN / _STEP)
        self.requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        """Filter: (N, 3, H, W) in [0, 255] → the same."""
        filtered: Tensor = self.conv(image)
        return filtered * self.step


def on_int8_grid(weight: Tensor) -> Tensor:
    """Rounded to multiples of a 127th of each output channel's largest weight.

    Gradients pass as if nothing was rounded (straight-through estimator).
    """
    largest = weight.detach().abs().amax(dim=(1, 2, 3), keepdim=True)
    scale = largest.clamp_min(1e-12) / 127
    return weight + (torch.round(weight.detach() / scale) * scale - weight.detach())
