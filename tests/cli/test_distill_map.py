import json
import shutil
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from skimage import data

from edgedf.cli import distill_map, main
from edgedf.distill.optics.maps import defocus_map
from edgedf.imaging import preprocess
from tests.cli.runs import assert_clear, run

SIZE = 64


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with ``photos/``: two photographs in it and one in a folder below."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("NO_COLOR", "1")
    whole = data.stereo_motorcycle()[0][:, :, ::-1]
    (tmp_path / "photos" / "trip").mkdir(parents=True)
    for index, name in enumerate(("a.png", "b.jpg", "trip/a.png")):
        cv2.imwrite(f"photos/{name}", whole[index * 60 : index * 60 + 120, 100:300])
    return tmp_path


def map_photos(*options: str) -> int:
    return main(["distill", "map", "photos", "--size", str(SIZE), "--workers", "1", *options])


def maps(folder: str = "maps", suffix: str = "png") -> list[Path]:
    return sorted(Path(folder).glob(f"*.{suffix}"))


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("profile", ["physical", "reference"])
@pytest.mark.parametrize("suffix", ["png", "npy"])
def test_the_files_hold_the_maps_in_pixels(
    photos: Path, capsys: pytest.CaptureFixture[str], profile: str, suffix: str
) -> None:
    npy = ["--npy"] if suffix == "npy" else []
    assert map_photos("--json", "--profile", profile, *npy) == 0
    said = rows(capsys.readouterr().out)
    assert [row["source"] for row in said] == [
        "photos/a.png",
        "photos/b.jpg",
        "photos/trip/a.png",
    ]
    assert len(maps(suffix=suffix)) == 3
    for row in said:
        image = preprocess(row["source"], SIZE)
        expected = defocus_map(image, profile)  # type: ignore[arg-type]
        if suffix == "npy":
            found = np.load(row["map"])
            assert found.dtype == np.float32
        else:
            stored = np.asarray(cv2.imread(row["map"], cv2.IMREAD_UNCHANGED))
            assert stored.dtype == np.uint16
            found, expected = stored * row["unit_px"], np.maximum(expected, 0)
        np.testing.assert_allclose(found, expected, atol=1e-4)
        assert row["sigma_px"]["mean"] == pytest.approx(float(expected.mean()), abs=1e-3)
        assert cv2.imread(row["preview"]) is not None


def test_the_table_names_map_and_photograph_and_the_end_sums_up(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert map_photos() == 0
    out, err = capsys.readouterr()
    header, *lines = out.splitlines()
    assert header.split() == ["mean", "px", "max", "px", "map"]
    assert len(lines) == 3
    assert str(maps()[0]) in out
    assert "3 maps written" in err


def test_a_second_run_keeps_what_is_there_and_does_what_is_missing(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert map_photos() == 0
    first, *others = maps()
    before = {path: path.stat().st_mtime_ns for path in others}
    first.unlink()
    capsys.readouterr()
    assert map_photos() == 0
    assert "1 map written, 2 there already" in capsys.readouterr().err
    assert first.exists()
    assert {path: path.stat().st_mtime_ns for path in others} == before
    assert map_photos("--force") == 0
    assert "3 maps written" in capsys.readouterr().err


def test_another_picture_under_the_same_name_gets_a_map_of_its_own(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert map_photos() == 0
    shutil.copy("photos/b.jpg", "photos/a.png")
    assert map_photos() == 0
    assert len({path.name for path in maps()}) == 4
    assert "1 map written" in capsys.readouterr().err.splitlines()[-1]


def test_broken_images_are_reported_and_the_rest_is_done(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("photos/bad.jpg").write_bytes(b"\xff\xd8\xff\xe0cut off")
    Path("photos/empty.png").touch()
    Path("photos/other.heic").touch()
    assert map_photos("--json") == distill_map.SOME_FAILED
    out, err = capsys.readouterr()
    failed = [row["source"] for row in rows(out) if "error" in row]
    assert failed == ["photos/bad.jpg", "photos/empty.png"]
    assert len(maps()) == 3
    assert err.count("Failed: ") == 2
    assert "3 maps written, 2 failed" in err
    assert "1 file left out for their suffix: 1 .heic." in err
    assert "Traceback" not in err


@pytest.mark.parametrize("what", ["missing.jpg", "nothing/*.jpg", "empty"])
def test_nothing_to_read_is_said_and_exits_with_2(
    photos: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    Path("empty").mkdir()
    assert main(["distill", "map", what]) == distill_map.NOTHING_READ
    err = capsys.readouterr().err
    assert what in err
    assert "Expected: " in err
    assert not Path("maps").exists()


def test_maps_in_the_searched_folder_are_not_taken_for_photographs(photos: Path) -> None:
    assert map_photos("--out", "photos/maps") == 0
    assert map_photos("--out", "photos/maps") == 0
    assert len(maps("photos/maps")) == 3


@pytest.mark.parametrize("options", [("--size", "8"), ("--out", "photos/a.png")])
def test_what_cannot_be_done_is_one_clear_error(photos: Path, options: tuple[str, str]) -> None:
    done = run("distill", "map", "photos", "--workers", "1", *options, cwd=photos)
    assert done.returncode == 2
    assert_clear(done.stderr)
    assert not list(photos.rglob(".*-*"))  # no half-written file


def test_the_whole_picture_is_measured_where_asked(photos: Path) -> None:
    arguments = ["distill", "map", "photos/a.png", "--size", "0", "--npy", "--workers", "1"]
    assert main(arguments) == 0
    (path,) = maps(suffix="npy")
    assert np.load(path).shape == (120, 200)


def test_two_workers_write_what_one_writes(photos: Path) -> None:
    assert map_photos("--npy") == 0
    done = run(
        *("distill", "map", "photos", "--size", str(SIZE), "--workers", "2"),
        *("--npy", "--out", "others"),
        cwd=photos,
    )
    assert done.returncode == 0, done.stderr
    names = [path.name for path in maps(suffix="npy")]
    assert [path.name for path in maps("others", "npy")] == names
    for name in names:
        np.testing.assert_allclose(
            np.load(Path("maps") / name), np.load(Path("others") / name), atol=1e-4
        )


def test_the_help_has_examples_and_loads_nothing_heavy(tmp_path: Path) -> None:
    done = run("distill", "map", "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "edgedf distill map photos/ --out maps/" in " ".join(done.stdout.split())
    assert run("distill", "--help", cwd=tmp_path).stdout.count("map") >= 1


def test_without_the_extra_the_command_to_install_it_is_printed(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "edgedf.distill.optics.batch", None)
    assert map_photos() == 2
    assert "pip install 'edgedf[distill]'" in capsys.readouterr().err
