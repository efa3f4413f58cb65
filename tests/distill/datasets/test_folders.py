from collections import Counter
from pathlib import Path

import pytest

from edgedf.distill.datasets import folders, open_dataset
from edgedf.distill.datasets.dataset import Dataset
from edgedf.distill.datasets.folders import read_folders
from edgedf.errors import DataError
from tests.distill.datasets.trees import names, picture, splits_of, write


def split_by_name(dataset: Dataset) -> dict[str, str]:
    return {sample.path.name: sample.split for sample in dataset.samples}


def test_pictures_are_split_7_1_2_within_each_class(tmp_path: Path) -> None:
    for number in range(40):
        write(tmp_path / "real" / f"r{number}.png", picture(number))
        write(tmp_path / "fake" / "gan" / f"f{number}.png", picture(100 + number))
    dataset = read_folders(tmp_path)
    counts = Counter((sample.label, sample.split) for sample in dataset.samples)
    for label in ("real", "fake"):
        assert [counts[label, split] for split in ("train", "val", "test")] == [28, 4, 8]
    assert {sample.source for sample in dataset.select(label="fake")} == {"gan"}
    assert {sample.source for sample in dataset.select(label="real")} == {"real"}
    assert dataset.sets == (tmp_path.name,)
    assert dataset.layout == "folders"
    assert len({sample.group for sample in dataset.samples}) == 80


def test_moving_and_renaming_files_changes_no_split(tmp_path: Path) -> None:
    for number in range(20):
        for label in ("real", "fake"):
            image = picture(number + 100 * (label == "fake"))
            write(tmp_path / "a" / label / f"{label[0]}{number}.png", image)
            write(tmp_path / "b" / label / "site" / f"{label[0]}{19 - number:03d}x.png", image)
    before, after = read_folders(tmp_path / "a"), read_folders(tmp_path / "b")
    content = [
        {sample.path.read_bytes(): sample.split for sample in dataset.samples}
        for dataset in (before, after)
    ]
    assert content[0] == content[1]
    assert before.sha256 != after.sha256
    assert read_folders(tmp_path / "a").sha256 == before.sha256


def test_what_belongs_together_is_in_one_group(tmp_path: Path) -> None:
    for number in range(30):
        write(tmp_path / "real" / f"r{number}.png", picture(number))
        write(tmp_path / "fake" / f"f{number}.png", picture(100 + number))
    write(tmp_path / "real" / "copy.png", picture(3))  # equal to r3
    write(tmp_path / "real" / "jpeg.jpg", picture(4), quality=60)  # nearly r4
    write(tmp_path / "fake" / "r5.jpg", picture(500))  # made from r5, says its name
    for number in range(3):  # frames of a video
        write(tmp_path / "fake" / "site" / "clip" / f"{number}.png", picture(600 + number))
    dataset = read_folders(tmp_path)
    group = {
        sample.path.relative_to(tmp_path).as_posix(): sample.group for sample in dataset.samples
    }
    assert group["real/copy.png"] == group["real/r3.png"]
    assert group["real/jpeg.jpg"] == group["real/r4.png"]
    assert group["fake/r5.jpg"] == group["real/r5.png"]
    frames = [sample for sample in dataset.samples if sample.video]
    assert {sample.video for sample in frames} == {"fake/site/clip"}
    assert len({sample.group for sample in frames}) == 1
    assert len(set(group.values())) == len(group) - 5


def test_near_duplicates_are_looked_for_only_where_that_is_cheap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        write(tmp_path / "real" / f"r{number}.png", picture(number))
        write(tmp_path / "fake" / f"f{number}.png", picture(number + 10))
    write(tmp_path / "real" / "jpeg.jpg", picture(3), quality=60)
    write(tmp_path / "real" / "copy.png", picture(2))
    monkeypatch.setattr(folders, "MAX_COMPARED", 9)
    dataset = read_folders(tmp_path)
    assert "Near-duplicates among 10 pictures were not looked for" in dataset.notes[0]
    assert len({sample.group for sample in dataset.samples}) == 9
    assert len({sample.group for sample in read_folders(tmp_path, compare=True).samples}) == 8


