from pathlib import Path

import pytest

from edgedf.distill.datasets.dataset import (
    COLUMNS,
    OPTIONAL_COLUMNS,
    Count,
    Sample,
    check_groups,
    list_samples,
    read_manifest,
    torn_groups,
)
from edgedf.errors import DataError
from tests.distill.pictures import write_dataset, write_manifest

ROW = ("a.png", "scenes", "real", "g1", "train", "camera")


def one_picture(folder: Path, *rows: tuple[str, ...]) -> Path:
    (folder / "a.png").write_bytes(b"picture")
    write_manifest(folder, list(rows))
    return folder


def test_a_manifest_is_read_and_selected_from(tmp_path: Path) -> None:
    dataset = read_manifest(write_dataset(tmp_path, groups=2))
    assert dataset.sets == ("faces256", "scenes", "sharp")
    assert len(dataset.samples) == 2 * 3 * 2 * 2 + 3
    chosen = dataset.select(split="val", sets=["scenes"], label="fake")
    assert [sample.path.name for sample in chosen] == ["val-0-fake.png", "val-1-fake.png"]
    assert len(dataset.sha256) == 64


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "lists no picture"),
        ([("b.png", *ROW[1:])], "are not there, such as"),
        ([(*ROW[:2], "genuine", *ROW[3:])], "Line 2 of .* has the label 'genuine'"),
        ([(*ROW[:4], "dev", "camera")], "has the split 'dev'"),
        ([ROW, (*ROW[:4], "test", "camera")], "in more than one split, such as 'g1'"),
        ([("../a.png", *ROW[1:])], "outside the folder"),
        ([("/etc/hostname", *ROW[1:])], "outside the folder"),
        ([("a\0.png", *ROW[1:])], "outside the folder|is no CSV file"),
        ([("a.png",)], "Line 2 of .* has the label ''"),
    ],
)
def test_a_manifest_with_a_mistake_is_refused(
    tmp_path: Path, rows: list[tuple[str, ...]], message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_manifest(one_picture(tmp_path, *rows))
    assert caught.value.expected


def test_a_missing_manifest_column_or_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Cannot read .*manifest\.csv"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.csv").write_text(",".join(COLUMNS[:-1]) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="no column source"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.csv").write_bytes(b"\xff\xfe\x00file")
    with pytest.raises(DataError, match="UTF-8"):
        read_manifest(tmp_path)


def test_optional_columns_are_read_and_others_ignored(tmp_path: Path) -> None:
    header = ",".join((*COLUMNS, *OPTIONAL_COLUMNS, "width"))
    lines = [
        header,
        "a.png,s,fake,g,train,c,m/a.png,m/a.npy,clip 1,640",
        "b.png,s,real,h,train,c,,,,640",
    ]
    (tmp_path / "manifest.csv").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "m").mkdir()
    for name in ("a.png", "b.png", "m/a.png", "m/a.npy"):
        (tmp_path / name).write_bytes(b"picture")
    first, second = read_manifest(tmp_path).samples
    assert (first.mask, first.map) == (tmp_path / "m" / "a.png", tmp_path / "m" / "a.npy")
    assert first.video == "clip 1"
    assert (second.mask, second.map, second.video) == (None, None, "")
    (tmp_path / "m" / "a.npy").unlink()
    with pytest.raises(DataError, match=r"1 of 1 maps in .* are not there"):
        read_manifest(tmp_path)
    outside = lines[1].replace("m/a.png", "../a.png")
    (tmp_path / "manifest.csv").write_text(f"{header}\n{outside}", encoding="utf-8")
    with pytest.raises(DataError, match=r"names '\.\./a\.png', which is outside"):
        read_manifest(tmp_path)


def test_pictures_and_videos_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"picture")
    still = Sample(tmp_path / "a.png", "s", "real", "g", "train", "c")
    frames = [
        Sample(tmp_path / "a.png", "s", "fake", video, "val", "d", video=video)
        for video in ("one", "one", "two")
    ]
    dataset = list_samples(tmp_path, [still, *frames], "folders")
    assert dataset.counts == (
        Count("s", "c", "real", "train", 1, 0),
        Count("s", "d", "fake", "val", 3, 2),
    )


def test_the_hash_of_a_list_follows_what_is_listed(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"picture")
    samples = [Sample(tmp_path / n, "s", "real", n, "train", "c") for n in ("a.png", "b.png")]
    digest = list_samples(tmp_path, samples, "folders").sha256
    assert list_samples(tmp_path, samples[::-1], "folders").sha256 == digest
    assert list_samples(tmp_path, samples[:1], "folders").sha256 != digest
    moved = [samples[0], Sample(tmp_path / "b.png", "s", "real", "b.png", "val", "c")]
    assert list_samples(tmp_path, moved, "folders").sha256 != digest
    (tmp_path / "b.png").write_bytes(b"another picture")
    assert list_samples(tmp_path, samples, "folders").sha256 != digest


def test_a_list_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no picture to read"):
        list_samples(tmp_path, [], "folders")
    with pytest.raises(DataError, match=r"Cannot read .*a\.png"):
        list_samples(tmp_path, [Sample(tmp_path / "a.png", *ROW[1:3], *ROW[3:])], "folders")
    with pytest.raises(DataError, match="has the label 'genuine'"):
        Sample(tmp_path / "a.png", "s", "genuine", "g", "train", "c")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="has the split 'dev'"):
        Sample(tmp_path / "a.png", "s", "real", "g", "dev", "c")  # type: ignore[arg-type]


def test_groups_in_several_splits_are_all_named() -> None:
    samples = [
        Sample(Path("a.png"), "s", "real", group, split, "c")  # type: ignore[arg-type]
        for group, split in (("b", "test"), ("b", "train"), ("a", "val"), ("a", "train"),
                             ("c", "val"), ("c", "val"))
    ]  # fmt: skip
    assert torn_groups(samples) == {"a": ("train", "val"), "b": ("train", "test")}
    with pytest.raises(DataError, match="2 groups are in more than one split, such as 'a'"):
        check_groups(samples)
    check_groups(samples[4:])
