# ruff: noqa: D102
"""Architectures that the rules of the lint were not written with, in plain torch, random weights.

All take (1, 3, 64, 64) in [0, 255] and give a logit (1, 1) and a map (1, 1, 16, 16).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIZE = 64


def block(before: int, after: int, kernel: int = 3, stride: int = 1, **more: int) -> nn.Sequential:
    """Convolution and batch normalisation."""
    dilation = more.get("dilation", 1)
    return nn.Sequential(
        nn.Conv2d(before, after, kernel, stride, dilation * (kernel - 1) // 2, bias=False, **more),
        nn.BatchNorm2d(after),
    )


class Student(nn.Module):
    """A body with features at stride 4 and 8, and the two heads."""

    def __init__(self, four: nn.Module, eight: nn.Module, widths: tuple[int, int]) -> None:
        super().__init__()
        self.four, self.eight = four, eight
        self.map = nn.Conv2d(widths[0], 1, 3, padding=1)
        self.fake = nn.Linear(widths[1], 1)
        nn.init.constant_(self.map.bias, 2.0)  # an output that is 0 everywhere has no range

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        x = self.four((image - 127.0) / 128.0)
        dense = F.relu6(self.map(x))
        return self.fake(F.adaptive_avg_pool2d(self.eight(x), 1).flatten(1)), dense


class Gate(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, width: int, curve: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.down, self.up, self.curve = nn.Conv2d(width, 8, 1), nn.Conv2d(8, width, 1), curve

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.down(F.adaptive_avg_pool2d(x, 1)))
        return x * self.curve(self.up(y))


class Residual(nn.Module):
    """x + body(x), and a curve behind it."""

    def __init__(self, body: nn.Module, after: nn.Module | None = None) -> None:
        super().__init__()
        self.body, self.after = body, after or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.after(x + self.body(x))


def vgg() -> nn.Module:
    """Plain convolutions, relu and max pooling."""
    four = nn.Sequential(
        block(3, 16), nn.ReLU(), nn.MaxPool2d(2), block(16, 24), nn.ReLU(), nn.MaxPool2d(2)
    )
    eight = nn.Sequential(block(24, 32), nn.ReLU(), nn.MaxPool2d(2), block(32, 32), nn.ReLU())
    return Student(four, eight, (24, 32))


def mobilenet_v3() -> nn.Module:
    """Inverted residuals with hard-swish and hard-sigmoid gates."""

    def inverted(width: int, curve: Callable[[], nn.Module]) -> nn.Module:
        return Residual(
            nn.Sequential(
                block(width, 3 * width, 1),
                curve(),
                block(3 * width, 3 * width, 5, groups=3 * width),
                curve(),
                Gate(3 * width, F.hardsigmoid),
                block(3 * width, width, 1),
            )
        )

    four = nn.Sequential(
        block(3, 16, stride=2), nn.Hardswish(), block(16, 24, stride=2), inverted(24, nn.ReLU)
    )
    eight = nn.Sequential(
        block(24, 32, stride=2), inverted(32, nn.Hardswish), block(32, 48, 1), nn.Hardswish()
    )
    return Student(four, eight, (24, 48))


def resnet_leaky() -> nn.Module:
    """Residual blocks with leaky relu."""

    def basic(width: int) -> nn.Module:
        body = nn.Sequential(block(width, width), nn.LeakyReLU(0.1), block(width, width))
        return Residual(body, nn.LeakyReLU(0.1))

    four = nn.Sequential(block(3, 16, 7, 2), nn.LeakyReLU(0.1), nn.MaxPool2d(3, 2, 1), basic(16))
    return Student(four, nn.Sequential(block(16, 32, stride=2), basic(32)), (16, 32))


def efficientnet() -> nn.Module:
    """SiLU and sigmoid gates."""

    def mbconv(width: int) -> nn.Module:
        return Residual(
            nn.Sequential(
                block(width, 4 * width, 1),
                nn.SiLU(),
                block(4 * width, 4 * width, groups=4 * width),
                nn.SiLU(),
                Gate(4 * width, torch.sigmoid),
                block(4 * width, width, 1),
            )
        )

    four = nn.Sequential(block(3, 16, stride=2), nn.SiLU(), block(16, 24, stride=2), mbconv(24))
    return Student(four, nn.Sequential(block(24, 40, stride=2), mbconv(40)), (24, 40))


class UNet(nn.Module):
    """Down by average pooling, up by pixel shuffle, skips by concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = block(3, 16, stride=4), block(16, 32)
        self.three, self.up = block(32, 32), nn.Conv2d(32, 64, 1)
        self.last = block(16 + 16, 16)

    def forward(self, image: Tensor) -> Tensor:
        one = F.relu(self.one(image))
        two = F.relu(self.two(F.avg_pool2d(one, 2)))
        up = F.pixel_shuffle(self.up(F.relu(self.three(two))), 2)
        return F.relu(self.last(torch.cat([one, up], 1)))


