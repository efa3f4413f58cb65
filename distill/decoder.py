"""The dense head that teacher and student share: an encoder's features → a defocus map."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from edgedf.distill.backbones import Conv

__all__ = ["Decoder"]


class Decoder(nn.Module):
    """Features at strides 4, 8 and 16 → features at stride 4.

    Args:
        inputs: Channels at strides 4, 8 and 16.
        channels: Width.
    """

    def __init__(self, inputs: Sequence[int], channels: int) -> None:
        super().__init__()
        four, eight, sixteen = inputs
        self.reduce16 = Conv(sixteen, channels)
        self.reduce8 = Conv(eight, channels)
        self.reduce4 = Conv(four, channels)
        self.mix8 = _separable(channels)
        self.mix4 = _separable(channels)

    def forward(self, four: Tensor, eight: Tensor, sixteen: Tensor) -> Tensor:
        """Run it: (N, C, H, W), half and a quarter of the size → (N, channels, H, W)."""
        x = self.mix8(_double(self.reduce16(sixteen)) + self.reduce8(eight))
        mixed: Tensor = self.mix4(_double(x) + self.reduce4(four))
        return mixed


def _separable(channels: int) -> nn.Sequential:
    return nn.Sequential(Conv(channels, channels, 3, depthwise=True), Conv(channels, channels))


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
