from pathlib import Path

import pytest

from edgedf.distill.datasets.dataset import Sample
from edgedf.distill.datasets.readable import readable
from edgedf.errors import DataError
from tests.distill.datasets.trees import picture, write


def samples(folder: Path, good: int, *bad: bytes) -> list[Sample]:
    paths = [write(folder / f"{number}.png", picture(number)) for number in range(good)]
    for number, data in enumerate(bad):
        path = folder / f"bad{number}.jpg"
        path.write_bytes(data)
        paths.insert(number, path)
    return [Sample(path, "scenes", "real", path.name, "train", "camera") for path in paths]


def test_unreadable_pictures_are_skipped_and_listed(tmp_path: Path) -> None:
    all_of_them = samples(tmp_path, 40, b"", b"GIF89a")
    seen: list[tuple[str, int, int]] = []
    good, skipped = readable(all_of_them, progress=lambda *step: seen.append(step))
    assert list(good) == all_of_them[2:]
    assert [Path(entry.file).name for entry in skipped] == ["bad0.jpg", "bad1.jpg"]
    assert "empty" in skipped[0].reason
    assert "GIF" in skipped[1].reason
    assert seen[-1] == ("reading pictures", 42, 42)
    assert readable([]) == ((), ())


def test_a_picture_larger_than_the_guard_is_not_decoded(tmp_path: Path) -> None:
    data = bytearray(write(tmp_path / "huge.png", picture(1)).read_bytes())
    data[16:24] = (1 << 30).to_bytes(4, "big") * 2
    _, skipped = readable(samples(tmp_path, 20, bytes(data)))
    assert "1073741824 x 1073741824 pixels" in skipped[0].reason


def test_more_than_five_percent_stop(tmp_path: Path) -> None:
    assert len(readable(samples(tmp_path / "a", 19, b""))[1]) == 1
    with pytest.raises(DataError, match=r"1 of 19 pictures cannot be read.*bad0\.jpg"):
        readable(samples(tmp_path / "b", 18, b""))
