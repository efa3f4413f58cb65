import shutil
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedf.errors import ImageNotFound
from edgedf.runtime.folder import Failure, find_images


def make(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def found(places: object, **options: Path) -> list[str]:
    """Paths, relative to the current folder where they are; failures fail the test."""
    results = list(find_images(places, **options))  # type: ignore[arg-type]
    assert all(isinstance(result, str) for result in results), results
    return [str(result) for result in results]


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_folder_is_searched_with_its_subfolders_in_sorted_order(in_a_folder: Path) -> None:
    make(
        in_a_folder, "a/2.jpg", "a/1.PNG", "a/b/0.webp", "a/b/c/x.jpeg", "a/notes.txt", "a/raw.tiff"
    )
    assert found("a") == ["a/1.PNG", "a/2.jpg", "a/b/0.webp", "a/b/c/x.jpeg"]
    assert found(in_a_folder / "a")[0] == str(in_a_folder / "a" / "1.PNG")


def test_hidden_files_and_folders_are_left_out(in_a_folder: Path) -> None:
    make(in_a_folder, "a/1.jpg", "a/.2.jpg", "a/.thumbnails/3.jpg", ".hidden/4.jpg")
    assert found("a") == ["a/1.jpg"]
    assert found(".hidden") == [".hidden/4.jpg"]  # named, so meant


def test_a_link_to_a_folder_is_not_followed_so_circles_end(in_a_folder: Path) -> None:
    make(in_a_folder, "a/1.jpg", "other/2.jpg")
    (in_a_folder / "a" / "self").symlink_to(in_a_folder / "a")
    (in_a_folder / "a" / "other").symlink_to(in_a_folder / "other")
    assert found("a") == ["a/1.jpg"]
    assert found("a/other") == ["a/other/2.jpg"]


def test_a_file_is_taken_whatever_its_name(in_a_folder: Path) -> None:
    make(in_a_folder, "photo", "x.bin")
    assert found(["photo", "x.bin", "not-there.jpg"]) == ["photo", "x.bin", "not-there.jpg"]


def test_patterns_match_files_and_folders(in_a_folder: Path) -> None:
    make(in_a_folder, "a/1.jpg", "a/2.png", "b/c/3.jpg", "b/c/4.png")
    assert found("a/*.jpg") == ["a/1.jpg"]
    assert found("**/*.png") == ["a/2.png", "b/c/4.png"]
    assert found("?") == ["a/1.jpg", "a/2.png", "b/c/3.jpg", "b/c/4.png"]
    assert found("[b-z]/*/3.*") == ["b/c/3.jpg"]


def test_a_name_that_looks_like_a_pattern_is_a_file_first(in_a_folder: Path) -> None:
    make(in_a_folder, "[1].jpg", "1.jpg", "a*/2.jpg")
    assert found("[1].jpg") == ["[1].jpg"]
    assert found("a*") == ["a*/2.jpg"]


def test_no_path_comes_twice(in_a_folder: Path) -> None:
    make(in_a_folder, "a/1.jpg", "a/2.jpg")
    assert found(["a/2.jpg", "a", "./a/1.jpg", "a/*.jpg", in_a_folder / "a"]) == [
        "a/2.jpg",
        "a/1.jpg",
    ]


def test_the_folder_for_results_is_skipped_by_folders_and_patterns(in_a_folder: Path) -> None:
    make(in_a_folder, "a/1.jpg", "a/out/1_overlay.jpg", "a/out/sub/2.jpg", "a/output/3.jpg")
    wanted = ["a/1.jpg", "a/output/3.jpg"]
    for skip in ("a/out", "a/../a/out/", in_a_folder / "a" / "out"):
        assert found("a", skip=Path(skip)) == wanted
        assert found("**/*.jpg", skip=Path(skip)) == wanted
        assert found("a/*", skip=Path(skip)) == wanted
    assert found("a/out", skip=Path("a/out")) == ["a/out/1_overlay.jpg", "a/out/sub/2.jpg"]


def test_the_folder_for_results_is_skipped_by_any_of_its_names(in_a_folder: Path) -> None:
    make(in_a_folder, "a/1.jpg", "a/out/2.jpg")
    (in_a_folder / "link").symlink_to("a/out")
    assert found("a", skip=Path("link")) == ["a/1.jpg"]


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("empty", "There is no image in empty."),
        ("*.nothing", "Nothing matches *.nothing."),
        ("", "'' is not a path."),
        ("a\0b", "is not a path."),
    ],
)
def test_a_place_with_nothing_in_it_is_one_failure(
    in_a_folder: Path, place: str, said: str
) -> None:
    make(in_a_folder, "empty/notes.txt")
    (failure,) = find_images(place)
    assert isinstance(failure, Failure)
    assert isinstance(failure.error, ImageNotFound)
    assert said in failure.error.message
    assert failure.error.expected
    assert failure.to_dict()["error"]["kind"] == "ImageNotFound"


