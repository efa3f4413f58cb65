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
        x = self.four(self.scaled(image))
        dense = F.relu6(self.map(x))
        return self.fake(F.adaptive_avg_pool2d(self.eight(x), 1).flatten(1)), dense

    def scaled(self, image: Tensor) -> Tensor:
        return (image - 127.0) / 128.0


class Plain(Student):
    """With a normalisation that ONNX Runtime computes in integers."""

    def scaled(self, image: Tensor) -> Tensor:
        return image * (1 / 128) + -127 / 128


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


# The second set, written after the first had been run.


class Dense(nn.Module):
    """DenseNet's stage: each layer sees all before it, and the last takes six tensors."""

    def __init__(self, width: int, layers: int = 5) -> None:
        super().__init__()
        self.layers = nn.ModuleList(block(width + 8 * i, 8) for i in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        seen = [x]
        for layer in self.layers:
            seen.append(F.relu(layer(torch.cat(seen, 1) if len(seen) > 1 else x)))
        return torch.cat(seen, 1)


def densenet() -> nn.Module:
    four = nn.Sequential(block(3, 16, stride=4), nn.ReLU(), Dense(16))
    return Plain(four, nn.Sequential(block(56, 24, 1, 2), nn.ReLU()), (56, 24))


class Spatial(nn.Module):
    """CBAM's attention over positions, from mean and maximum over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return x * torch.sigmoid(self.mix(y))


def cbam() -> nn.Module:
    four = nn.Sequential(block(3, 16, stride=4), nn.ReLU(), Gate(16, torch.sigmoid), Spatial())
    return Plain(four, nn.Sequential(block(16, 24, stride=2), Spatial()), (16, 24))


class Ghost(nn.Module):
    """GhostNet: half of the channels from a cheap depthwise convolution."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        half = after // 2
        self.main, self.cheap = block(before, half, 1), block(half, half, groups=half)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.main(x))
        return torch.cat([y, F.relu(self.cheap(y))], 1)


def ghostnet() -> nn.Module:
    four = nn.Sequential(block(3, 16, stride=4), nn.ReLU(), Ghost(16, 32), Ghost(32, 32))
    return Plain(four, nn.Sequential(block(32, 32, stride=2), nn.ReLU6(), Ghost(32, 48)), (32, 48))


class Pyramid(nn.Module):
    """A feature pyramid: nearest and bilinear upsampling, additions, mish."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (
            block(3, 16, stride=4),
            block(16, 16, stride=2),
            block(16, 16, 3, 2),
        )

    def forward(self, image: Tensor) -> Tensor:
        a = F.relu(self.a(image))
        b = F.mish(self.b(a))
        c = F.relu(self.c(b))
        b = b + F.interpolate(c, scale_factor=2, mode="nearest")
        return a + F.interpolate(b, size=a.shape[2:], mode="bilinear", align_corners=False)


def pyramid() -> nn.Module:
    return Plain(Pyramid(), nn.Sequential(block(16, 24, stride=2), nn.ReLU()), (16, 24))


class Scales(nn.Module):
    """Res2Net: four groups of channels, each helped by the one before."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.parts = nn.ModuleList(block(width // 4, width // 4) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        first, *others = x.chunk(4, 1)
        made, carry = [first], torch.zeros_like(first[:, :1])
        for part, given in zip(self.parts, others, strict=True):
            carry = F.relu(part(given + carry))
            made.append(carry)
        return torch.cat(made, 1) + x


def res2net() -> nn.Module:
    four = nn.Sequential(block(3, 32, stride=4), nn.ReLU(), Scales(32))
    return Plain(four, nn.Sequential(block(32, 32, stride=2, groups=4), nn.ReLU()), (32, 32))


