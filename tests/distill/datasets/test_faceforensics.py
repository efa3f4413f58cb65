from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedf.distill.datasets.faceforensics import read_faceforensics
from edgedf.errors import ConfigError, DataError
from tests.distill.datasets.trees import (
    MANIPULATIONS,
    write,
    write_faceforensics,
    write_official_splits,
    write_video,
)

PAIRS = [(f"{2 * n:03d}", f"{2 * n + 1:03d}") for n in range(10)]


def videos_by_split(folder: Path, **options: object) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {"train": set(), "val": set(), "test": set()}
    for sample in read_faceforensics(folder, **options).samples:  # type: ignore[arg-type]
        found[sample.split].update(sample.video.rpartition("/")[2].split("_"))
    return found


def test_everything_is_read_and_counted(tmp_path: Path) -> None:
    write_faceforensics(tmp_path, compressions=("c23", "c40"), frames=3)
    dataset = read_faceforensics(tmp_path, frames=2)
    assert dataset.sets == ("ff++ c23", "ff++ c40")
    pictures: Counter[str] = Counter()
    for count in dataset.counts:
        pictures[count.source] += count.pictures
        assert count.pictures == 2 * count.videos
        assert count.label == ("real" if "youtube" in count.source else "fake")
    assert pictures == {
        f"ff++ {source} {c}": 12 for source in ("youtube", *MANIPULATIONS) for c in ("c23", "c40")
    }
    sample = next(s for s in dataset.samples if s.source == "ff++ Deepfakes c40")
    assert sample.video == "manipulated_sequences/Deepfakes/c40/000_003"
    assert sample.mask is None
    assert "split 7:1:2 by pair" in dataset.notes[0]


def test_manipulations_and_compressions_are_chosen_without_changing_splits(tmp_path: Path) -> None:
    write_faceforensics(tmp_path, pairs=PAIRS, compressions=("c23", "c40"), frames=1)
    everything = {s.path: s.split for s in read_faceforensics(tmp_path).samples}
    part = read_faceforensics(
        tmp_path, manipulations=["FaceSwap", "Deepfakes"], compressions=["c40"]
    )
    assert {s.source for s in part.samples} == {
        f"ff++ {source} c40" for source in ("youtube", "FaceSwap", "Deepfakes")
    }
    assert all(everything[sample.path] == sample.split for sample in part.samples)


@settings(deadline=None, max_examples=15)
@given(
    st.lists(
        st.tuples(st.integers(0, 11), st.integers(0, 11)).filter(lambda pair: pair[0] != pair[1]),
        min_size=1, max_size=12,
    )
)  # fmt: skip
def test_no_person_is_ever_in_two_splits(pairs: list[tuple[int, int]]) -> None:
    with TemporaryDirectory() as folder:
        named = [(f"{a:03d}", f"{b:03d}") for a, b in pairs]
        write_faceforensics(Path(folder), pairs=named, manipulations=["FaceSwap"], frames=1)
        train, val, test = videos_by_split(Path(folder)).values()
        assert not (train & val or train & test or val & test)
        assert train | val | test == {name for pair in named for name in pair}


def test_videos_are_split_7_1_2(tmp_path: Path) -> None:
    write_faceforensics(tmp_path, pairs=PAIRS, manipulations=["Deepfakes"], frames=1)
    found = videos_by_split(tmp_path)
    assert {split: len(videos) for split, videos in found.items()} == {
        "train": 14, "val": 2, "test": 4,
    }  # fmt: skip


@pytest.mark.parametrize("place", [".", "splits", "elsewhere"])
def test_official_splits_are_used(tmp_path: Path, place: str) -> None:
    write_faceforensics(tmp_path, pairs=PAIRS[:4], frames=1)
    write_official_splits(
        tmp_path / place,
        train=[["000", "001"]], val=[["003", "002"]], test=[["004", "005"]],
    )  # fmt: skip
    options = {"splits": tmp_path / place} if place == "elsewhere" else {}
    assert videos_by_split(tmp_path, **options) == {
        "train": {"000", "001"}, "val": {"002", "003"}, "test": {"004", "005"},
    }  # fmt: skip
    dataset = read_faceforensics(tmp_path, **options)  # type: ignore[arg-type]
    assert dataset.notes == ("Videos left out, as the official splits do not name them: 12.",)


