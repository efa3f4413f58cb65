"""The student: RGB in, a fake logit and a defocus map out, in operators that stay int8.

The encoder is the first blocks of EfficientNet-Lite0 with their ImageNet weights. A light decoder
adds its strides up to a map at stride 4. The fake head is linear in statistics over the picture:
the mean of each wide channel of the last blocks, and the mean of what exceeds a threshold, which
grows with the channel's spread. Left out sources one at a time, such a head on a frozen encoder
does better than a tuned encoder (see docs/results.md).
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgedf.distill.networks.backbones import Block, EfficientNetLite
from edgedf.distill.networks.decoder import Decoder, LocalPath, blur_layer
from edgedf.distill.networks.layers import MEAN, STD, Conv, HighPass, on_int8_grid
from edgedf.distill.settings import StudentConfig

__all__ = ["Student", "StudentOutput"]


class StudentOutput(NamedTuple):
    """A student's outputs.

    Args:
        fake_logit: (N, 1), unbounded; its sigmoid is the fake score.
        defocus_map: (N, 1, H / 4, W / 4), blur as the standard deviation of a Gaussian in pixels
            of the input, in [0, 6].
    """

    fake_logit: Tensor
    defocus_map: Tensor


class Student(nn.Module):
    """The trainable student.

    Attributes:
        widths: Channels of each judged block.
        centre: Usual value of each statistic, which is taken away before the fake head.
        deviation: How much it usually varies, which it is divided by.

    Args:
        config: Architecture.

    Example:
        >>> student = Student(StudentConfig(input_size=64)).eval()
        >>> output = student(torch.zeros(1, 3, 64, 64))
        >>> output.defocus_map.shape
        torch.Size([1, 1, 16, 16])
    """

    centre: Tensor
    deviation: Tensor

    def __init__(self, config: StudentConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or StudentConfig()
        self.encoder = EfficientNetLite("lite0", config.blocks)
        _, four, eight, _, sixteen, *_ = self.encoder.channels
        self.decoder = Decoder((four, eight, sixteen), config.decoder_channels)
        self.local = (
            LocalPath(config.decoder_channels, config.local_blocks) if config.local_blocks else None
        )
        self.blur = blur_layer(config.decoder_channels)
        widths = [block.depthwise.groups for block in self._judged()]
        self.widths = widths
        self.spreads = nn.ModuleList(Conv(width, width, depthwise=True) for width in widths)
        self.register_buffer("centre", torch.zeros(2 * sum(widths)))
        self.register_buffer("deviation", torch.ones(2 * sum(widths)))
        self.fake = nn.Linear(2 * sum(widths), 1)
        self.high_pass = HighPass() if config.high_pass else None
        for module in self.modules():
            if isinstance(module, Conv):
                module.int8_weights = config.int8_weights

    def forward(self, image: Tensor) -> StudentOutput:
        """Run the network.

        Args:
            image: RGB, float, (N, 3, H, W) in [0, 255]; H and W multiples of 32.
        """
        ends, inner = self.features(self.seen(image))
        statistics = (self._pooled(inner) - self.centre) / self.deviation
        return StudentOutput(self.fake(statistics), self.defocus_map(ends, image))

    def statistics(self, image: Tensor) -> Tensor:
        """What the fake head judges by, before :attr:`centre` and :attr:`deviation` are applied.

        Args:
            image: As for :meth:`forward`.

        Returns:
            (N, features): the mean of each inner channel of the judged blocks over the picture,
            then the mean of what exceeds each channel's threshold.
        """
        return self._pooled(self.features(self.seen(image))[1])

    def channel_moments(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and mean square of the inner channels over pixels, for :meth:`set_thresholds`.

        Args:
            image: As for :meth:`forward`.

        Returns:
            Twice (N, channels).
        """
        inner = self.features(self.seen(image))[1]
        means = torch.cat([x.mean(dim=(2, 3)) for x in inner], dim=1)
        return means, torch.cat([x.square().mean(dim=(2, 3)) for x in inner], dim=1)

    def set_thresholds(self, mean: Tensor, deviation: Tensor) -> None:
        """Put the threshold of each inner channel at its usual mean.

        Args:
            mean: (channels,): over pictures and pixels.
            deviation: (channels,): standard deviation over pictures and pixels.
        """
        at = 0
        with torch.no_grad():
            for module, count in zip(self.spreads, self.widths, strict=True):
                spread = cast(Conv, module)
                # A channel that hardly moves would only amplify rounding.
                scale = 1 / deviation[at : at + count].clamp_min(0.05)
                spread.weight.copy_(scale.reshape(-1, 1, 1, 1))
                spread.bias.copy_(-mean[at : at + count] * scale)
                at += count

    def storable(self, weights: Tensor) -> Tensor:
        """Weights of the statistics as int8 will store them, where the student rounds its own.

        The exported fake head has a convolution for each judged block's means and one for its
        spreads, each with one scale.

        Args:
            weights: (features,), for statistics that nothing is divided by.
        """
        if not self.config.int8_weights:
            return weights
        parts = weights.split(self.widths * 2)
        rounded = [on_int8_grid(part.reshape(1, -1, 1, 1)).flatten() for part in parts]
        return torch.cat(rounded)

    def seen(self, image: Tensor) -> Tensor:
        """What the encoder looks at, normalised.

        Args:
            image: As for :meth:`forward`.
        """
        return self.normalised(image if self.high_pass is None else self.high_pass(image))

    def _judged(self) -> list[Block]:
        return list(self.encoder.blocks())[-self.config.judged_blocks :]

    def features(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The features at the end of each stage, and the inner ones of the judged blocks.

        Args:
            x: From :meth:`seen`.
        """
        ends, inner = self.encoder.all_features(x)
        return ends, inner[-self.config.judged_blocks :]

    def _pooled(self, inner: list[Tensor]) -> Tensor:
        means = [F.adaptive_avg_pool2d(x, 1) for x in inner]
        spreads = [
            F.adaptive_avg_pool2d(spread(x), 1)
            for spread, x in zip(self.spreads, inner, strict=True)
        ]
        return torch.cat([*means, *spreads], dim=1).flatten(1)

    def defocus_map(self, ends: list[Tensor], image: Tensor) -> Tensor:
        """The map, (N, 1, H / 4, W / 4).

        Args:
            ends: Features at the end of each stage.
            image: As for :meth:`forward`.
        """
        local = None if self.local is None else self.local(self.normalised(image))
        blur: Tensor = self.blur(self.decoder(ends[1], ends[2], ends[4], local))
        return blur

    def normalised(self, image: Tensor) -> Tensor:
        """A picture as ImageNet's weights want it."""
        return (image - MEAN) / STD
