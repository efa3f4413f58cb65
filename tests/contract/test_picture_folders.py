from collections import Counter
from pathlib import Path

import pytest

from edgedf.picture_folders import class_of_folder, left_out_text, walk_pictures


@pytest.mark.parametrize(
    ("name", "label"),
    [
        *((name, "real") for name in ("real", "Real", "REAL", "0_real", "0 real", "00-Real")),
        *((name, "fake") for name in ("fake", "Fake", "FAKE", "1_fake", "1.FAKE", "1fake")),
        *((name, None) for name in ("", "reality", "unreal", "real_", "0_", "real fake", "photos")),
    ],
)
def test_class_folders_by_their_names(name: str, label: str | None) -> None:
    assert class_of_folder(name) == label


def test_every_suffix_that_is_no_pictures_is_counted(tmp_path: Path) -> None:
    names = (
        "a.jpg",
        "b.JFIF",
        "c.jpe",
        "d.heic",
        "e.HEIC",
        "f.gif",
        "notes",
        "in/g.png",
        "in/h.tif",
    )
    for name in (*names, ".hidden.heic", ".thumbs/x.heic"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    left_out: Counter[str] = Counter()
    found = walk_pictures(
        tmp_path, onerror=lambda error: pytest.fail(str(error)), left_out=left_out
    )
    assert [Path(path).name for path in found] == ["a.jpg", "b.JFIF", "c.jpe", "g.png"]
    assert left_out == {".heic": 2, ".gif": 1, "": 1, ".tif": 1}
    assert left_out_text(left_out) == (
        "5 files left out for their suffix: 2 .heic, 1 without one, 1 .gif, 1 .tif"
    )


def test_a_great_many_suffixes_are_summed_up() -> None:
    said = left_out_text({f".{letter}": 1 for letter in "abcdefgh"} | {".heic": 9})
    assert said == (
        "17 files left out for their suffix: 9 .heic, 1 .a, 1 .b, 1 .c, 1 .d, 1 .e, 3 others"
    )
    assert left_out_text({".gif": 1}) == "1 file left out for their suffix: 1 .gif"
