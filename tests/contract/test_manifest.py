import codecs
from pathlib import Path

import pytest

from edgedf.errors import DataError
from edgedf.manifest import read_samples

TABLE = "file,set,label,group,split,source\r\na.png,scenes,real,g1,train,Zürich\r\n"


def written(folder: Path, data: bytes) -> Path:
    (folder / "a.png").touch()
    path = folder / "manifest.csv"
    path.write_bytes(data)
    return path


def test_a_byte_order_mark_in_front_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    plain = read_samples(written(tmp_path, TABLE.encode()))
    assert read_samples(written(tmp_path, codecs.BOM_UTF8 + TABLE.encode())) == plain
    assert plain[0].source == "Zürich"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_named(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(DataError, match="it is in UTF-16") as caught:
        read_samples(written(tmp_path, TABLE.encode(encoding)))
    assert "UTF-8" in caught.value.next_step


@pytest.mark.parametrize(("separator", "name"), [(";", "semicolons"), ("\t", "tabs")])
def test_other_separators_are_named(tmp_path: Path, separator: str, name: str) -> None:
    data = codecs.BOM_UTF8 + TABLE.replace(",", separator).encode()
    with pytest.raises(DataError, match=f"has {name} between its columns") as caught:
        read_samples(written(tmp_path, data))
    assert "commas" in caught.value.expected


def test_a_name_that_no_file_system_takes_is_a_missing_picture(tmp_path: Path) -> None:
    table = TABLE + TABLE.splitlines()[1].replace("a.png", "x" * 5000) + "\n"
    with pytest.raises(DataError, match="1 of 2 pictures"):
        read_samples(written(tmp_path, table.encode()))
