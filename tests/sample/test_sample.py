import csv
import dataclasses
import hashlib
import os
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from edgedf import sample
from edgedf.errors import DataError, EdgedfError
from edgedf.imaging import RGBImage, load_image
from edgedf.sample import SampleImage
from experiments import build_sample
from experiments.build_sample import Recipe

IMAGES = sample.images()
ROOT = sample.folder().parent

OPEN_LICENCES = {
    "CC0-1.0",
    "CC-BY-1.0",
    "CC-BY-2.0",
    "CC-BY-3.0",
    "CC-BY-4.0",
    "CC-BY-SA-3.0",
    "CC-BY-SA-4.0",
    "LicenseRef-Public-Domain",
}


def rows() -> list[dict[str, str]]:
    with (ROOT / "sample.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def photo_of(fake: SampleImage) -> SampleImage:
    (photo,) = (image for image in IMAGES if image.group == fake.group and image.kind == "photo")
    return photo


FAKES = [image for image in IMAGES if image.label == "fake"]


# What is shipped


def test_there_are_enough_images_of_both_classes_in_both_splits() -> None:
    labels = Counter(image.label for image in IMAGES)
    assert 44 <= labels["real"] <= 80
    assert labels["fake"] >= 36
    splits = Counter(image.split for image in IMAGES)
    assert splits["calibration"] >= 32 and splits["check"] >= 24
    both = Counter((image.split, image.label) for image in IMAGES)
    assert min(both[split, label] for split in splits for label in labels) >= 10
    kinds = Counter(image.kind for image in IMAGES)
    assert kinds["photo"] == labels["real"]
    assert min(kinds["self_blend"], kinds["synthetic_blur"]) >= 15


def test_everything_together_has_at_most_six_megabytes() -> None:
    shipped = [path for pattern in ("*.csv", "*.md", "images/*") for path in ROOT.glob(pattern)]
    assert len(shipped) == len(IMAGES) + 3
    assert sum(path.stat().st_size for path in shipped) <= 6_000_000


def test_the_list_and_the_folder_name_the_same_files() -> None:
    listed = [image.path for image in IMAGES]
    assert len(set(listed)) == len(listed)
    assert set(listed) == set(sample.folder().iterdir())


def test_no_original_is_in_both_splits() -> None:
    splits = defaultdict(set)
    for image in IMAGES:
        splits[image.group].add(image.split)
    assert all(len(found) == 1 for found in splits.values())
    assert len(splits) == sum(image.kind == "photo" for image in IMAGES)


def test_every_image_decodes_and_some_are_not_square() -> None:
    shapes = Counter(load_image(image).shape for image in IMAGES)
    assert shapes[384, 384, 3] > len(IMAGES) / 2
    assert shapes[384, 512, 3] >= 5 and shapes[512, 384, 3] >= 2
    assert all(min(height, width) >= 300 for height, width, _ in shapes)


def test_images_are_photographs_with_detail_and_differ_from_each_other() -> None:
    thumbnails = np.array(
        [cv2.resize(load_image(image), (32, 32), interpolation=cv2.INTER_AREA) for image in IMAGES],
        np.float32,
    )
    assert thumbnails.reshape(len(IMAGES), -1).std(axis=1).min() > 10
    distance = np.abs(thumbnails[:, np.newaxis] - thumbnails).mean(axis=(2, 3, 4))
    groups = np.array([image.group for image in IMAGES])
    assert distance[groups[:, np.newaxis] != groups].min() > 15


@pytest.mark.parametrize("fake", FAKES, ids=lambda fake: fake.path.stem)
def test_a_fake_shows_its_photograph_changed(fake: SampleImage) -> None:
    photo = photo_of(fake)
    assert (fake.split, fake.licence, fake.author) == (photo.split, photo.licence, photo.author)
    changed, original = load_image(fake), load_image(photo)
    assert changed.shape == original.shape
    change = np.abs(changed.astype(np.float32) - original).mean(axis=2)
    assert 0.5 < change.mean() < 30
    assert np.quantile(change, 0.99) > 4


# The format must not give the answer


def auc(fake: list[int], real: list[int]) -> float:
    """Share of pairs in which the fake has the larger number; ties count half."""
    difference = np.subtract.outer(np.array(fake), np.array(real))
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())


