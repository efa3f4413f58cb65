import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgedf.distill.optics.batch import defocus_maps
from edgedf.distill.optics.maps import PhysicalProfile, defocus_map
from edgedf.errors import ConfigError, ImageNotFound, ImageUnreadable
from edgedf.imaging import ImageSource, RGBImage
from tests.distill.optics.photographs import photograph


def pictures() -> list[RGBImage]:
    whole = photograph("motorcycle")
    return [np.ascontiguousarray(whole[i * 20 : i * 20 + 64, 100:180]) for i in range(10)]


@pytest.mark.parametrize("workers", [1, 2])
def test_maps_come_in_order_and_are_those_of_one_process(workers: int) -> None:
    images = pictures()
    expected = [defocus_map(image) for image in images]
    found = list(defocus_maps(images, workers=workers))
    assert len(found) == len(images)
    for one, other in zip(found, expected, strict=True):
        assert not isinstance(one, Exception)
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_broken_image_is_an_error_in_its_place_and_the_rest_is_done(
    tmp_path: Path, workers: int
) -> None:
    good = tmp_path / "good.png"
    cv2.imwrite(str(good), photograph("rocket", 64))
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff\xe0 no more")
    sources: list[ImageSource] = [
        good,
        broken,
        tmp_path / "missing.jpg",
        photograph("brick", 64),
        b"nonsense",
    ]
    results = list(defocus_maps(sources, workers=workers))
    kinds = [type(result) for result in results]
    assert kinds == [np.ndarray, ImageUnreadable, ImageNotFound, np.ndarray, ImageUnreadable]
    missing = results[2]
    assert isinstance(missing, ImageNotFound)
    assert "missing.jpg" in missing.message  # crossed the process whole
    assert missing.expected


def test_progress_counts_every_image_once() -> None:
    said: list[tuple[str, int, int]] = []
    images = pictures()[:3]
    list(defocus_maps(images, workers=1, progress=lambda *args: said.append(args)))
    assert said == [("defocus maps", done, 3) for done in range(4)]


def test_the_centre_square_is_measured_at_the_size_asked_for() -> None:
    image = photograph("motorcycle")
    (square,) = defocus_maps([image], size=96, workers=1)
    assert not isinstance(square, Exception)
    np.testing.assert_array_equal(square, defocus_map(photograph("motorcycle", 96)))


def test_a_profile_of_ones_own_reaches_the_workers() -> None:
    profile = PhysicalProfile(min_gradient=1.0)
    results = list(defocus_maps(pictures()[:3], profile, workers=2))
    assert not any(np.asarray(result).any() for result in results)


def test_stopping_early_stops_the_workers() -> None:
    before = set(multiprocessing.active_children())
    maps = defocus_maps(pictures() * 3, workers=2)
    assert isinstance(maps, Iterator)
    assert not isinstance(next(maps), Exception)
    maps.close()  # type: ignore[attr-defined]
    assert set(multiprocessing.active_children()) <= before


def test_no_images_give_no_maps() -> None:
    assert list(defocus_maps([])) == []


@pytest.mark.parametrize(
    ("options", "wrong"),
    [({"size": 0}, "size"), ({"workers": 0}, "workers"), ({"profile": "fine"}, "profile")],
)
def test_impossible_options_are_refused_before_any_work(
    options: dict[str, object], wrong: str
) -> None:
    with pytest.raises(ConfigError, match=wrong):
        defocus_maps(pictures(), **options)  # type: ignore[arg-type]
