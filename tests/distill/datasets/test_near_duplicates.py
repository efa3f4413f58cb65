import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from skimage import data

from edgedf.distill.datasets.near_duplicates import (
    NEAR,
    distance,
    near_duplicates,
    picture_hash,
)
from tests.distill.datasets.trees import picture

HASH = st.integers(0, (1 << 64) - 1)


@given(HASH, HASH, HASH)
def test_the_distance_is_a_metric(a: int, b: int, c: int) -> None:
    assert distance(a, b) == distance(b, a)
    assert (distance(a, b) == 0) == (a == b)
    assert distance(a, c) <= distance(a, b) + distance(b, c)


@given(st.lists(st.integers(0, 255).map(lambda v: v * 0x0101010101010101), max_size=25), HASH)
def test_clusters_are_those_of_comparing_all_pairs(hashes: list[int], other: int) -> None:
    # Bytes repeated eight times are 0, 8, 16 … bits apart; flipping bits of some fills the gaps.
    hashes = [value ^ (other & 0x11 if index % 3 else 0) for index, value in enumerate(hashes)]
    found = near_duplicates(hashes)
    of = {index: cluster for cluster in found for index in cluster}
    for first in range(len(hashes)):
        near = [i for i in range(len(hashes)) if distance(hashes[first], hashes[i]) <= NEAR]
        assert (len(near) > 1) == (first in of)
        assert all(i in of[first] for i in near if i != first)


@given(HASH, st.sets(st.integers(0, 63), max_size=NEAR), HASH)
def test_no_pair_within_the_limit_is_missed(value: int, flipped: set[int], stranger: int) -> None:
    other = value ^ sum(1 << bit for bit in flipped)
    clusters = near_duplicates([value, stranger, other])
    assert any({0, 2} <= set(cluster) for cluster in clusters)


def test_recompressed_and_scaled_photographs_are_near() -> None:
    photographs = [data.astronaut(), data.coffee(), data.chelsea(), data.rocket()]
    hashes = [picture_hash(photograph) for photograph in photographs]
    for photograph, value in zip(photographs, hashes, strict=True):
        jpeg = cv2.imdecode(cv2.imencode(".jpg", photograph, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], 1)
        half = cv2.resize(photograph, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        assert distance(value, picture_hash(np.asarray(jpeg))) <= NEAR
        assert distance(value, picture_hash(np.asarray(half))) <= NEAR
    assert near_duplicates(hashes) == ()


def test_flat_pictures_are_all_alike_and_unlike_others() -> None:
    flat = [np.full((40, 60, 3), level, np.uint8) for level in (0, 90, 255)]
    hashes = [picture_hash(image) for image in flat]
    assert hashes == [0, 0, 0]
    assert near_duplicates([*hashes, picture_hash(picture(1))]) == ((0, 1, 2),)
    assert near_duplicates([]) == ()
