from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage import data

from edgedf.errors import DataError
from experiments.fakes.splice import splice

IMAGE = np.ascontiguousarray(data.astronaut()[::2, ::2])
DONOR = np.ascontiguousarray(data.coffee())

sides = st.integers(24, 120)


def disk_mask(side: int = 256, radius: int = 60) -> NDArray[np.float32]:
    mask = np.zeros((side, side), np.float32)
    cv2.circle(mask, (side // 2, side // 2), radius, 1.0, -1)
    return mask


def detail(image: NDArray[np.uint8], where: NDArray[np.bool_]) -> float:
    """Energy of the Laplacian, well inside a region."""
    inner = cv2.erode(where.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)
    laplacian = cv2.Laplacian(image.astype(np.float32).mean(axis=2), cv2.CV_32F)
    return float(np.square(laplacian[inner]).mean())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), sides, sides, sides, sides)
def test_any_donor_fits_any_image(
    seed: int, height: int, width: int, donor_height: int, donor_width: int
) -> None:
    image, donor = IMAGE[:height, :width], DONOR[:donor_height, :donor_width]
    first, again = (splice(image, donor, np.random.default_rng(seed)) for _ in range(2))
    spliced, mask = first
    assert spliced.shape == image.shape
    assert spliced.dtype == np.uint8
    assert mask.shape == image.shape[:2]
    assert mask.dtype == np.float32
    assert 0 <= mask.min() <= mask.max() <= 1
    np.testing.assert_array_equal(spliced, again[0])
    np.testing.assert_array_equal(mask, again[1])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
def test_outside_the_mask_nothing_changes_and_inside_the_donor_shows(seed: int) -> None:
    spliced, mask = splice(IMAGE, DONOR, np.random.default_rng(seed))
    assert 0.02 < mask.mean() < 0.45
    np.testing.assert_array_equal(spliced[mask == 0], IMAGE[mask == 0])
    assert np.abs(spliced.astype(int) - IMAGE)[mask > 0.9].mean() > 5


def test_the_region_takes_the_colours_of_what_it_covers() -> None:
    mask = disk_mask()
    image = IMAGE // 4 + np.array([10, 60, 120], np.uint8)
    for seed in range(6):
        spliced, _ = splice(image, DONOR, np.random.default_rng(seed), mask=mask)
        inside = spliced[mask == 1].mean(axis=0), image[mask == 1].mean(axis=0)
        np.testing.assert_allclose(*inside, atol=6)  # black clips
        assert np.abs(DONOR.mean(axis=(0, 1)) - inside[1]).max() > 20  # not by chance


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
def test_a_picture_spliced_into_itself_differs_in_focus(seed: int) -> None:
    # Mirrored about the middle, the disk is the same region.
    image, mask = np.ascontiguousarray(IMAGE + IMAGE[:, ::-1] // 8), disk_mask()
    image = image // 2 + image[:, ::-1] // 2
    spliced, _ = splice(image, image, np.random.default_rng(seed), mask=mask)
    ratio = detail(spliced, mask == 1) / detail(image, mask == 1)
    assert ratio < 0.6 or ratio > 1.5


def test_what_is_softer_becomes_softer_and_what_is_sharper_sharper() -> None:
    mask, soft = disk_mask(), cv2.GaussianBlur(IMAGE, (0, 0), 2.0)
    inside, outside = mask == 1, mask == 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        into_sharp, _ = splice(IMAGE, cv2.GaussianBlur(DONOR, (0, 0), 1.5), rng, mask=mask)
        into_soft, _ = splice(soft, DONOR, rng, mask=mask)
        assert detail(into_sharp, inside) < 0.1 * detail(into_sharp, outside)
        assert detail(into_soft, inside) > 5 * detail(into_soft, outside)


def test_the_border_mixes_both() -> None:
    mask = cv2.GaussianBlur(disk_mask(), (0, 0), 6).clip(0, 1)
    image = np.full((256, 256, 3), 40, np.uint8)
    donor = np.full((256, 256, 3), 40, np.uint8)
    donor[::2] = 60  # what is flat takes over the mean, not the stripes' spread
    spliced, _ = splice(image, donor, np.random.default_rng(0), mask=mask)
    assert np.abs(spliced.astype(int) - 40)[mask < 0.02].max() <= 1


@pytest.mark.parametrize(
    "mask",
    [
        np.ones((4, 4), np.float32),
        np.zeros((256, 256), np.float32),
        np.full((256, 256), 1.5, np.float32),
        np.full((256, 256), np.nan, np.float32),
    ],
)
def test_masks_that_do_not_fit_are_refused(mask: NDArray[np.float32]) -> None:
    with pytest.raises(DataError, match="does not fit"):
        splice(IMAGE, DONOR, np.random.default_rng(0), mask=mask)


@pytest.mark.parametrize("shape", [(64, 64), (64, 64, 4), (15, 64, 3)])
def test_other_arrays_are_refused(shape: tuple[int, ...]) -> None:
    for pair in ((np.zeros(shape, np.uint8), DONOR), (IMAGE, np.zeros(shape, np.uint8))):
        with pytest.raises(DataError, match="Cannot splice"):
            splice(*pair, np.random.default_rng(0))
