from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage import data

from edgedf.errors import ConfigError, DataError
from experiments.fakes.pairs import MakeFake, aligned_pair
from experiments.fakes.upsampling import resample_as_generator

PHOTOGRAPH = np.ascontiguousarray(data.coffee())


def unchanged(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    return image


def inverted(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    rng.random(1000)
    image[:] = 255 - image
    return image


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(32, 300), st.integers(32, 300), st.integers(16, 96))
def test_a_fake_that_changes_nothing_is_its_partner(
    seed: int, height: int, width: int, size: int
) -> None:
    photograph = PHOTOGRAPH[:height, :width]
    real, fake = aligned_pair(photograph, np.random.default_rng(seed), unchanged, size=size)
    assert real.shape == fake.shape == (size, size, 3)
    assert real.dtype == fake.dtype == np.uint8
    np.testing.assert_array_equal(real, fake)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32))
def test_the_real_partner_does_not_depend_on_the_fake(seed: int) -> None:
    before = PHOTOGRAPH.copy()
    makers: tuple[MakeFake, ...] = (unchanged, inverted, resample_as_generator)
    rngs = [np.random.default_rng(seed) for _ in makers]
    pairs = [
        aligned_pair(PHOTOGRAPH, rng, make, size=96) for rng, make in zip(rngs, makers, strict=True)
    ]
    assert len({rng.random() for rng in rngs}) == 1  # nor does whatever is drawn next
    for real, _ in pairs[1:]:
        np.testing.assert_array_equal(real, pairs[0][0])
    np.testing.assert_array_equal(PHOTOGRAPH, before)
    # Same crop, same scaling: the negative of the fake is the real one but for compression.
    difference = np.abs(255 - pairs[1][1].astype(int) - pairs[0][0])
    assert difference.mean() < 6


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32))
def test_a_pair_differs_by_little_and_repeats(seed: int) -> None:
    first, again = (
        aligned_pair(PHOTOGRAPH, np.random.default_rng(seed), resample_as_generator, size=128)
        for _ in range(2)
    )
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    difference = np.abs(first[0].astype(int) - first[1])
    assert 0 < difference.mean() < 10


def test_the_fake_is_made_at_several_scales_and_never_far_above_the_last() -> None:
    sides = []

    def note(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        sides.append(image.shape[0])
        return image

    for seed in range(40):
        aligned_pair(PHOTOGRAPH, np.random.default_rng(seed), note, size=100, largest_scale=1.5)
        aligned_pair(PHOTOGRAPH[:90, :90], np.random.default_rng(seed), note, size=100)
    assert min(sides[::2]) < 110
    assert 140 < max(sides[::2]) <= 150
    assert 0.7 * 90 <= min(sides[1::2]) < max(sides[1::2]) <= 90  # small ones are not enlarged


def test_both_are_compressed() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    real, _ = aligned_pair(noise, np.random.default_rng(0), unchanged, size=64, smallest=1.0)
    assert not np.array_equal(real, noise)


@pytest.mark.parametrize(
    "make", [lambda image, rng: image[:-1], lambda image, rng: image.astype(np.float32)]
)
def test_a_fake_of_another_shape_or_type_is_refused(make: MakeFake) -> None:
    with pytest.raises(DataError, match="The fake is"):
        aligned_pair(PHOTOGRAPH, np.random.default_rng(0), make, size=64)


@pytest.mark.parametrize("wrong", [{"size": 0}, {"smallest": 0.0}, {"largest_scale": 0.5}])
def test_values_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        aligned_pair(PHOTOGRAPH, np.random.default_rng(0), unchanged, **wrong)  # type: ignore[arg-type]