def test_folders_of_splits_are_kept(tmp_path: Path) -> None:
    for split, start in (("train", 0), ("valid", 10), ("test", 20)):
        for label in ("0_real", "1_fake"):
            write(tmp_path / split / label / "site" / "1.png", picture(start))
    dataset = read_folders(tmp_path)
    assert names(dataset, split="val") == {"valid/0_real/site/1.png", "valid/1_fake/site/1.png"}
    assert len({sample.group for sample in dataset.samples}) == 6
    assert dataset.notes == ()


def test_val_comes_out_of_train_where_there_is_none(tmp_path: Path) -> None:
    for number in range(16):
        for label in ("real", "fake"):
            image = picture(number + 100 * (label == "fake"))
            write(tmp_path / "train" / label / f"{label}{number}.png", image)
    for label in ("real", "fake"):
        write(tmp_path / "test" / label / f"{label}.png")
    dataset = read_folders(tmp_path)
    counts = Counter((sample.label, sample.split) for sample in dataset.samples)
    for label in ("real", "fake"):
        assert [counts[label, split] for split in ("train", "val", "test")] == [14, 2, 1]
    assert all("test/" in name for name in names(dataset, split="test"))
    assert "no val folder" in dataset.notes[0]


def test_unreadable_pictures_are_left_for_later(tmp_path: Path) -> None:
    for label in ("real", "fake"):
        write(tmp_path / label / "good.png")
        (tmp_path / label / "bad.jpg").write_bytes(b"\xff\xd8\xff")
        (tmp_path / label / "notes.txt").write_bytes(b"")
        write(tmp_path / label / ".hidden.png")
    dataset = read_folders(tmp_path)
    assert {sample.path.name for sample in dataset.samples} == {"good.png", "bad.jpg"}
    assert splits_of(dataset.samples) <= {"train", "val", "test"}


@pytest.mark.parametrize("label", ["real", "fake"])
def test_a_missing_class_is_named(tmp_path: Path, label: str) -> None:
    write(tmp_path / label / "a.png")
    other = "fake" if label == "real" else "real"
    with pytest.raises(DataError, match=f"has no {other} picture") as caught:
        read_folders(tmp_path)
    assert f"{tmp_path}/{other}" in caught.value.next_step


@pytest.mark.parametrize(
    ("real", "fake"), [("Real", "Fake"), ("REAL", "FAKE"), ("0_real", "1_fake")]
)
def test_class_folders_may_be_spelt_in_other_ways(tmp_path: Path, real: str, fake: str) -> None:
    for number in range(10):
        write(tmp_path / real / f"r{number}.png", picture(number))
        write(tmp_path / fake / f"f{number}.png", picture(100 + number))
    dataset = open_dataset(tmp_path)
    assert dataset.layout == "folders"
    assert not dataset.has_splits
    assert len(dataset.select(label="real")) == len(dataset.select(label="fake")) == 10


def test_two_folders_of_one_class_are_refused_not_chosen_from(tmp_path: Path) -> None:
    for label in ("real", "0_real", "fake"):
        write(tmp_path / label / "a.png", picture(len(label)))
    with pytest.raises(DataError, match="two folders of real pictures, 0_real and real"):
        read_folders(tmp_path)


def test_jfif_is_a_picture_and_what_is_left_out_is_said(tmp_path: Path) -> None:
    for label in ("real", "fake"):
        write(tmp_path / label / "a.jpg").rename(tmp_path / label / "a.jfif")
        (tmp_path / label / "b.heic").touch()
    dataset = read_folders(tmp_path)
    assert len(dataset.samples) == 2
    assert dataset.left_out == {".heic": 2}
    assert dataset.notes == ("2 files left out for their suffix: 2 .heic.",)
    (tmp_path / "real" / "a.jfif").unlink()
    with pytest.raises(DataError, match=r"no real picture. 2 files left out .*: 2 \.heic"):
        read_folders(tmp_path)
