from pathlib import Path

import pytest

from edgedf.distill.data import COLUMNS, read_manifest
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
