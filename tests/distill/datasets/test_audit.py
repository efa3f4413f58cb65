import json
from pathlib import Path

import pytest

from edgedf import typed_json
from edgedf.distill.datasets import open_dataset
from edgedf.distill.datasets.audit import Audit, audit
from edgedf.errors import DataError
from tests.distill.datasets.trees import picture, write
from tests.distill.pictures import write_manifest

SPLITS = ("train", "train", "val", "test")


def clean(folder: Path, *, pairs: int = 40) -> list[list[str]]:
    """Real and fake pictures of one size and encoder, each a group of its own."""
    rows = []
    for number in range(2 * pairs):
        label = ("real", "fake")[number % 2]
        file = f"{label}/{number}.jpg"
        write(folder / file, picture(number), quality=90)
        rows.append([file, "scenes", label, f"g{number}", SPLITS[number // 2 % 4], f"{label} site"])
    return rows


def audited(folder: Path, rows: list[list[str]]) -> Audit:
    write_manifest(folder, [tuple(row) for row in rows])
    return audit(open_dataset(folder, allow_torn=True))


def test_a_clean_data_set_gives_no_warning(tmp_path: Path) -> None:
    found = audited(tmp_path, clean(tmp_path))
    assert found.warnings == ()
    assert (found.duplicates, found.torn_groups, found.skipped) == ((), (), ())
    assert found.pictures == 80
    encodings = [(e.label, e.format, e.tables, e.pictures) for e in found.encodings]
    assert encodings == [(label, "jpeg", "IJG quality 90", 40) for label in ("real", "fake")]
    for entry in found.sizes:
        assert (entry.pictures, entry.distinct) == (40, 1)
        assert (entry.width.least, entry.width.most, entry.height.median) == (40, 40, 32)
        assert entry.bytes.least < entry.bytes.median < entry.bytes.most
        assert entry.bytes_per_pixel.median == pytest.approx(entry.bytes.median / 1280)
    assert [entry.set for entry in found.metadata] == ["scenes"]
    assert json.loads(json.dumps(typed_json.encode(found)))["metadata"][0]["leakage"]["auc"]["n"]


@pytest.mark.parametrize("leak", ["width", "quantisation tables", "format"])
def test_metadata_that_tell_real_from_fake_are_warned_of(tmp_path: Path, leak: str) -> None:
    rows = clean(tmp_path)
    for number, row in enumerate(rows):
        if row[2] == "fake" and leak == "width":
            write(tmp_path / row[0], picture(number, width=44), quality=90)
        elif row[2] == "fake" and leak == "format":
            row[0] = f"fake/{number}.webp"
            write(tmp_path / row[0], picture(number))
        elif row[2] == "fake":
            write(tmp_path / row[0], picture(number), quality=75)
    found = audited(tmp_path, rows)
    (warning,) = found.warnings
    assert "scenes: metadata alone tell real from fake with AUC 1.00" in warning
    assert f"{leak} (1.00)" in warning
    formats = {(entry.label, entry.format, entry.tables) for entry in found.encodings}
    assert len(formats) == 2


def test_near_duplicates_are_listed_only_across_splits(tmp_path: Path) -> None:
    rows = clean(tmp_path)
    # 0 and 2 are in train both, 4 is in val.
    write(tmp_path / rows[2][0], picture(0), quality=90)
    assert audited(tmp_path, rows).duplicates == ()
    write(tmp_path / rows[5][0], picture(0), quality=90)
    found = audited(tmp_path, rows)
    (cluster,) = found.duplicates
    assert cluster.files == tuple(str(tmp_path / rows[index][0]) for index in (0, 2, 5))
    assert cluster.splits == ("train", "val")
    assert cluster.labels == ("real", "fake")
    assert "1 picture is in more than one split" in found.warnings[0]


def test_torn_groups_are_listed(tmp_path: Path) -> None:
    rows = clean(tmp_path)
    rows[4][3] = rows[0][3]
    found = audited(tmp_path, rows)
    assert [(entry.group, entry.splits) for entry in found.torn_groups] == [
        ("g0", ("train", "val"))
    ]
    assert "1 group is in more than one split, such as 'g0' in train, val." in found.warnings


def test_missing_and_rare_classes_are_warned_of(tmp_path: Path) -> None:
    rows = clean(tmp_path)
    kept = [row for row in rows if row[2] == "real" or (row[4] == "train" and int(row[3][1:]) < 20)]
    warnings = audited(tmp_path, kept).warnings
    assert "scenes: 40 of 46 pictures are real." in warnings
    assert "scenes: no fake picture in the val split." in warnings
    assert "scenes: no fake picture in the test split." in warnings
    only = audited(tmp_path, [row for row in rows if row[2] == "real"])
    assert only.warnings == ("There is no fake picture: nothing can be learned from one class.",)
    assert only.metadata == ()


def test_unreadable_pictures_are_listed_and_take_no_part(tmp_path: Path) -> None:
    rows = clean(tmp_path)
    (tmp_path / rows[0][0]).write_bytes(b"no picture")
    found = audited(tmp_path, rows)
    assert [Path(entry.file).name for entry in found.skipped] == ["0.jpg"]
    assert found.warnings == ("1 of 80 pictures cannot be read.",)
    assert sum(entry.pictures for entry in found.sizes) == 79
    for row in rows[:10]:
        (tmp_path / row[0]).write_bytes(b"no picture")
    assert "more than 5%, training would stop" in audited(tmp_path, rows).warnings[-1]
    for row in rows:
        (tmp_path / row[0]).write_bytes(b"no picture")
    with pytest.raises(DataError, match="None of the 80 pictures"):
        audited(tmp_path, rows)


def test_sets_are_measured_by_themselves_and_together(tmp_path: Path) -> None:
    rows = clean(tmp_path)
    for number, row in enumerate(rows):
        row[1] = "a" if number < 60 else "b"
    rows.append(["extra.png", "c", "real", "extra", "train", "site"])
    write(tmp_path / "extra.png", picture(1000))
    found = audited(tmp_path, rows)
    assert [(entry.set, entry.leakage is None) for entry in found.metadata] == [
        ("a", False), ("b", True), ("all", False),
    ]  # fmt: skip
