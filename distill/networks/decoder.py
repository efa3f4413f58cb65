"""The heads for the defocus map: an encoder's features → a map at stride 4."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from edgedf.distill.networks.layers import MEAN, STD, Conv, Sum

__all__ = ["Decoder", "Double", "LocalPath", "MapHead", "blur_layer"]

_STEM_CHANNELS = 16


class Double(nn.Module):
    """Twice the height and width, bilinear."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) → (N, C, 2 H, 2 W)."""
        return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


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
        self.sums = nn.ModuleList(Sum() for _ in range(blocks))

    def forward(self, x: Tensor) -> Tensor:
        """Normalised RGB, (N, 3, H, W) → (N, channels, H / 4, W / 4)."""
        x = self.widen(self.shrink(self.stem(x)))
        for block, add in zip(self.blocks, self.sums, strict=True):
            x = add(x, block(x))
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
        self.double16, self.double8 = Double(), Double()
        self.sum8, self.sum4, self.sum_local = Sum(), Sum(), Sum()

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
        x = self.mix8(self.sum8(self.double16(self.reduce16(sixteen)), self.reduce8(eight)))
        x = self.sum4(self.double8(x), self.reduce4(four))
        mixed: Tensor = self.mix4(x if local is None else self.sum_local(x, local))
        return mixed


class MapHead(nn.Module):
    """The teacher's map: an encoder's features, the picture, and a map that is there already.

    The physical map follows from optics and errs in known ways (it underestimates large blurs, and
    takes fine texture for sharp edges); the picture says where.

    Args:
        inputs: Channels of the encoder at strides 4, 8 and 16.
        channels: Width.
        blocks: Of the path from the picture.
        takes_map: Whether it looks at the map beside the picture.
    """

    def __init__(
        self, inputs: Sequence[int], channels: int, blocks: int, *, takes_map: bool
    ) -> None:
        super().__init__()
        self.decoder = Decoder(inputs, channels)
        self.local = LocalPath(channels, blocks)
        self.beside = Conv(1, channels, 3) if takes_map else None
        self.blur = blur_layer(channels)

    def forward(self, ends: Sequence[Tensor], seen: Tensor, defocus: Tensor) -> Tensor:
        """Run it.

        Args:
            ends: Features at the end of each stage of the encoder.
            seen: What the encoder saw, (N, 3, H, W).
            defocus: (N, 1, h, w): the map beside it, sigma in pixels.

        Returns:
            (N, 1, H / 4, W / 4), sigma in pixels, in [0, 6].
        """
        local = self.local(seen)
        if self.beside is not None:
            size = local.shape[2:]
            beside = F.interpolate(defocus, size, mode="bilinear", align_corners=False)
            local = local + self.beside(beside)
        blur: Tensor = self.blur(self.decoder(ends[1], ends[2], ends[4], local))
        return blur


def blur_layer(channels: int) -> Conv:
    """The last layer of a map: (N, channels, H, W) → (N, 1, H, W) in [0, 6]."""
    layer = Conv(channels, 1, 3)
    # relu6 passes no gradient outside (0, 6): start inside, at a usual blur.
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.constant_(layer.bias, 1.5)
    return layer


def _separable(channels: int) -> nn.Sequential:
    return nn.Sequential(Conv(channels, channels, 3, depthwise=True), Conv(channels, channels))
