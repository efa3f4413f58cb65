from itertools import pairwise
from pathlib import Path

import cv2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedf.distill.datasets import frames as module
from edgedf.distill.datasets.frames import find_clips, frames_of, spread
from edgedf.errors import ConfigError, DataError, OutputError
from tests.distill.datasets.trees import write, write_video


@given(total=st.integers(0, 300), count=st.integers(1, 40))
def test_frames_are_spread_evenly(total: int, count: int) -> None:
    chosen = spread(range(total), count)
    assert len(chosen) == min(total, count)
    if len(chosen) > 1:
        gaps = {second - first for first, second in pairwise(chosen)}
        assert min(gaps) >= 1
        assert max(gaps) - min(gaps) <= 1
        assert abs(chosen[0] - (total - 1 - chosen[-1])) <= 1


def test_frames_are_found_where_others_put_them(tmp_path: Path) -> None:
    write(tmp_path / "frames" / "b" / "10.png")
    write(tmp_path / "frames" / "b" / "9.png")
    write(tmp_path / "images" / "c" / "0.jpg")
    write(tmp_path / "d" / "0.jpg")
    write_video(tmp_path / "videos" / "a.mp4")
    write_video(tmp_path / "videos" / "b.mp4")
    (tmp_path / "frames" / "empty").mkdir()
    clips = {clip.name: clip for clip in find_clips(tmp_path)}
    assert list(clips) == ["a", "b", "c", "d"]
    assert clips["a"].video == tmp_path / "videos" / "a.mp4"
    assert [frame.name for frame in clips["b"].frames] == ["9.png", "10.png"]
    assert find_clips(tmp_path / "nowhere") == ()


def test_frames_are_extracted_once_and_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = write_video(tmp_path / "set" / "videos" / "a.mp4", frames=12)
    clips = find_clips(tmp_path / "set")
    steps: list[tuple[str, int, int]] = []
    found = frames_of(
        clips, tmp_path / "set", count=3, cache=tmp_path / "cache",
        progress=lambda *step: steps.append(step),
    )  # fmt: skip
    names = [frame.relative_to(tmp_path / "cache").as_posix() for frame in found.of[0]]
    assert names == [f"frames-3/videos/a/{index:06d}.png" for index in (2, 6, 10)]
    assert steps == [("extracting frames", 1, 1)]
    capture = cv2.VideoCapture(str(video))
    decoded = [capture.read()[1] for _ in range(12)]
    capture.release()
    for frame, index in zip(found.of[0], (2, 6, 10), strict=True):
        assert (cv2.imread(str(frame)) == decoded[index]).all()
    monkeypatch.setattr(module, "_decode", lambda *_: pytest.fail("decoded again"))
    again = frames_of(clips, tmp_path / "set", count=3, cache=tmp_path / "cache")
    assert again == found


@pytest.mark.parametrize("damage", ["marker", "nested", "frame", "video"])
def test_an_incomplete_or_outdated_cache_is_made_again(tmp_path: Path, damage: str) -> None:
    video = write_video(tmp_path / "set" / "a.mp4")
    clips = find_clips(tmp_path / "set")
    found = frames_of(clips, tmp_path / "set", count=3, cache=tmp_path / "cache")
    before = [frame.read_bytes() for frame in found.of[0]]
    if damage == "marker":  # what a killed run leaves
        (found.of[0][0].parent / "frames.json").unlink()
        found.of[0][1].write_bytes(b"half")
    elif damage == "nested":
        (found.of[0][0].parent / "frames.json").write_bytes(b"[" * 100_000)
    elif damage == "frame":
        found.of[0][1].unlink()
    else:
        write_video(video, seed=5)
    again = frames_of(clips, tmp_path / "set", count=3, cache=tmp_path / "cache")
    assert again.of == found.of
    after = [frame.read_bytes() for frame in again.of[0]]
    assert (after == before) == (damage != "video")


def test_a_video_that_cannot_be_read_is_counted_and_many_stop(tmp_path: Path) -> None:
    for number in range(20):
        write(tmp_path / "frames" / f"{number}" / "0.png")
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    found = frames_of(find_clips(tmp_path), tmp_path, cache=tmp_path / "cache")
    assert [Path(entry.file).name for entry in found.skipped] == ["broken.mp4"]
    assert sum(not frames for frames in found.of) == 1
    (tmp_path / "worse.mp4").write_bytes(b"no video either")
    with pytest.raises(DataError, match=r"2 of 22 videos in .* cannot be read"):
        frames_of(find_clips(tmp_path), tmp_path, cache=tmp_path / "cache")


def test_a_missing_cache_and_a_senseless_count_are_explained(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4")
    with pytest.raises(DataError, match=r"1 of 1 videos in .* have no extracted frames") as caught:
        frames_of(find_clips(tmp_path), tmp_path)
    assert "--cache DIR" in caught.value.next_step
    with pytest.raises(ConfigError, match="0 frames"):
        frames_of(find_clips(tmp_path), tmp_path, count=0)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError):
        frames_of(find_clips(tmp_path), tmp_path, cache=tmp_path / "file")
