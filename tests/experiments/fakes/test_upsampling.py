from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage import data

from edgedf.errors import ConfigError, DataError
from experiments.fakes.upsampling import KINDS, Upsampling, resample_as_generator

PHOTOGRAPHS = tuple(
    np.ascontiguousarray(picture[:256, :256])
    for picture in (data.astronaut(), data.coffee(), data.chelsea())
)

kinds = st.sampled_from([None, *KINDS])


def made(
    image: NDArray[np.uint8], seed: int, kind: Upsampling | None, doublings: int | None = None
) -> NDArray[np.uint8]:
    return resample_as_generator(image, np.random.default_rng(seed), kind, doublings=doublings)


# --- any picture ---------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32),
    kinds,
    st.integers(16, 70),
    st.integers(16, 70),
    st.sampled_from([None, 1, 2, 3]),
)
def test_shape_and_seed(
    seed: int, kind: Upsampling | None, height: int, width: int, doublings: int | None
) -> None:
    image = PHOTOGRAPHS[0][:height, :width]
    before = image.copy()
    first, again = (made(image, seed, kind, doublings) for _ in range(2))
    assert first.shape == image.shape
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(image, before)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), kinds, st.sampled_from(range(3)))
def test_the_picture_stays_what_it_was(seed: int, kind: Upsampling | None, which: int) -> None:
    image = PHOTOGRAPHS[which]
    fake = made(image, seed, kind)
    difference = fake.astype(float) - image
    assert 0.5 < np.abs(difference).mean() < 10
    assert np.abs(difference.mean(axis=(0, 1))).max() < 8
    assert np.corrcoef(fake.ravel(), image.ravel())[0, 1] > 0.97


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), kinds, st.integers(0, 255))
def test_a_grey_wall_stays_grey_and_nearly_even(
    seed: int, kind: Upsampling | None, grey: int
) -> None:
    fake = made(np.full((37, 50, 3), grey, np.uint8), seed, kind).astype(int)
    assert abs(fake.mean() - grey) < 12
    # A checkerboard, if any, is one that hardly shows.
    assert np.ptp(fake, axis=(0, 1)).max() <= 0.15 * grey + 1
    if kind in ("nearest", "bilinear"):
        assert np.ptp(fake) == 0  # no tint either


# --- the spectrum --------------------------------------------------------------------------------


def coherence(image: NDArray[np.uint8], period: int = 2) -> float:
    """How well frequency f predicts frequency f + 1/period, along rows and columns: 0 to 1.

    Replicas are copies: their phase follows from that of the original. In a picture that was
    never doubled, the two frequencies know nothing of each other.
    """
    grey = image.mean(axis=2)
    found = []
    for plane in (grey, grey.T):
        count = plane.shape[1]
        spectrum = np.fft.fft((plane - plane.mean(axis=1, keepdims=True)) * np.hanning(count))
        shift = count // period
        low = spectrum[:, 4 : count // 2 - 4]
        high = spectrum[:, 4 + shift : count // 2 - 4 + shift]
        power = np.sum(np.abs(low) ** 2, axis=0) * np.sum(np.abs(high) ** 2, axis=0)
        found.append(np.abs(np.sum(low * high.conj(), axis=0)) / np.sqrt(power))
    return float(np.mean(found))


def peak(image: NDArray[np.uint8], period: int) -> float:
    """Spectrum at one cycle in ``period`` pixels, across and down, against what is around it."""
    grey = image.mean(axis=2)
    window = np.outer(np.hanning(grey.shape[0]), np.hanning(grey.shape[1]))
    spectrum = np.abs(np.fft.fft2((grey - grey.mean()) * window))
    across = np.roll(spectrum, 6, axis=0)[:13, grey.shape[1] // period + np.arange(-6, 7)]
    down = np.roll(spectrum, 6, axis=1)[grey.shape[0] // period + np.arange(-6, 7), :13]
    return float(np.mean([part[6, 6] / np.median(part) for part in (across, down)]))


@pytest.mark.parametrize(
    ("kind", "factor"), [("nearest", 5), ("bilinear", 1.3), ("transposed", 2), ("subpixel", 1.3)]
)
def test_the_upper_half_of_the_spectrum_repeats_the_lower(kind: Upsampling, factor: float) -> None:
    for image in PHOTOGRAPHS:
        found = np.mean([coherence(made(image, seed, kind)) for seed in range(8)])
        assert found > factor * coherence(image), kind


def test_the_replica_of_a_wave_is_as_strong_as_interpolation_lets_through() -> None:
    # Repeating pixels weights frequency f by cos(pi f): its replica at 1/2 - f by sin(pi f).
    size, cycles = 128, 12
    f = cycles / size
    wave = 128 + 90 * np.cos(2 * np.pi * f * np.arange(size))
    image = np.repeat(np.repeat(np.rint(wave)[None, :, None], size, 0), 3, 2).astype(np.uint8)

    def ratio(picture: NDArray[np.uint8]) -> float:
        row = np.abs(np.fft.rfft(picture.mean(axis=(0, 2))))
        return float(row[size // 2 - cycles] / row[cycles])

    assert ratio(image) < 0.01
    nearest = [ratio(made(image, seed, "nearest", 1)) for seed in range(10)]
    bilinear = [ratio(made(image, seed, "bilinear", 1)) for seed in range(10)]
    assert np.median(nearest) == pytest.approx(np.tan(np.pi * f), rel=0.25)
    # Linear interpolation, (1, 3, 3, 1), is that three times; its detail takes a part away again.
    assert 0.2 < np.median(bilinear) / np.tan(np.pi * f) ** 3 < 1


@pytest.mark.parametrize("kind", ["transposed", "subpixel"])
def test_uneven_phases_leave_a_checkerboard(kind: Upsampling) -> None:
    for image in PHOTOGRAPHS[:2]:
        assert peak(image, 2) < 3
        assert np.median([peak(made(image, seed, kind), 2) for seed in range(9)]) > 5


def test_doubling_twice_leaves_a_coarser_checkerboard_too() -> None:
    image = PHOTOGRAPHS[1]
    once, twice = (
        np.median([peak(made(image, seed, "transposed", doublings), 4) for seed in range(9)])
        for doublings in (1, 2)
    )
    assert once < 3
    assert twice > 2 * once


# --- bad input -----------------------------------------------------------------------------------


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="no upsampling 'bicubic'") as caught:
        made(PHOTOGRAPHS[0], 0, "bicubic")  # type: ignore[arg-type]
    assert "transposed" in caught.value.expected


@pytest.mark.parametrize("doublings", [0, 4])
def test_other_numbers_of_doublings_are_refused(doublings: int) -> None:
    with pytest.raises(ConfigError, match="Cannot double"):
        made(PHOTOGRAPHS[0], 0, None, doublings)


@pytest.mark.parametrize("shape", [(64, 64), (64, 64, 4), (15, 64, 3)])
def test_other_arrays_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="Cannot resample"):
        made(np.zeros(shape, np.uint8), 0, None)
