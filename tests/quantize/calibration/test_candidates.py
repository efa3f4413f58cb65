import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from edgedf.errors import CalibrationError, ConfigError, DataError
from edgedf.imaging import preprocess
from edgedf.quantize.calibration.candidates import (
    candidates_in_folder,
    find_candidates,
)
from edgedf.quantize.calibration.images import choose_images
from tests.quantize.students import photograph_folder, write_manifest

SIDE = 64


def digests(images: tuple[np.ndarray, ...]) -> set[bytes]:
    return {image.tobytes() for image in images}


def pixels_of_split(manifest: Path, split: str) -> set[bytes]:
    rows = csv.DictReader(manifest.read_text().splitlines())
    paths = [manifest.parent / row["file"] for row in rows if row["split"] == split]
    return {preprocess(path.read_bytes(), SIDE).tobytes() for path in paths}


def test_folders_that_are_none_empty_or_missing_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no image")
    for name, said in (("file", "not a folder"), ("empty", "no images"), ("gone", "not exist")):
        with pytest.raises(CalibrationError, match=said) as caught:
            candidates_in_folder(tmp_path / name)
        assert name in caught.value.message
        assert caught.value.next_step


def test_a_manifests_train_split_calibrates_its_val_split_checks_and_test_is_left_alone(
    tmp_path: Path,
) -> None:
    manifest = write_manifest(tmp_path, ("train", "train", "val", "test"))
    for path in (manifest, tmp_path):
        candidates, said = find_candidates(path)
        assert said == str(path)
        images = choose_images(candidates, samples=8, size=SIDE)
        assert digests(images.calibration) <= pixels_of_split(manifest, "train")
        assert digests(images.held_out) <= pixels_of_split(manifest, "val")
        assert {fact.label for fact in images.facts} == {"real", "fake"}
        assert len(images.facts) == len(images.calibration) == 8


def test_a_split_that_is_asked_for_gives_all_images(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, ("test", "test", "test", "val"))
    candidates, said = find_candidates(manifest, "test")
    assert "split test" in said
    images = choose_images(candidates, samples=8, size=SIDE)
    seen = digests(images.calibration) | digests(images.held_out)
    assert seen <= pixels_of_split(manifest, "test")


def test_splits_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path, ("test",))
    with pytest.raises(CalibrationError, match="no picture in the split train or val"):
        find_candidates(manifest)
    with pytest.raises(ConfigError, match="no split 'tset'"):
        find_candidates(manifest, "tset")
    with pytest.raises(ConfigError, match="has no splits"):
        find_candidates(photograph_folder(), "train")
    with pytest.raises(ConfigError, match="The shipped sample has no splits"):
        find_candidates(None, "train")
    with pytest.raises(DataError, match="No such file"):
        find_candidates(tmp_path / "gone.csv")


@pytest.mark.parametrize(("real", "fake"), [("Real", "FAKE"), ("0_real", "1_fake")])
def test_class_folders_may_be_spelt_in_other_ways(tmp_path: Path, real: str, fake: str) -> None:
    shutil.copytree(photograph_folder() / "real", tmp_path / "a" / real)
    shutil.copytree(photograph_folder() / "fake", tmp_path / "b" / fake)
    (tmp_path / "b" / fake / "x.heic").touch()
    (tmp_path / ".thumbnails").mkdir()
    shutil.copy(next((tmp_path / "a" / real).iterdir()), tmp_path / ".thumbnails")
    candidates, said = find_candidates(tmp_path)
    assert said == f"{tmp_path} (1 file left out for their suffix: 1 .heic)"
    wanted = candidates_in_folder(photograph_folder())
    assert [entry.label for entry in candidates].count("real") == sum(
        entry.label == "real" for entry in wanted
    )
    assert {entry.label for entry in candidates} == {"real", "fake"}
    assert len(candidates) == len(wanted)