def unet() -> nn.Module:
    return Student(UNet(), nn.Sequential(block(16, 24, stride=2), nn.ReLU()), (16, 24))


class ChannelNorm(nn.Module):
    """Layer normalisation over channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def convnext() -> nn.Module:
    """Depthwise 7 x 7, layer normalisation, GELU."""

    def unit(width: int) -> nn.Module:
        return Residual(
            nn.Sequential(
                nn.Conv2d(width, width, 7, padding=3, groups=width),
                ChannelNorm(width),
                nn.Conv2d(width, 4 * width, 1),
                nn.GELU(),
                nn.Conv2d(4 * width, width, 1),
            )
        )

    four = nn.Sequential(nn.Conv2d(3, 24, 4, 4), ChannelNorm(24), unit(24))
    return Student(four, nn.Sequential(nn.Conv2d(24, 40, 2, 2), unit(40)), (24, 40))


class Shuffle(nn.Module):
    """ShuffleNet's unit: half of the channels pass, then the halves are interleaved."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.body = nn.Sequential(
            block(half, half, 1), nn.ReLU(), block(half, half, groups=half), block(half, half, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, 1)
        y = torch.cat([left, F.relu(self.body(right))], 1)
        n, c, h, w = y.shape
        return y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def shufflenet() -> nn.Module:
    four = nn.Sequential(block(3, 24, stride=4), nn.ReLU(), Shuffle(24), Shuffle(24))
    return Student(four, nn.Sequential(block(24, 48, stride=2), nn.ReLU(), Shuffle(48)), (24, 48))


def dilated() -> nn.Module:
    """Dilated depthwise convolutions, transposed convolution, instance normalisation."""
    four = nn.Sequential(
        block(3, 24, stride=8),
        nn.ReLU6(),
        block(24, 24, groups=24, dilation=2),
        nn.ReLU6(),
        block(24, 24, groups=24, dilation=4),
        nn.ELU(),
        nn.ConvTranspose2d(24, 16, 4, 2, 1),
        nn.ReLU(),
        nn.InstanceNorm2d(16, affine=True),
    )
    return Student(four, nn.Sequential(block(16, 24, stride=2), nn.PReLU(24)), (16, 24))


class Attention(nn.Module):
    """MobileViT's part: convolution, a transformer layer over positions, convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.layer = nn.MultiheadAttention(width, 2, batch_first=True)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        normed = self.norm(tokens)
        tokens = tokens + self.layer(normed, normed, normed, need_weights=False)[0]
        tokens = tokens + self.mlp(tokens)
        return x + tokens.transpose(1, 2).reshape(n, c, h, w)


def mobilevit() -> nn.Module:
    four = nn.Sequential(block(3, 24, stride=4), nn.SiLU())
    return Student(four, nn.Sequential(block(24, 32, stride=2), Attention(32)), (24, 32))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "VGG": vgg,
    "MobileNetV3 (hard-swish, squeeze-excite)": mobilenet_v3,
    "ResNet (leaky relu)": resnet_leaky,
    "EfficientNet (SiLU, squeeze-excite)": efficientnet,
    "U-Net (average pooling, pixel shuffle)": unet,
    "ConvNeXt (layer norm, GELU)": convnext,
    "ShuffleNet (channel shuffle)": shufflenet,
    "dilated (ELU, PReLU, transposed, instance norm)": dilated,
    "MobileViT (attention)": mobilevit,
}