def test_the_size_in_bytes_does_not_tell_fakes_from_photographs() -> None:
    sizes = defaultdict(list)
    for image in IMAGES:
        sizes[image.label].append(image.path.stat().st_size)
    assert 0.3 < auc(sizes["fake"], sizes["real"]) < 0.7


def test_the_format_of_all_files_is_the_same_and_carries_no_metadata() -> None:
    facts = set()
    for image in IMAGES:
        with Image.open(image) as opened:
            assert opened.format == "JPEG" and opened.mode == "RGB"
            assert set(opened.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
            layers = getattr(opened, "layer")  # noqa: B009  # Pillow's stubs do not know it
            tables = opened.quantization  # type: ignore[attr-defined]
            facts.add((str(sorted(tables.items())), str(layers)))
    assert len(facts) == 1


def test_dimensions_do_not_tell_fakes_from_photographs() -> None:
    # Each size that fakes have, photographs have, and as often to within a factor of two.
    sizes = {label: Counter[tuple[int, ...]]() for label in ("real", "fake")}
    for image in IMAGES:
        sizes[image.label][load_image(image).shape] += 1
    square = {label: sizes[label][384, 384, 3] / sizes[label].total() for label in sizes}
    assert set(sizes["fake"]) == set(sizes["real"])
    assert abs(square["real"] - square["fake"]) < 0.1


# Rights


def test_every_row_names_author_title_origin_and_an_open_licence() -> None:
    for row in rows():
        assert all(row[column].strip() for column in sample.COLUMNS), row
        assert row["licence"] in OPEN_LICENCES


def test_every_photograph_is_attributed() -> None:
    lines = (ROOT / "ATTRIBUTION.md").read_text("utf-8").splitlines()
    for row in rows():
        if row["kind"] != "photo":
            continue
        (line,) = (line for line in lines if line.startswith(f"| {Path(row['file']).name} |"))
        for column in ("source_title", "author", "licence", "split", "origin"):
            assert f"| {row[column]} |" in line
    text = " ".join(lines)
    for licence in {row["licence"] for row in rows()}:
        assert f"| {licence} | " in text
    assert "cropped" in text and "scaled" in text and "carries the licence" in text


def test_fakes_say_what_they_were_made_from() -> None:
    for row in rows():
        if row["label"] == "fake":
            assert row["origin"] == f"edgedf from {row['group']}.jpg"


# The module


def test_an_image_can_be_used_as_a_path() -> None:
    first = sample.images()[0]
    assert isinstance(first, os.PathLike)
    assert os.fspath(first) == str(first.path)
    assert Path(first) == first.path
    assert np.array_equal(load_image(first), load_image(first.path))
    assert (first.label, first.kind) == ("real", "photo")


def test_images_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        sample.images()[0].label = "fake"  # type: ignore[misc]


def test_the_import_is_light() -> None:
    code = (
        "import sys, edgedf.sample as s; s.images(); s.folder();"
        "print([m for m in ('numpy', 'cv2', 'torch', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed sample that a test may damage."""
    root = tmp_path / "sample"
    shutil.copytree(ROOT, root)
    monkeypatch.setattr(sample, "_ROOT", root)
    assert len(sample.images()) == len(IMAGES)
    return root


def test_a_lost_image_is_named(copy: Path) -> None:
    lost = sample.images()[3].path
    lost.unlink()
    with pytest.raises(DataError, match=f"lacks images/{lost.name}") as caught:
        sample.images()
    assert "reinstall" in caught.value.next_step


def test_a_lost_folder_is_a_clear_error(copy: Path) -> None:
    shutil.rmtree(copy / "images")
    with pytest.raises(DataError, match="no images"):
        sample.folder()
    with pytest.raises(DataError, match="lacks images/"):
        sample.images()


def test_a_lost_list_is_a_clear_error(copy: Path) -> None:
    (copy / "sample.csv").unlink()
    with pytest.raises(DataError, match="list of the shipped sample"):
        sample.images()


@pytest.mark.parametrize(
    ("old", "new"),
    [(",real,", ",maybe,"), (",photo,", ",,"), ("label", "lable"), (",calibration,", ",")],
)
def test_a_damaged_list_is_a_clear_error(copy: Path, old: str, new: str) -> None:
    table = copy / "sample.csv"
    table.write_text(table.read_text("utf-8").replace(old, new, 1), "utf-8")
    with pytest.raises(DataError, match="is damaged"):
        sample.images()


def test_a_list_that_is_not_text_is_a_clear_error(copy: Path) -> None:
    (copy / "sample.csv").write_bytes(b"file,label\n\xff\xfe\n")
    with pytest.raises(DataError, match="cannot be read"):
        sample.images()


# The builder


def texture(seed: int, height: int, width: int) -> RGBImage:
    """A picture with structure at every scale."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3))
    for size in (4, 16, 64):
        noise = rng.uniform(-1, 1, (size, size, 3)).astype(np.float32)
        total += cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(128 + 60 * total, 0, 255).astype(np.uint8)


def write_recipe(path: Path, lines: list[dict[str, str]]) -> Path:
    columns = [field.name for field in dataclasses.fields(Recipe)]
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns, restval="")
        writer.writeheader()
        writer.writerows(lines)
    return path


@pytest.fixture
def originals(tmp_path: Path) -> Path:
    """Two originals and ``recipe.csv`` for them."""
    folder = tmp_path / "originals"
    folder.mkdir()
    lines = []
    places = ("left", "top", "crop_width", "crop_height", "width", "height")
    for seed, (name, box, size) in enumerate(
        [("square", (10, 20, 160, 160), (64, 64)), ("wide", (0, 5, 128, 96), (64, 48))]
    ):
        path = folder / f"{name}.png"
        cv2.imwrite(str(path), texture(seed, 190, 230))
        lines.append(
            {
                "original": path.name,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "name": name,
                "split": "check",
                **dict(zip(places, map(str, box + size), strict=True)),
                "fakes": "self_blend synthetic_blur" if name == "wide" else "",
                "source_title": f"A {name} | texture",
                "author": "edgedf",
                "licence": "CC-BY-SA-4.0",
                "origin": f"tests 1.0: {name}.png",
            }
        )
    write_recipe(folder / "recipe.csv", lines)
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_same_originals_give_the_same_bytes(originals: Path, tmp_path: Path) -> None:
    recipe = originals / "recipe.csv"
    assert build_sample.build(originals, tmp_path / "a", recipe) == 4
    code = build_sample.main(
        [str(originals), "--out", str(tmp_path / "b"), "--recipe", str(recipe)]
    )
    assert code == 0
    first = tree(tmp_path / "a")
    assert first == tree(tmp_path / "b")
    assert sorted(first) == [
        "ATTRIBUTION.md",
        "images/square.jpg",
        "images/wide-self-blend.jpg",
        "images/wide-synthetic-blur.jpg",
        "images/wide.jpg",
        "sample.csv",
    ]
    assert load_image(tmp_path / "a" / "images" / "wide-self-blend.jpg").shape == (48, 64, 3)
    assert first["images/wide.jpg"] != first["images/wide-self-blend.jpg"]


def test_what_is_built_can_be_used_as_the_sample(
    originals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_sample.build(originals, tmp_path / "built", originals / "recipe.csv")
    monkeypatch.setattr(sample, "_ROOT", tmp_path / "built")
    kinds = [(image.path.stem, image.label, image.kind) for image in sample.images()]
    assert kinds == [
        ("square", "real", "photo"),
        ("wide", "real", "photo"),
        ("wide-self-blend", "fake", "self_blend"),
        ("wide-synthetic-blur", "fake", "synthetic_blur"),
    ]
    assert "A wide \\| texture" in (tmp_path / "built" / "ATTRIBUTION.md").read_text("utf-8")


def test_scaling_averages_whole_blocks_of_the_crop_and_nothing_else(originals: Path) -> None:
    wide = build_sample.read_recipe(originals / "recipe.csv")[1]
    original = load_image(originals / wide.original)
    crop = original[5:101, 0:128].astype(np.float64)
    expected = np.floor(crop.reshape(48, 2, 64, 2, 3).mean(axis=(1, 3)) + 0.5)
    assert np.array_equal(build_sample.make_photo(wide, original), expected)


def test_the_shipped_list_follows_the_shipped_recipe() -> None:
    expected = [
        (recipe.name, recipe.split, kind, recipe.licence, recipe.author)
        for recipe in build_sample.read_recipe(ROOT / "recipe.csv")
        for kind in ("photo", *recipe.fakes)
    ]
    found = [
        (image.group, image.split, image.kind, image.licence, image.author) for image in IMAGES
    ]
    assert found == expected


def test_the_size_of_each_shipped_image_follows_the_recipe() -> None:
    sizes = {
        recipe.name: (recipe.height, recipe.width, 3)
        for recipe in build_sample.read_recipe(ROOT / "recipe.csv")
    }
    assert all(load_image(image).shape == sizes[image.group] for image in IMAGES)


def test_shipped_self_blends_have_their_seam_where_the_recipe_puts_it() -> None:
    recipes = {recipe.name: recipe for recipe in build_sample.read_recipe(ROOT / "recipe.csv")}
    found = []
    for fake in FAKES:
        if fake.kind != "self_blend":
            continue
        recipe = recipes[fake.group]
        change = load_image(fake).astype(np.float32) - load_image(photo_of(fake))
        height, width = change.shape[:2]
        y, x = np.mgrid[0:height, 0:width]
        distance = np.hypot(
            ((y + 0.5) / height - recipe.centre_y) / recipe.extent_y,
            ((x + 0.5) / width - recipe.centre_x) / recipe.extent_x,
        )
        # Within the region and well outside it the pictures differ by different amounts or tints.
        inside, outside = change[distance < 0.5].mean(axis=0), change[distance > 1.8].mean(axis=0)
        found.append(np.abs(inside - outside).max())
    assert np.median(found) > 5
    assert np.mean(np.array(found) > 1) > 0.9


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("fakes", "swap", "fakes 'swap'"),
        ("fakes", "self_blend self_blend", "at most once"),
        ("split", "train", "split 'train'"),
        ("left", "ten", "ten"),
        ("name", "../up", "plain file names"),
        ("name", "square", "a name twice"),
        ("licence", " ", "no licence"),
        ("left", "200", "cannot make 64 x 48"),
        ("top", "-1", "cannot make 64 x 48"),
        ("width", "256", "cannot make 256 x 48"),
        ("height", "64", "cannot make 64 x 64"),
        ("original", "gone.png", "is missing"),
        ("sha256", "0" * 64, "not the one of the recipe"),
    ],
)
def test_a_wrong_recipe_is_a_clear_error_and_no_traceback(
    originals: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    column: str,
    value: str,
    message: str,
) -> None:
    with (originals / "recipe.csv").open(encoding="utf-8", newline="") as stream:
        lines = list(csv.DictReader(stream))
    lines[1][column] = value
    recipe = write_recipe(tmp_path / "wrong.csv", lines)
    code = build_sample.main(
        [str(originals), "--out", str(tmp_path / "out"), "--recipe", str(recipe)]
    )
    assert code == 1
    printed = capsys.readouterr().err
    assert message in printed and "Traceback" not in printed


@pytest.mark.parametrize("content", [b"", b"original,name\n", b"original\n\xff\xfe\n", b"a\nb\n"])
def test_a_file_that_is_no_recipe_is_a_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "recipe.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match="recipe"):
        build_sample.read_recipe(path)
    with pytest.raises(DataError, match="cannot be read"):
        build_sample.read_recipe(tmp_path / "none.csv")


def test_a_plain_picture_cannot_be_self_blended(originals: Path) -> None:
    wide = build_sample.read_recipe(originals / "recipe.csv")[1]
    nothing = dataclasses.replace(wide, centre_x=5.0, centre_y=5.0)
    with pytest.raises(DataError, match="too plain"):
        build_sample.make_fake(nothing, texture(0, 48, 64), "self_blend")


def test_an_unknown_kind_of_fake_lists_the_known_ones(originals: Path) -> None:
    wide = build_sample.read_recipe(originals / "recipe.csv")[1]
    with pytest.raises(EdgedfError, match="self_blend, synthetic_blur"):
        build_sample.make_fake(wide, texture(0, 48, 64), "swap")