def test_failures_stand_between_what_was_found(in_a_folder: Path) -> None:
    make(in_a_folder, "a/1.jpg", "b/2.jpg", "empty/x.txt")
    results = list(find_images(["a", "empty", "b"]))
    assert [type(result) for result in results] == [str, Failure, str]


def test_a_folder_that_cannot_be_searched_is_a_failure(in_a_folder: Path) -> None:
    make(in_a_folder, "a/1.jpg", "a/b/2.jpg", "a/c/3.jpg")
    results = find_images("a")
    assert next(results) == "a/1.jpg"
    shutil.rmtree("a/b")  # no permission looks the same, but not to root
    rest = list(results)
    assert rest[0] == "a/c/3.jpg"
    (failure,) = rest[1:]
    assert isinstance(failure, Failure)
    assert failure.error.message == "Cannot search a/b: No such file or directory."


def test_a_name_that_no_file_system_takes_is_passed_on_for_the_reader_to_refuse() -> None:
    assert found("x" * 5000) == ["x" * 5000]


def test_searching_is_lazy(in_a_folder: Path) -> None:
    make(in_a_folder, "a/1.jpg", "a/b/2.jpg")
    results = find_images("a")
    assert next(results) == "a/1.jpg"
    make(in_a_folder, "a/b/3.jpg")
    assert list(results) == ["a/b/2.jpg", "a/b/3.jpg"]


_NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=12)


@settings(max_examples=40, deadline=None)
@given(st.lists(_NAMES, min_size=1, max_size=6, unique=True))
def test_every_image_is_found_once_whatever_it_is_called(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("names")
    paths = {str(folder / f"{name}.jpg") for name in names if not name.startswith(".")}
    for path in paths:
        Path(path).write_bytes(b"x")
    if paths:
        results = found(folder)
        assert len(results) == len(set(results))
        assert set(results) == paths


def test_leading_folders_that_exist_mean_themselves(in_a_folder: Path) -> None:
    make(in_a_folder, "photos [2023]/a?/1.jpg", "photos [2023]/ab/2.jpg", "photos 2/ab/3.jpg")
    assert found("photos [2023]/*/*.jpg") == ["photos [2023]/a?/1.jpg", "photos [2023]/ab/2.jpg"]
    assert found("photos [2023]/a?/*.jpg") == ["photos [2023]/a?/1.jpg"]
    assert found("photos [2023]/a[b]/*") == ["photos [2023]/ab/2.jpg"]
    assert found(f"{in_a_folder}/photos [2023]/**/2.*") == [f"{in_a_folder}/photos [2023]/ab/2.jpg"]
    assert found("photos [0-9]/**/*.jpg") == ["photos 2/ab/3.jpg"]


def test_every_suffix_of_a_jpeg_is_taken_and_others_are_counted(in_a_folder: Path) -> None:
    make(
        in_a_folder, "a/1.jfif", "a/2.JPE", "a/3.heic", "b/4.gif", "b/5.HEIC", "c/6.tif", "c/7.jpg"
    )
    left_out: Counter[str] = Counter()
    places = list(find_images(["a", "b", "c*", "b/4.gif"], left_out=left_out))
    assert [str(place) for place in places if isinstance(place, str)] == [
        *("a/1.jfif", "a/2.JPE", "c/7.jpg", "b/4.gif")
    ]
    assert left_out == {".heic": 2, ".gif": 1, ".tif": 1}
