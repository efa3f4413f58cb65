import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data

from edgedf.distill.fakes.blend import blob_mask, self_blend
from edgedf.errors import DataError

shares = st.floats(0.2, 0.8)
sizes = st.integers(24, 90)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), sizes, sizes, shares, shares)
def test_a_mask_is_one_inside_and_zero_far_away(
    seed: int, height: int, width: int, row: float, column: float
) -> None:
    rng = np.random.default_rng(seed)
    mask = blob_mask(height, width, rng, centre=(row, column), extent=(0.15, 0.15))
    assert mask.shape == (height, width)
    assert mask.dtype == np.float32
    assert mask.min() >= 0
    assert mask.max() <= 1 + 1e-6
    assert mask[int(row * height), int(column * width)] > 0.5
    y, x = (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
    far = np.hypot(y[:, None] - row, x[None] - column) > 0.5
    assert not far.any() or mask[far].max() < 0.05


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
def test_a_self_blend_keeps_shape_and_content_and_changes_something(seed: int) -> None:
    image = data.astronaut()[::4, ::4]
    rng = np.random.default_rng(seed)
    mask = blob_mask(*image.shape[:2], rng)
    blended = self_blend(image, mask, rng)
    assert blended.shape == image.shape
    assert blended.dtype == np.uint8
    difference = np.abs(blended.astype(int) - image)
    assert difference.mean() > 0.2
    assert np.corrcoef(blended.ravel(), image.ravel())[0, 1] > 0.85


def test_a_self_blend_shows_the_copy_inside_and_the_original_outside_or_the_reverse() -> None:
    image = data.astronaut()[::4, ::4]
    mask = np.zeros(image.shape[:2], np.float32)
    mask[32:96, 32:96] = 1
    kept_outside = kept_inside = 0
    for seed in range(40):
        blended = self_blend(image, mask, np.random.default_rng(seed))
        equal = (blended == image).all(axis=2)
        kept_outside += bool(equal[mask == 0].all())
        kept_inside += bool(equal[mask == 0].mean() < 0.9)
        assert not equal[mask == 1].all()
    assert kept_outside > 20
    assert kept_inside > 2
    assert kept_outside + kept_inside == 40


def test_the_same_seed_gives_the_same_fake() -> None:
    image, mask = data.coffee()[::4, ::4], np.full((100, 150), 0.5, np.float32)
    first, again, other = (
        self_blend(image, mask, np.random.default_rng(seed)) for seed in (5, 5, 6)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(DataError, match="does not fit"):
        self_blend(data.coffee(), np.ones((4, 4), np.float32), np.random.default_rng(0))
