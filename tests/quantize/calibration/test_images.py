import random
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgedf.sample
from edgedf.errors import CalibrationError, ConfigError
from edgedf.quantize.calibration.candidates import (
    MIN_HELD_OUT,
    Candidate,
    candidates_in_folder,
    sample_candidates,
)
from edgedf.quantize.calibration.images import CalibrationSet, choose_images
from edgedf.quantize.calibration.settings import MIN_CALIBRATION, CalibrationImages
from tests.quantize.students import photograph_folder
from tests.runtime.pictures import BROKEN, damaged, encoded, photographs, write_broken

SIDE = 64


def chosen(folder: Path, samples: int = 12, seed: int = 0) -> CalibrationSet:
    return choose_images(candidates_in_folder(folder), samples=samples, size=SIDE, seed=seed)


def digests(images: tuple[np.ndarray, ...]) -> set[bytes]:
    return {image.tobytes() for image in images}


def test_images_are_prepared_as_the_runtime_prepares_them() -> None:
    images = chosen(photograph_folder())
    assert len(images.calibration) == 12
    for image in (*images.calibration, *images.held_out):
        assert image.shape == (SIDE, SIDE, 3)
        assert image.dtype == np.uint8


def test_half_of_the_calibration_images_are_fake() -> None:
    fakes = digests(
        choose_images(
            [Candidate(path) for path in (photograph_folder() / "fake").iterdir()],
            samples=8,
            size=SIDE,
        ).calibration
    )
    picked = digests(chosen(photograph_folder(), samples=8).calibration)
    assert len(picked) == 8
    assert len(picked - fakes) >= 4


@settings(max_examples=8, deadline=None)
@given(samples=st.integers(MIN_CALIBRATION, 64), seed=st.integers(0, 9))
def test_no_image_both_calibrates_and_proves(samples: int, seed: int) -> None:
    images = chosen(photograph_folder(), samples, seed)
    calibration, held_out = digests(images.calibration), digests(images.held_out)
    assert not calibration & held_out
    assert MIN_CALIBRATION <= len(calibration) <= samples
    assert len(held_out) >= MIN_HELD_OUT
    assert images.summary.samples == len(calibration)


def test_the_choice_depends_on_the_seed_and_not_on_the_order_of_the_files() -> None:
    candidates = list(candidates_in_folder(photograph_folder()))
    first = choose_images(candidates, samples=10, size=SIDE, seed=3)
    random.Random(1).shuffle(candidates)
    again = choose_images(candidates, samples=10, size=SIDE, seed=3)
    other = choose_images(candidates, samples=10, size=SIDE, seed=4)
    assert all(map(np.array_equal, first.calibration, again.calibration))
    assert first.summary == again.summary
    assert first.summary.images_sha256 != other.summary.images_sha256


def test_equal_files_count_once_whatever_their_names(tmp_path: Path) -> None:
    shutil.copytree(photograph_folder(), tmp_path / "all")
    for path in (photograph_folder() / "real").iterdir():
        shutil.copy(path, tmp_path / "all" / "fake" / f"again_{path.name}")
    images = chosen(tmp_path / "all", samples=64)
    assert len({*digests(images.calibration), *digests(images.held_out)}) == len(
        images.calibration
    ) + len(images.held_out)
    copies = [entry for entry in images.skipped if "same file" in entry.reason]
    assert len(copies) == len(list((photograph_folder() / "real").iterdir()))


def test_broken_images_are_skipped_and_reported(tmp_path: Path) -> None:
    shutil.copytree(photograph_folder(), tmp_path / "mixed")
    write_broken(tmp_path / "mixed")
    cv2.imwrite(str(tmp_path / "mixed" / "grey.png"), np.full((80, 80, 3), 128, np.uint8))
    half = damaged(encoded(photographs()[1], "JPEG"))
    (tmp_path / "mixed" / "half.jpg").write_bytes(half)
    images = chosen(tmp_path / "mixed")
    reasons = {entry.path.name: entry.reason for entry in images.skipped}
    assert reasons.keys() == {*BROKEN, "grey.png", "half.jpg"}
    for name, (_, said) in BROKEN.items():
        assert said in reasons[name]
    assert "grey level" in reasons["grey.png"]
    assert "damaged" in reasons["half.jpg"]


def test_a_folder_of_unreadable_images_names_some_of_them(tmp_path: Path) -> None:
    write_broken(tmp_path)
    with pytest.raises(CalibrationError) as caught:
        chosen(tmp_path)
    assert "Only 0 usable images" in caught.value.message
    assert f"{len(BROKEN)} could not be used" in caught.value.message
    assert sum(name in caught.value.message for name in BROKEN) == 5
    assert "and 5 more" in caught.value.message
    assert "at least 12" in caught.value.expected


@pytest.mark.parametrize("label", ["real", "fake"])
def test_images_of_one_class_alone_are_refused(label: str, tmp_path: Path) -> None:
    for source in ("real", "fake"):
        for path in (photograph_folder() / source).iterdir():
            target = tmp_path / label / f"{source}_{path.name}"
            target.parent.mkdir(exist_ok=True)
            shutil.copy(path, target)
    with pytest.raises(CalibrationError, match=f"are {label}"):
        chosen(tmp_path)


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    for path in sorted((photograph_folder() / "real").iterdir())[:MIN_CALIBRATION]:
        shutil.copy(path, tmp_path)
    with pytest.raises(CalibrationError, match="Only 8 usable images"):
        chosen(tmp_path)


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(ConfigError, match="7 calibration images"):
        CalibrationImages(samples=7)


def test_the_shipped_sample_calibrates_with_one_split_and_proves_with_the_other() -> None:
    images = choose_images(sample_candidates(), samples=1000, size=SIDE)
    splits = [image.split for image in edgedf.sample.images()]
    assert not images.skipped
    assert len(images.calibration) == splits.count("calibration")
    assert len(images.held_out) == splits.count("check")