def test_bad_official_splits_are_explained(tmp_path: Path) -> None:
    write_faceforensics(tmp_path, pairs=PAIRS[:2], frames=1)
    write_official_splits(tmp_path, train=[["000", "001"]], val=[["002", "000"]])
    with pytest.raises(DataError, match=r"Video 000 is in train\.json and in val\.json"):
        read_faceforensics(tmp_path)
    # Two videos of one swap in different splits
    write_official_splits(tmp_path, train=[["000", "002"]], val=[["001", "003"]])
    with pytest.raises(DataError, match="2 groups are in more than one split"):
        read_faceforensics(tmp_path)
    (tmp_path / "val.json").write_text('{"000": 1}', encoding="utf-8")
    with pytest.raises(DataError, match="something else than pairs"):
        read_faceforensics(tmp_path)
    (tmp_path / "val.json").write_text("[[", encoding="utf-8")
    with pytest.raises(DataError, match="is no JSON file"):
        read_faceforensics(tmp_path)
    (tmp_path / "val.json").unlink()
    with pytest.raises(DataError, match=r"has no val\.json"):
        read_faceforensics(tmp_path)
    with pytest.raises(DataError, match=r"has no train\.json, val\.json, test\.json"):
        read_faceforensics(tmp_path, splits=tmp_path / "nowhere")


def test_masks_are_found_by_name(tmp_path: Path) -> None:
    write_faceforensics(tmp_path, pairs=PAIRS[:1], manipulations=["Deepfakes", "FaceSwap"])
    fakes = tmp_path / "manipulated_sequences"
    first = write(fakes / "Deepfakes" / "masks" / "images" / "000_001" / "000.png")
    second = write(fakes / "FaceSwap" / "c23" / "masks" / "000_001" / "001.png")
    masks = {s.path: s.mask for s in read_faceforensics(tmp_path).samples if s.mask is not None}
    assert masks == {
        fakes / "Deepfakes" / "c23" / "frames" / "000_001" / "000.png": first,
        fakes / "FaceSwap" / "c23" / "frames" / "000_001" / "001.png": second,
    }


def test_videos_are_extracted_into_the_cache(tmp_path: Path) -> None:
    root = tmp_path / "ff"
    for name in ("000", "001"):
        write_video(root / "original_sequences" / "youtube" / "raw" / "videos" / f"{name}.mp4")
    for name in ("000_001", "001_000", "mine"):
        write_video(root / "manipulated_sequences" / "Deepfakes" / "raw" / "videos" / f"{name}.mp4")
    with pytest.raises(DataError, match="have no extracted frames"):
        read_faceforensics(root)
    dataset = read_faceforensics(root, frames=3, cache=tmp_path / "cache")
    assert dataset.sets == ("ff++ c0",)
    assert Counter(sample.label for sample in dataset.samples) == {"real": 6, "fake": 6}
    assert len({sample.group for sample in dataset.samples}) == 1
    assert any(note.startswith("Videos left out, as their names") for note in dataset.notes)


def test_what_is_missing_or_unknown_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no folder"):
        read_faceforensics(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no videos and no frames in .*youtube/c23"):
        read_faceforensics(tmp_path)
    write_faceforensics(tmp_path, manipulations=["Deepfakes"])
    with pytest.raises(DataError, match=r"in .*FaceSwap/c23"):
        read_faceforensics(tmp_path, manipulations=["FaceSwap"])
    with pytest.raises(DataError, match=r"in .*youtube/c40"):
        read_faceforensics(tmp_path, compressions=["c40"])
    with pytest.raises(ConfigError, match="no manipulation 'DeepFakes'") as caught:
        read_faceforensics(tmp_path, manipulations=["DeepFakes"])
    assert caught.value.next_step == "did you mean Deepfakes?"
    with pytest.raises(ConfigError, match="no compression 'c99'"):
        read_faceforensics(tmp_path, compressions=["c99"])
    real_only = tmp_path / "real"
    write_faceforensics(real_only, manipulations=[])
    with pytest.raises(DataError, match=r"in .*Deepfakes/c23"):
        read_faceforensics(real_only)
