import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgedf.distill.networks.layers import MEAN, Conv, HighPass
from tests.distill.pictures import crop


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