class Pooled(nn.Module):
    """PoolFormer: average pooling minus identity in the place of attention, group norm, GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.GroupNorm(1, width), nn.GroupNorm(1, width)
        self.mlp = nn.Sequential(
            nn.Conv2d(width, 2 * width, 1), nn.GELU(), block(2 * width, width, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        x = x + (F.avg_pool2d(y, 3, 1, 1, count_include_pad=False) - y)
        return x + self.mlp(self.second(x))


def poolformer() -> nn.Module:
    four = nn.Sequential(block(3, 24, 7, 4), Pooled(24))
    return Plain(four, nn.Sequential(block(24, 32, stride=2), nn.ReLU()), (24, 32))


class Inception(nn.Module):
    """Branches with asymmetric convolutions and max pooling."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.one = block(width, 8, 1)
        self.two = nn.Sequential(
            nn.Conv2d(width, 8, (1, 5), padding=(0, 2)), nn.Conv2d(8, 8, (5, 1), padding=(2, 0))
        )
        self.three = block(width, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.three(F.max_pool2d(x, 3, 1, 1))
        return F.relu(torch.cat([self.one(x), self.two(x), pooled], 1))


def inception() -> nn.Module:
    four = nn.Sequential(block(3, 16, stride=4), nn.ReLU(), Inception(16))
    eight = nn.Sequential(
        nn.AvgPool2d(2), block(24, 24), nn.Tanh(), nn.Conv2d(24, 24, 1), nn.Softsign()
    )
    return Plain(four, eight, (24, 24))


# The third set, written after two rules had been corrected by the second.


class Maxout(nn.Module):
    """The larger of two convolutions, and a gate from the maximum over the picture."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.one, self.two, self.gate = (
            block(width, width),
            block(width, width),
            nn.Conv2d(width, width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = torch.maximum(self.one(x), self.two(x))
        return y * torch.sigmoid(self.gate(F.relu(y).amax((2, 3), keepdim=True)))


def maxout() -> nn.Module:
    four = nn.Sequential(block(3, 16, stride=4), nn.ReLU(), Maxout(16))
    return Plain(four, nn.Sequential(block(16, 24, stride=2), nn.ReLU(), Maxout(24)), (16, 24))


class Windows(nn.Module):
    """Swin's part: attention inside windows of 4 x 4, cut out by reshapes of six dimensions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mixes, self.back = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.bias = nn.Parameter(torch.randn(1, 16, 16) * 0.1)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        tokens = x.view(n, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, c)
        q, k, v = self.mixes(tokens).chunk(3, -1)
        found = torch.softmax(q @ k.transpose(1, 2) * c**-0.5 + self.bias, -1) @ v
        found = self.back(found).view(n, h // 4, w // 4, 4, 4, c).permute(0, 5, 1, 3, 2, 4)
        return x + found.reshape(n, c, h, w)


def swin() -> nn.Module:
    four = nn.Sequential(block(3, 24, stride=4), nn.ReLU(), Windows(24))
    return Plain(four, nn.Sequential(block(24, 32, stride=2), nn.ReLU()), (24, 32))


def convmixer() -> nn.Module:
    """Patches, large depthwise kernels, GELU before batch normalisation; softplus at the end."""

    def mix(width: int) -> nn.Module:
        spatial = nn.Sequential(
            nn.Conv2d(width, width, 9, padding=4, groups=width), nn.GELU(), nn.BatchNorm2d(width)
        )
        return nn.Sequential(Residual(spatial), nn.Conv2d(width, width, 1), nn.GELU())

    four = nn.Sequential(nn.Conv2d(3, 24, 4, 4), nn.GELU(), nn.BatchNorm2d(24), mix(24))
    return Plain(four, nn.Sequential(block(24, 32, stride=2), nn.Softplus()), (24, 32))


class Context(nn.Module):
    """ASPP: dilated branches and the mean of the picture, spread out again; hard-tanh."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(block(width, 8, dilation=d) for d in (1, 2, 3))
        self.whole, self.join = nn.Conv2d(width, 8, 1), block(32, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        whole = F.relu(self.whole(F.adaptive_avg_pool2d(x, 1)))
        whole = F.interpolate(whole, size=x.shape[2:], mode="nearest")
        joined = torch.cat([*(F.relu(b(x)) for b in self.branches), whole], 1)
        return F.hardtanh(self.join(joined))


def aspp() -> nn.Module:
    four = nn.Sequential(block(3, 16, stride=4), nn.ReLU6(), Context(16))
    return Plain(four, nn.Sequential(block(16, 24, stride=2), nn.LogSigmoid()), (16, 24))


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
    "DenseNet (six tensors joined)": densenet,
    "CBAM (mean and maximum over channels)": cbam,
    "GhostNet (cheap depthwise halves)": ghostnet,
    "feature pyramid (nearest, bilinear, mish)": pyramid,
    "Res2Net (groups in turn)": res2net,
    "PoolFormer (pooling, group norm)": poolformer,
    "Inception (asymmetric, softsign)": inception,
    "maxout (maximum of two, of the picture)": maxout,
    "Swin (windows, bias)": swin,
    "ConvMixer (GELU, softplus)": convmixer,
    "ASPP (dilated, spread mean, hard-tanh)": aspp,
}
