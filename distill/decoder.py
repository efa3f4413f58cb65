"""The dense head that teacher and student share: an encoder's features → a defocus map."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from edgedf.distill.backbones import MEAN, STD, Conv

__all__ = ["Decoder", "LocalPath"]

_STEM_CHANNELS = 16


class LocalPath(nn.Module):
    """A few convolutions on the picture itself: how sharp edges are, close by.

    A frozen encoder was made to tell subjects apart, not blurs. These layers learn maps alone.

    Args:
        channels: Width.
        blocks: Separable convolutions with a shortcut.
    """

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        self.stem = Conv(3, _STEM_CHANNELS, 3, stride=2, pad_value=-MEAN / STD)
        self.shrink = Conv(_STEM_CHANNELS, _STEM_CHANNELS, 3, stride=2, depthwise=True)
        self.widen = Conv(_STEM_CHANNELS, channels)
        self.blocks = nn.ModuleList(_separable(channels) for _ in range(blocks))

    def forward(self, x: Tensor) -> Tensor:
        """Normalised RGB, (N, 3, H, W) → (N, channels, H / 4, W / 4)."""
        x = self.widen(self.shrink(self.stem(x)))
        for block in self.blocks:
            x = x + block(x)
        return x


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

    def forward(
        self, four: Tensor, eight: Tensor, sixteen: Tensor, local: Tensor | None = None
    ) -> Tensor:
        """Run it.

        Args:
            four: (N, C, H, W).
            eight: (N, C', H / 2, W / 2).
            sixteen: (N, C'', H / 4, W / 4).
            local: (N, channels, H, W), added at the finest stride.

        Returns:
            (N, channels, H, W).
        """
        x = self.mix8(_double(self.reduce16(sixteen)) + self.reduce8(eight))
        x = _double(x) + self.reduce4(four)
        mixed: Tensor = self.mix4(x if local is None else x + local)
        return mixed


def _separable(channels: int) -> nn.Sequential:
    return nn.Sequential(Conv(channels, channels, 3, depthwise=True), Conv(channels, channels))


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
