import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data

from edgedf.distill.records.augment import change, random_square

SIZE = 64


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(30, 90), st.integers(30, 90))
def test_a_random_square_has_the_size_asked_for(seed: int, height: int, width: int) -> None:
    image = data.chelsea()[:height, :width]
    square = random_square(image, 48, np.random.default_rng(seed))
    assert square.shape == (48, 48, 3)
    assert square.dtype == np.uint8


def test_random_squares_reach_the_corners_and_keep_the_aspect() -> None:
    rows = np.arange(100, dtype=np.uint8)[:, None, None]
    image = np.broadcast_to(rows, (100, 200, 3)).copy()
    tops, bottoms = set(), set()
    for seed in range(200):
        square = random_square(image, 50, np.random.default_rng(seed), smallest=0.5)
        tops.add(int(square[0, 0, 0]))
        bottoms.add(int(square[-1, 0, 0]))
    assert min(tops) <= 1
    assert max(bottoms) >= 98
    assert max(tops) > 30


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
def test_a_changed_picture_stays_a_picture_and_its_map_never_gets_sharper(seed: int) -> None:
    image = cv2.resize(data.coffee(), (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    defocus = np.linspace(0, 5, 16 * 16, dtype=np.float32).reshape(16, 16)
    changed, dense = change(image, defocus, np.random.default_rng(seed))
    assert changed.shape == image.shape
    assert changed.dtype == np.uint8
    assert dense.dtype == np.float32
    ordered, before = np.sort(dense.ravel()), np.sort(defocus.ravel())
    assert (ordered >= before - 1e-6).all()
    # A Gaussian adds in variance, the same everywhere.
    added = ordered**2 - before**2
    assert np.ptp(added) < 1e-4


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_maps_on_a_stack_change_as_each_would_alone(seed: int) -> None:
    image = cv2.resize(data.coffee(), (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    rng = np.random.default_rng(1)
    stack = rng.uniform(0, 5, (16, 16, 3)).astype(np.float32)
    changed, found = change(image, stack, np.random.default_rng(seed))
    assert found.shape == stack.shape
    assert found.flags.c_contiguous
    for number in range(3):
        picture, alone = change(image, stack[:, :, number], np.random.default_rng(seed))
        assert np.array_equal(picture, changed)
        assert np.array_equal(found[:, :, number], alone)


def test_picture_and_map_are_flipped_together() -> None:
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    image[:, : SIZE // 2] = 200
    defocus = np.zeros((16, 16), np.float32)
    defocus[:, :8] = 4
    sides = set()
    for seed in range(30):
        changed, dense = change(image, defocus, np.random.default_rng(seed))
        bright_left = changed[:, 0].mean() > changed[:, -1].mean()
        assert bright_left == (dense[:, 0].mean() > dense[:, -1].mean())
        sides.add(bool(bright_left))
    assert sides == {True, False}
