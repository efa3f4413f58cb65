from collections.abc import Callable
from pathlib import Path

import pytest

from edgedf.distill.datasets import LAYOUTS, detect_layout, open_dataset
from edgedf.errors import ConfigError, DataError
from tests.distill.datasets.trees import (
    write,
    write_celebdf,
    write_cifake,
    write_coco,
    write_diffusiondb,
    write_faceforensics,
    write_video,
)
from tests.distill.pictures import write_manifest

ROW = ("a.png", "scenes", "real", "g", "train", "camera")


def manifest(root: Path) -> None:
    write(root / "a.png")
    write_manifest(root, [ROW])


def plain(root: Path) -> None:
    for label in ("real", "fake"):
        write(root / label / "a.png")


def plain_splits(root: Path) -> None:
    for split in ("train", "test"):
        plain(root / split)


def pair(root: Path) -> None:
    write_diffusiondb(root / "diffusiondb")
    write_coco(root / "coco")


TREES: list[tuple[str, Callable[[Path], object]]] = [
    ("manifest", manifest),
    ("faceforensics", write_faceforensics),
    ("celebdf", write_celebdf),
    ("cifake", write_cifake),
    ("folders", plain),
    ("folders", plain_splits),
    ("diffusiondb-coco", pair),
    ("diffusiondb", write_diffusiondb),
    ("coco", write_coco),
]


@pytest.mark.parametrize(("layout", "plant"), TREES)
def test_every_layout_is_recognised_and_read(
    tmp_path: Path, layout: str, plant: Callable[[Path], object]
) -> None:
    plant(tmp_path)
    assert detect_layout(tmp_path) == layout
    found = open_dataset(tmp_path)
    assert found.layout == layout
    assert found.samples
    assert found == open_dataset(tmp_path, layout)
    assert sum(count.pictures for count in found.counts) == len(found.samples)
    assert len(found.sha256) == 64


def test_all_layouts_are_tried() -> None:
    assert {layout for layout, _ in TREES} == set(LAYOUTS)


def test_an_unknown_layout_lists_those_that_are_known(tmp_path: Path) -> None:
    write(tmp_path / "pictures" / "a.png")
    with pytest.raises(DataError, match="no layout that is known") as caught:
        open_dataset(tmp_path)
    assert all(f"  {name}: " in caught.value.expected for name in LAYOUTS)
    with pytest.raises(ConfigError, match="no layout 'faceforensic'") as wrong:
        open_dataset(tmp_path, "faceforensic")
    assert wrong.value.next_step == "did you mean faceforensics?"
    with pytest.raises(DataError, match="is no folder"):
        open_dataset(tmp_path / "pictures" / "a.png")


def test_frames_and_cache_reach_the_layouts_with_videos(tmp_path: Path) -> None:
    for part in (
        "original_sequences/youtube/c23/000",
        "manipulated_sequences/FaceSwap/c23/000_001",
    ):
        write_video(tmp_path / "ff" / f"{part}.mp4")
    for part in ("Celeb-real/id0_0000", "Celeb-synthesis/id0_id1_0000"):
        write_video(tmp_path / "celeb" / f"{part}.mp4")
    for name in ("ff", "celeb"):
        found = open_dataset(tmp_path / name, frames=4, cache=tmp_path / "cache" / name)
        assert len(found.samples) == 8
        assert all(sample.path.is_relative_to(tmp_path / "cache") for sample in found.samples)


def test_torn_groups_are_refused_unless_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "a.png")
    write_manifest(tmp_path, [ROW, (*ROW[:4], "test", "camera")])
    with pytest.raises(DataError, match="1 group is in more than one split"):
        open_dataset(tmp_path)
    assert len(open_dataset(tmp_path, allow_torn=True).samples) == 2
