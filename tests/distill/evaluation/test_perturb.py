import subprocess
import sys
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from skimage import data

from edgedf.distill.evaluation.perturb import perturbations
from edgedf.errors import ImageTooLarge
from edgedf.imaging import RGBImage

CHANGES: dict[str, Callable[[RGBImage], RGBImage]] = {
    entry.name: entry.change for entry in perturbations()
}
GREY = np.full((40, 60, 3), 100, np.uint8)


def photograph() -> np.ndarray:
    return np.ascontiguousarray(data.chelsea()[:201, :301])


def error(name: str) -> float:
    """Root of the mean squared difference that a change of unchanged size makes."""
    before = photograph()
    return float(np.sqrt(np.square(CHANGES[name](before) - before.astype(float)).mean()))


def test_the_ten_changes_of_the_robustness_table() -> None:
    assert list(CHANGES) == [
        *("JPEG 90", "JPEG 70", "JPEG 50", "WebP 75", "half size", "double size"),
        *("blur", "noise", "darker", "brighter"),
    ]
    assert all(entry.definition for entry in perturbations())


@pytest.mark.parametrize("name", list(CHANGES))
def test_a_change_gives_a_picture_and_the_same_one_each_time(name: str) -> None:
    before = photograph()
    after = CHANGES[name](before)
    assert after.dtype == np.uint8 and after.shape[2] == 3
    assert np.array_equal(before, photograph())  # the original is left alone
    assert np.array_equal(after, CHANGES[name](before))
    assert not np.array_equal(after, before)
    # Red stays red: nothing swaps the channels on the way.
    mean = after.reshape(-1, 3).mean(axis=0)
    assert mean[0] > mean[1] > mean[2]


def test_lower_quality_costs_more() -> None:
    assert 0 < error("JPEG 90") < error("JPEG 70") < error("JPEG 50") < 15
    assert 0 < error("WebP 75") < 15


def test_jpeg_halves_the_resolution_of_colour() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = (200, 40, 40)
    stripes[:, 1::2] = (40, 40, 200)
    after = CHANGES["JPEG 90"](stripes).astype(float)
    assert abs(after[:, ::2, 0] - after[:, 1::2, 0]).mean() < 60  # were 160 apart


def test_sizes_are_halved_and_doubled() -> None:
    before = photograph()
    half, double = CHANGES["half size"](before), CHANGES["double size"](before)
    assert (half.shape, double.shape) == ((100, 150, 3), (402, 602, 3))
    assert np.array_equal(half[:10, :10], cv2.resize(before, (150, 100), interpolation=3)[:10, :10])
    assert np.array_equal(CHANGES["half size"](GREY), GREY[:20, :30])
    assert (CHANGES["half size"](np.zeros((1, 9, 3), np.uint8))).shape == (1, 4, 3)


def test_blur_is_a_gaussian_of_one_pixel() -> None:
    dot = np.zeros((21, 21, 3), np.uint8)
    dot[10, 10] = 255
    after = CHANGES["blur"](dot)
    assert after[10, 10, 0] == pytest.approx(255 / (2 * np.pi), abs=2)
    assert after[10, 11, 0] == pytest.approx(255 / (2 * np.pi) * np.exp(-0.5), abs=2)


def test_noise_has_the_spread_it_says_and_differs_between_pictures() -> None:
    noise = CHANGES["noise"](np.full((200, 200, 3), 128, np.uint8)).astype(float) - 128
    assert noise.std() == pytest.approx(5, rel=0.02)
    assert abs(noise.mean()) < 0.1
    assert abs(np.corrcoef(noise[:, :, 0].ravel(), noise[:, :, 1].ravel())[0, 1]) < 0.02
    other = CHANGES["noise"](np.full((200, 200, 3), 129, np.uint8)).astype(float) - 129
    assert abs(np.corrcoef(noise.ravel(), other.ravel())[0, 1]) < 0.02


def test_brightness_changes_by_a_fifth_and_is_cut_off() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(1, 256, 3)
    dark, bright = (CHANGES[name](ramp)[0, :, 0] for name in ("darker", "brighter"))
    assert dark.tolist() == [round(0.8 * level) for level in range(256)]
    assert bright.tolist() == [min(255, round(1.2 * level)) for level in range(256)]


def test_a_picture_that_a_change_cannot_take_is_named() -> None:
    wide = np.zeros((32, 16_384, 3), np.uint8)
    with pytest.raises(ImageTooLarge, match="16384 x 32 pixels cannot be written as WEBP"):
        CHANGES["WebP 75"](wide)
    # A view of one pixel: 36 million of them without the memory.
    large = np.broadcast_to(np.zeros(3, np.uint8), (6_000, 6_000, 3))
    with pytest.raises(ImageTooLarge, match="too large to be scaled by 2"):
        CHANGES["double size"](large)


def test_nothing_needs_torch() -> None:
    script = "import sys, edgedf.distill.evaluation.perturb; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "False"
