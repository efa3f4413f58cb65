import re
from pathlib import Path

import pytest

from edgedf.distill.datasets.celebdf import read_celebdf
from edgedf.distill.datasets.dataset import Dataset
from edgedf.errors import DataError
from tests.distill.datasets.trees import names, write, write_celebdf, write_video

LISTED = ("1 Celeb-real/id0_0000.mp4", "0 Celeb-synthesis/id0_id1_0000.mp4",
          "1 YouTube-real/00003.mp4")  # fmt: skip


def people_by_split(dataset: Dataset) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {"train": set(), "val": set(), "test": set()}
    for sample in dataset.samples:
        found[sample.split].update(re.findall(r"id\d+", sample.video))
    return found


def test_without_the_list_persons_stay_together(tmp_path: Path) -> None:
    dataset = read_celebdf(write_celebdf(tmp_path, persons=20))
    train, val, test = people_by_split(dataset).values()
    assert not (train & val or train & test or val & test)
    assert [len(part) for part in (train, val, test)] == [14, 2, 4]
    assert len(dataset.samples) == 60
    assert {sample.source for sample in dataset.select(label="real")} == {
        "celeb-df v2 Celeb-real", "celeb-df v2 YouTube-real",
    }  # fmt: skip
    assert {sample.source for sample in dataset.select(label="fake")} == {
        "celeb-df v2 Celeb-synthesis"
    }
    assert "is not used" in dataset.notes[0]


def test_the_official_list_is_the_test_split_and_its_persons_are_nowhere_else(
    tmp_path: Path,
) -> None:
    dataset = read_celebdf(write_celebdf(tmp_path, persons=20, listed=LISTED))
    assert names(dataset, split="test") == {
        "Celeb-real/frames/id0_0000/0.png",
        "Celeb-synthesis/frames/id0_id1_0000/0.png",
        "YouTube-real/frames/00003/0.png",
    }
    train, val, test = people_by_split(dataset).values()
    assert test == {"id0", "id1"}
    assert not (train & val or train & test or val & test)
    assert len(train | val) == 18
    # id1 is on no list, but in a test video: both videos with this face are left out.
    assert any(note.endswith("is in the test split: 2.") for note in dataset.notes)
    assert len(dataset.samples) == 58
    assert read_celebdf(tmp_path, official=False).notes[0].startswith("List_of_testing_videos.txt")


def test_absent_test_videos_are_counted(tmp_path: Path) -> None:
    write_celebdf(tmp_path, listed=(*LISTED, "0 Celeb-synthesis/id3_id9_0007.mp4"))
    notes = read_celebdf(tmp_path).notes
    assert notes[0] == "Official test videos that are not there: 1 of 4."
    write_celebdf(tmp_path, listed=["1 Celeb-real/id90_0000.mp4"])
    with pytest.raises(DataError, match="None of the 1 videos"):
        read_celebdf(tmp_path)


@pytest.mark.parametrize(
    "line", ["0 Celeb-real/id0_0000.mp4", "1 Elsewhere/a.mp4", "Celeb-real/id0_0000.mp4", "1 a.mp4"]
)
def test_a_line_that_makes_no_sense_is_shown(tmp_path: Path, line: str) -> None:
    write_celebdf(tmp_path, listed=(LISTED[0], line))
    with pytest.raises(DataError, match=r"Line 2 of .* is") as caught:
        read_celebdf(tmp_path)
    assert line in caught.value.message


def test_videos_and_other_spellings_are_read(tmp_path: Path) -> None:
    write_video(tmp_path / "df" / "Celeb-real" / "id0_0000.mp4")
    write_video(tmp_path / "df" / "Celeb-synthesis" / "videos" / "id0_id1_0000.mp4")
    write(tmp_path / "df" / "Youtube-real" / "00000" / "0.png")
    dataset = read_celebdf(tmp_path / "df", frames=2, cache=tmp_path / "cache")
    assert sorted(sample.video for sample in dataset.samples) == [
        *["Celeb-real/id0_0000"] * 2,
        *["Celeb-synthesis/id0_id1_0000"] * 2,
        "Youtube-real/00000",
    ]


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    write(tmp_path / "Celeb-real" / "frames" / "id0_0000" / "0.png")
    with pytest.raises(DataError, match="has no fake video") as caught:
        read_celebdf(tmp_path)
    assert "Celeb-synthesis" in caught.value.next_step
    write(tmp_path / "Celeb-synthesis" / "frames" / "id0_id1_0000" / "0.png")
    with pytest.raises(DataError, match=r"Cannot read .*List_of_testing_videos\.txt"):
        read_celebdf(tmp_path, official=True)
