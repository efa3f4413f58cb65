"""The numbers that int8 leaves, in float32 and with gradients."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

__all__ = ["LEVELS", "fake_quantize", "on_bias_grid", "quantization_of"]

LEVELS = 255
"""Steps between the lowest and the highest of the 256 values of a quantized activation."""

_SMALLEST = 1e-6


def quantization_of(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and zero point of 256 levels.

    Args:
        low: The lowest value, 0 or less.
        high: The highest value, 0 or more.

    Returns:
        ``scale`` = (high - low) / 255, and ``zero_point``, the whole number in [0, 255] that stands
        for 0.
    """
    scale = (high - low).clamp_min(_SMALLEST) / LEVELS
    return scale, torch.round(-low / scale).clamp(0, LEVELS)


def fake_quantize(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The values that 256 levels leave of a tensor.

    (clip(round(x / scale) + zero_point, 0, 255) - zero_point) * scale, halves rounded to even.

    Rounding passes gradients on as if it were not there (straight-through estimator); a value that
    is cut off passes none. The ends of the range are given the gradient of a learned step size
    (Esser et al., "Learned Step Size Quantization", ICLR 2020; for both ends: Bhalgat et al.,
    "LSQ+", 2020), divided by the root of the number of values times 255, as they advise.

    Args:
        x: Any shape, float32.
        low: A scalar, 0 or less.
        high: A scalar, 0 or more.

    Returns:
        The shape of ``x``.
    """
    return cast(Tensor, _FakeQuantize.apply(x, low, high))


class _FakeQuantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, low: Tensor, high: Tensor) -> Tensor:
        scale, zero_point = quantization_of(low, high)
        ctx.save_for_backward(x, scale, zero_point)
        levels = (x / scale).round_().add_(zero_point).clamp_(0, LEVELS)
        return levels.sub_(zero_point).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        x, scale, zero_point = ctx.saved_tensors
        (gradient,) = gradients
        exact = x / scale
        rounded = exact.round()
        below, above = rounded < -zero_point, rounded > LEVELS - zero_point
        inside = gradient.masked_fill(below | above, 0.0)
        if not (ctx.needs_input_grad[1] or ctx.needs_input_grad[2]):
            return inside, None, None
        # Inside, a wider range moves a value by its rounding error; outside, by the end itself.
        spread = (inside * (rounded - exact)).sum() / LEVELS
        share = (x.numel() * LEVELS) ** -0.5
        at_low, at_high = gradient[below].sum(), gradient[above].sum()
        return inside, (at_low - spread) * share, (at_high + spread) * share


def on_bias_grid(bias: Tensor, weight: Tensor, step: Tensor | float) -> Tensor:
    """A bias as whole multiples of the input's scale times the channel's; gradients pass."""
    with torch.no_grad():
        scale = weight.abs().amax(dim=(1, 2, 3)).clamp_min(1e-12) / 127 * step
        off = torch.round(bias / scale) * scale - bias
    return bias + off
