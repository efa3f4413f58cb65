import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgedf import golden
from edgedf.errors import ConfigError
from edgedf.resize import resize_exact


def resized_by_fractions(image: np.ndarray, size: int) -> np.ndarray:
    """The definition of resize_exact in exact rational arithmetic, pixel by pixel."""
    side = image.shape[0]
    axis: list[dict[int, Fraction]] = []
    for i in range(size):
        weights: dict[int, Fraction] = {}
        if side >= size:
            low, high = Fraction(i * side, size), Fraction((i + 1) * side, size)
            for s in range(side):
                overlap = min(high, Fraction(s + 1)) - max(low, Fraction(s))
                if overlap > 0:
                    weights[s] = overlap * size / side
        else:
            position = Fraction(2 * i + 1, 2) * Fraction(side, size) - Fraction(1, 2)
            first = math.floor(position)
            for s, weight in ((first, 1 - (position - first)), (first + 1, position - first)):
                s = min(max(s, 0), side - 1)
                weights[s] = weights.get(s, Fraction(0)) + weight
        axis.append(weights)
    out = np.zeros((size, size, image.shape[2]), np.uint8)
    for i, j, c in np.ndindex(out.shape):
        value = sum(
            wy * wx * int(image[y, x, c]) for y, wy in axis[i].items() for x, wx in axis[j].items()
        )
        out[i, j, c] = math.floor(value + Fraction(1, 2))
    return out


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 9).flatmap(lambda s: arrays(np.uint8, (s, s, 3))),
    st.integers(1, 9),
)
def test_resize_is_exact(image: np.ndarray, size: int) -> None:
    np.testing.assert_array_equal(resize_exact(image, size), resized_by_fractions(image, size))


@pytest.mark.parametrize("vector", golden.resize_vectors(), ids=lambda v: v.name)
def test_golden_vectors_hold(vector: golden.ResizeVector) -> None:
    np.testing.assert_array_equal(resize_exact(vector.image, vector.size), vector.expected)
    np.testing.assert_array_equal(resized_by_fractions(vector.image, vector.size), vector.expected)


@given(st.integers(0, 255), st.integers(1, 60), st.integers(1, 60))
def test_a_flat_image_stays_flat(value: int, side: int, size: int) -> None:
    flat = np.full((side, side, 3), value, np.uint8)
    assert (resize_exact(flat, size) == value).all()


@pytest.mark.parametrize(
    ("side", "size"),
    # Sums in 16 bits, in float32 up to the largest denominator that it is good for, and beyond.
    [(384, 256), (33, 3), (36, 3), (181, 4), (183, 4), (300, 256), (383, 256), (97, 128)],
)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sums_of_every_width_are_exact(side: int, size: int, channels: int) -> None:
    noise = np.random.default_rng(side).integers(0, 256, (side, side, channels), np.uint8)
    image = np.where(noise < 200, noise, np.uint8(255))
    index = np.arange(size)[:, None]
    if side >= size:
        source, unit = np.arange(side), side
        ends = np.minimum((index + 1) * side, (source + 1) * size)
        weights = np.maximum(ends - np.maximum(index * side, source * size), 0)
    else:
        unit = 2 * size
        position = (2 * index + 1) * side - size
        weights = np.zeros((size, side), np.int64)
        for tap, share in (
            (position // unit, unit - position % unit),
            (position // unit + 1, position % unit),
        ):
            np.add.at(weights, (index, np.clip(tap, 0, side - 1)), share)
    sums = np.einsum("iy,yxc->ixc", weights, image.astype(np.int64))
    sums = np.einsum("jx,ixc->ijc", weights, sums)
    wanted = (2 * sums + unit**2) // (2 * unit**2)
    np.testing.assert_array_equal(resize_exact(image, size), wanted)


def test_large_sides_stay_exact() -> None:
    """White stays white where sums are largest, and a large image equals its exact mean."""
    white = np.full((4001, 4001, 3), 255, np.uint8)
    assert (resize_exact(white, 256) == 255).all()
    noise = np.random.default_rng(1).integers(0, 256, (2048, 2048, 3), dtype=np.uint8)
    blocks = noise.reshape(256, 8, 256, 8, 3).astype(np.int64).sum(axis=(1, 3))
    np.testing.assert_array_equal(resize_exact(noise, 256), (2 * blocks + 64) // 128)


def test_resize_refuses_what_it_is_not_defined_for() -> None:
    with pytest.raises(ConfigError, match="square"):
        resize_exact(np.zeros((48, 64, 3), np.uint8), 8)
    with pytest.raises(ConfigError, match="Cannot resize to 0"):
        resize_exact(np.zeros((8, 8, 3), np.uint8), 0)
    with pytest.raises(ConfigError, match="got shape"):
        resize_exact(np.zeros((8, 8, 5), np.uint8), 4)
