from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage import data

from edgedf.distill.fakes.portrait import find_subject, portrait
from edgedf.errors import DataError

PHOTOGRAPH = np.ascontiguousarray(data.astronaut()[::2, ::2])


def texture(side: int = 192, seed: int = 0) -> NDArray[np.uint8]:
    """Even, fine structure without noise of its own: blur shows in it the same everywhere."""
    rng = np.random.default_rng(seed)
    coarse = cv2.GaussianBlur(rng.normal(0, 1, (side, side, 3)), (0, 0), 1.5)
    return np.clip(128 + 30 * coarse / coarse.std(), 0, 255).astype(np.uint8)


def disk_subject(side: int = 192) -> NDArray[np.float32]:
    subject = np.zeros((side, side), np.float32)
    cv2.circle(subject, (side // 2, side // 2), side // 4, 1.0, -1)
    return subject


def spread(image: NDArray[np.uint8]) -> float:
    return float(image.astype(float).std(axis=(0, 1)).mean())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(32, 150), st.integers(32, 150))
def test_any_photograph_becomes_a_portrait(seed: int, height: int, width: int) -> None:
    image = PHOTOGRAPH[:height, :width]
    made, mask = portrait(image, np.random.default_rng(seed))
    assert made.shape == image.shape
    assert made.dtype == np.uint8
    assert mask.shape == image.shape[:2]
    assert mask.dtype == np.float32
    assert 0 <= mask.min() <= mask.max() <= 1
    np.testing.assert_array_equal(made[mask == 1], image[mask == 1])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32))
def test_the_background_is_blurred_and_the_subject_is_not(seed: int) -> None:
    image = texture()
    made, mask = portrait(image, np.random.default_rng(seed), subject=disk_subject())
    change = np.abs(made.astype(float) - image).mean(axis=2)
    assert (mask == 1).mean() > 0.1
    assert not change[mask == 1].any()
    top = mask[:60] == 0
    assert change[:60][top].mean() > 2
    assert made[:60][top].std() < 0.95 * image[:60][top].std()


def test_the_farther_the_more_blurred() -> None:
    # Upwards in the picture the ground recedes; nothing is a subject here.
    none = np.zeros((192, 192), np.float32)
    made = [portrait(texture(), np.random.default_rng(s), subject=none)[0] for s in range(6)]
    top, bottom = (np.mean([spread(m[part]) for m in made]) for part in (np.s_[:48], np.s_[-48:]))
    assert top < 0.8 * bottom


def test_a_picture_that_is_all_subject_stays_as_it_is() -> None:
    all_of_it = np.ones(PHOTOGRAPH.shape[:2], np.float32)
    made, mask = portrait(PHOTOGRAPH, np.random.default_rng(0), subject=all_of_it)
    assert mask.min() == 1
    np.testing.assert_array_equal(made, PHOTOGRAPH)


def test_the_mask_errs_at_the_border_and_there_alone() -> None:
    subject = disk_subject(256)
    rows, columns = np.mgrid[0:256, 0:256] - 127.5
    from_border = np.abs(np.hypot(rows, columns) - 64)
    masks = [portrait(texture(256), np.random.default_rng(s), subject=subject)[1] for s in range(8)]
    for mask in masks:
        wrong = np.abs(mask - subject) > 0.5
        assert wrong.any()
        assert from_border[wrong].max() < 16
    # Some reach out and some fall short.
    areas = [mask.sum() / subject.sum() for mask in masks]
    assert min(areas) < 0.98
    assert max(areas) > 1.03


def test_noise_is_put_back_where_blur_took_it() -> None:
    rng = np.random.default_rng(0)
    image = np.clip(np.rint(rng.normal(128, 3, (160, 160, 3))), 0, 255).astype(np.uint8)
    for seed in range(4):
        none = np.zeros((160, 160), np.float32)
        made, _ = portrait(image, np.random.default_rng(seed), subject=none)
        # What blur alone leaves is below 1.
        assert 0.5 * 3 / np.sqrt(3) < spread(made[:60]) < 3.3


def test_light_is_neither_lost_nor_made() -> None:
    def light(image: NDArray[np.uint8]) -> NDArray[np.float64]:
        code = image / 255
        linear = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
        return np.asarray(linear.mean(axis=(0, 1)))

    for seed in range(5):
        made, _ = portrait(PHOTOGRAPH, np.random.default_rng(seed))
        np.testing.assert_allclose(light(made), light(PHOTOGRAPH), rtol=0.04)


# --- the subject ---------------------------------------------------------------------------------


def test_an_object_in_the_middle_is_found() -> None:
    image = texture() // 3
    truth = disk_subject() == 1
    image[truth] = image[truth] // 2 + np.array([120, 90, 20], np.uint8)
    for seed in range(5):
        found = find_subject(image, np.random.default_rng(seed)) > 0.5
        assert (found & truth).sum() / (found | truth).sum() > 0.9


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.integers(32, 120), st.integers(32, 120), st.integers(0, 255))
def test_there_is_always_some_subject(seed: int, height: int, width: int, grey: int) -> None:
    flat = np.full((height, width, 3), grey, np.uint8)
    for image in (flat, PHOTOGRAPH[:height, :width]):
        found = find_subject(image, np.random.default_rng(seed))
        assert found.shape == (height, width)
        assert 0 <= found.min() <= found.max() <= 1
        assert 0.02 < found.mean() < 0.9


def test_the_same_seed_gives_the_same_portrait_whatever_opencv_drew_before() -> None:
    first = portrait(PHOTOGRAPH, np.random.default_rng(7))
    cv2.setRNGSeed(99)
    again, other = (portrait(PHOTOGRAPH, np.random.default_rng(seed)) for seed in (7, 8))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[1], other[1])


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(64, 64), (64, 64, 4), (31, 64, 3)])
def test_other_arrays_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="Cannot make a portrait"):
        portrait(np.zeros(shape, np.uint8), np.random.default_rng(0))


@pytest.mark.parametrize(
    "subject", [np.ones((8, 8), np.float32), np.full((256, 256), 2, np.float32)]
)
def test_a_subject_that_does_not_fit_is_refused(subject: NDArray[np.float32]) -> None:
    with pytest.raises(DataError, match="does not fit"):
        portrait(PHOTOGRAPH, np.random.default_rng(0), subject=subject)
