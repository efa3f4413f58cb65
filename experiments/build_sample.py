"""Make the shipped sample from its originals: crops, fakes, list and attribution.

::

    python -m experiments.build_sample ORIGINALS_DIR --out DIR

``edgedf/sample/recipe.csv`` has a line a photograph: the original's file name and sha256, the
crop, the size, the fakes to make, and who took it under which licence. The same originals and
recipe give the same bytes with the same versions of NumPy and OpenCV.

A photograph and its fakes are cropped and scaled alike and are each encoded once, at the same
quality, so neither format nor size nor generations of JPEG tell them apart. One script, long as it
is: recipe, pictures and attribution are of no use without each other.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from edgedf import sample
from edgedf.distill.fakes.blend import blob_mask, self_blend
from edgedf.distill.optics.lens import ThinLens
from edgedf.distill.optics.render import random_depth, render
from edgedf.errors import DataError, EdgedfError
from edgedf.files import open_text, sha256_of, write_bytes, write_text
from edgedf.imaging import RGBImage, load_image, resize_exact

__all__ = ["JPEG_QUALITY", "Recipe", "build", "encode", "make_fake", "make_photo", "read_recipe"]

JPEG_QUALITY = 90

_SEED = 20
_FAKES = tuple(kind for kind in get_args(sample.Kind) if kind != "photo")
_DRAWS = 50

# A blend that nobody could see would be a wrong label; one that jumps at you, a useless example.
_VISIBLE = (4.0, 25.0)
# Blur of the 95th percentile of the pixels: standard deviation at 384 pixels.
_BLUR = (1.8, 4.0)


@dataclass(frozen=True)
class Recipe:
    """One line of the recipe: a photograph and the fakes to make of it.

    Args:
        original: File name in the folder of originals.
        sha256: Of that file.
        name: Stem of the file names made, and the group.
        split: ``calibration`` or ``check``.
        left: Left edge of the crop in pixels of the upright original.
        top: Its top edge.
        crop_width: Its width.
        crop_height: Its height.
        width: Width of the picture made; at most the crop's, with the same aspect ratio.
        height: Its height.
        fakes: Kinds of fakes, separated by spaces; may be empty.
        centre_y: Row of the middle of the region to blend (a face, where there is one), as a
            share of the crop's height; 0.5 when empty, like ``centre_x``.
        centre_x: Its column.
        extent_y: Half the region's height as a share; 0.3 when empty, like ``extent_x``.
        extent_x: Half its width.
        source_title: Title of the photograph.
        author: Who took it.
        licence: SPDX identifier.
        origin: The package that carries the original, its version, and the path inside.
        source: Where the author published it; may be empty.
    """

    original: str
    sha256: str
    name: str
    split: str
    left: int
    top: int
    crop_width: int
    crop_height: int
    width: int
    height: int
    fakes: tuple[str, ...]
    centre_y: float
    centre_x: float
    extent_y: float
    extent_x: float
    source_title: str
    author: str
    licence: str
    origin: str
    source: str


def read_recipe(path: Path) -> tuple[Recipe, ...]:
    """Read a recipe.

    Args:
        path: A CSV file with the fields of :class:`Recipe` as columns.

    Raises:
        DataError: The file cannot be read, or a line is not a recipe.
    """
    columns = [field.name for field in fields(Recipe)]
    try:
        with open_text(path, newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"The recipe {path} cannot be read: {error}.") from error
    recipes = []
    for line, row in enumerate(rows, start=2):
        try:
            recipes.append(_recipe(row))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"Line {line} of the recipe {path} is wrong: {error}.",
                expected=", ".join(columns),
            ) from error
    names = [recipe.name for recipe in recipes]
    if not names or len(set(names)) != len(names):
        raise DataError(
            f"The recipe {path} is empty or uses a name twice.", expected="a name a line"
        )
    return tuple(recipes)


def make_photo(recipe: Recipe, original: RGBImage) -> RGBImage:
    """Crop and scale an original.

    Args:
        recipe: Which crop and which size.
        original: uint8 RGB, (height, width, 3), upright.

    Returns:
        uint8 RGB, (recipe.height, recipe.width, 3).

    Raises:
        DataError: The crop leaves the picture, or the size has another shape or is larger.
    """
    height, width = original.shape[:2]
    right, bottom = recipe.left + recipe.crop_width, recipe.top + recipe.crop_height
    inside = 0 <= recipe.left < right <= width and 0 <= recipe.top < bottom <= height
    same_shape = recipe.crop_width * recipe.height == recipe.crop_height * recipe.width
    if not (inside and same_shape and 0 < recipe.width <= recipe.crop_width):
        raise DataError(
            f"{recipe.name}: cannot make {recipe.width} x {recipe.height} of a crop of "
            f"{recipe.crop_width} x {recipe.crop_height} at ({recipe.left}, {recipe.top}) in "
            f"{width} x {height}.",
            expected="a crop inside the original, at least as large, of the same shape",
        )
    crop = original[recipe.top : bottom, recipe.left : right]
    # resize_exact takes squares. Black below or beside the crop ends at an output pixel's edge,
    # as the shapes are the same, so none of it is averaged in.
    side = max(crop.shape[:2])
    square = np.zeros((side, side, 3), np.uint8)
    square[: crop.shape[0], : crop.shape[1]] = crop
    scaled = resize_exact(square, max(recipe.width, recipe.height))
    return np.ascontiguousarray(scaled[: recipe.height, : recipe.width])


def make_fake(recipe: Recipe, photo: RGBImage, kind: str) -> RGBImage:
    """Make a fake; the same photograph and kind always give the same one.

    Args:
        recipe: Its name seeds the randomness; centre and extent place the blended region.
        photo: uint8 RGB, (height, width, 3), sharp where ``kind`` is ``synthetic_blur``.
        kind: ``self_blend`` or ``synthetic_blur``.

    Returns:
        uint8 RGB of the same shape.

    Raises:
        DataError: No such kind, or the picture is too plain to show a blend.
    """
    rng = np.random.default_rng([_SEED, zlib.crc32(f"{recipe.name} {kind}".encode())])
    if kind == "self_blend":
        return _blend(recipe, photo, rng)
    if kind == "synthetic_blur":
        return _blur(photo, rng)
    raise DataError(f"There is no kind of fake '{kind}'.", expected=", ".join(_FAKES))


def encode(image: RGBImage) -> bytes:
    """JPEG of quality :data:`JPEG_QUALITY`, 4:2:0, optimised tables, no metadata.

    Args:
        image: uint8 RGB.
    """
    options = (
        (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY),
        (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420),
        (cv2.IMWRITE_JPEG_OPTIMIZE, 1),
    )
    flat = [int(number) for option in options for number in option]
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(image[:, :, ::-1]), flat)
    return bytes(data)


def build(originals: Path, out: Path, recipe: Path | None = None) -> int:
    """Make ``images/``, ``sample.csv`` and ``ATTRIBUTION.md``.

    Args:
        originals: Folder with the originals under the names of the recipe.
        out: Folder to write to; files of the same name are replaced, others stay.
        recipe: The recipe; None for the one of the shipped sample.

    Returns:
        Number of images written.

    Raises:
        DataError: The recipe is wrong, or an original is missing or another one.
        ImageError: An original cannot be decoded.
        OutputError: ``out`` cannot be written.
    """
    recipes = read_recipe(recipe or Path(sample.__file__).parent / "recipe.csv")
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(sample.COLUMNS)
    count = 0
    for line in recipes:
        photo = make_photo(line, _original(originals, line))
        for kind in ("photo", *line.fakes):
            name = line.name if kind == "photo" else f"{line.name}-{kind.replace('_', '-')}"
            image = photo if kind == "photo" else make_fake(line, photo, kind)
            write_bytes(out / "images" / f"{name}.jpg", encode(image))
            real = kind == "photo"
            writer.writerow(
                (
                    f"images/{name}.jpg",
                    "real" if real else "fake",
                    kind,
                    line.name,
                    line.split,
                    line.source_title,
                    line.author,
                    line.licence,
                    line.origin if real else f"edgedf from {line.name}.jpg",
                )
            )
            count += 1
    write_text(out / "sample.csv", table.getvalue())
    write_text(out / "ATTRIBUTION.md", _attribution(recipes))
    return count


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line.

    Returns:
        Exit code: 0, or 1 after an error, which is printed.
    """
    parser = argparse.ArgumentParser(
        prog="python -m experiments.build_sample",
        description="Make the shipped sample from its originals.",
    )
    parser.add_argument("originals", type=Path, metavar="ORIGINALS_DIR")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--recipe", type=Path, metavar="CSV", help="default: the shipped one")
    options = parser.parse_args(arguments)
    try:
        count = build(options.originals, options.out, options.recipe)
    except EdgedfError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    print(f"{count} images in {options.out}")
    return 0


def _recipe(row: dict[str, str]) -> Recipe:
    def number(column: str, default: float) -> float:
        return float(row[column]) if row[column] else default

    texts = {
        column: row[column].strip()
        for column in ("original", "sha256", "name", "source_title", "author", "licence", "origin")
    }
    empty = [column for column, text in texts.items() if not text]
    if empty:
        raise ValueError(f"no {empty[0]}")
    if row["split"] not in ("calibration", "check"):
        raise ValueError(f"split '{row['split']}' is neither calibration nor check")
    kinds = tuple(row["fakes"].split())
    unknown = [kind for kind in kinds if kind not in _FAKES]
    if unknown or len(set(kinds)) != len(kinds):
        raise ValueError(f"fakes '{row['fakes']}' are not {', '.join(_FAKES)}, each at most once")
    # Both become file names.
    if any(Path(texts[column]).name != texts[column] for column in ("original", "name")):
        raise ValueError("original and name must be plain file names")
    return Recipe(
        split=row["split"],
        left=int(row["left"]),
        top=int(row["top"]),
        crop_width=int(row["crop_width"]),
        crop_height=int(row["crop_height"]),
        width=int(row["width"]),
        height=int(row["height"]),
        fakes=kinds,
        centre_y=number("centre_y", 0.5),
        centre_x=number("centre_x", 0.5),
        extent_y=number("extent_y", 0.3),
        extent_x=number("extent_x", 0.3),
        source=row["source"].strip(),
        **texts,
    )


def _original(folder: Path, recipe: Recipe) -> RGBImage:
    path = folder / recipe.original
    if not path.is_file():
        raise DataError(
            f"The original {path} is missing.",
            expected=f"{recipe.original} from {recipe.origin}",
            next_step="take it from that package and run this again",
        )
    if sha256_of(path) != recipe.sha256:
        raise DataError(
            f"The original {path} is not the one of the recipe.",
            expected=f"sha256 {recipe.sha256}",
            next_step=f"take it from {recipe.origin}",
        )
    return load_image(path)


def _blend(recipe: Recipe, photo: RGBImage, rng: np.random.Generator) -> RGBImage:
    height, width = photo.shape[:2]
    for _ in range(_DRAWS):
        mask = blob_mask(
            height,
            width,
            rng,
            centre=(recipe.centre_y, recipe.centre_x),
            extent=(recipe.extent_y, recipe.extent_x),
        )
        fake = self_blend(photo, mask, rng)
        change = np.abs(fake.astype(np.float32) - photo)[mask > 0.5]
        if change.size and _VISIBLE[0] <= float(change.mean()) <= _VISIBLE[1]:
            return fake
    raise DataError(
        f"{recipe.name} is too plain for a self-blend: {_DRAWS} draws changed too little or too "
        "much.",
        next_step="choose another crop or another kind of fake",
    )


def _blur(photo: RGBImage, rng: np.random.Generator) -> RGBImage:
    """Depth of field of a depth layout that has nothing to do with the scene."""
    height, width = photo.shape[:2]
    pitch = 36_000 / width
    while True:
        depth: NDArray[np.float32] = random_depth(height, width, rng)
        focus = float(np.quantile(depth, rng.uniform(0.05, 0.95)))
        spread = np.abs(ThinLens(50, 1.0, focus, pitch).signed_coc_px(depth)) / 4
        strongest = float(np.quantile(spread, 0.95))
        # A layout of one depth has nothing out of focus; draw another.
        if strongest > 0.5:
            break
    # The circle of confusion is inversely proportional to the f-number.
    wanted = rng.uniform(*_BLUR) * min(height, width) / 384
    return render(photo, depth, ThinLens(50, strongest / wanted, focus, pitch)).image


def _attribution(recipes: Sequence[Recipe]) -> str:
    lines = [
        "# Attribution of the shipped sample",
        "",
        "Every picture in `images/` is a photograph listed here, or a fake that",
        "`experiments.build_sample` made of one.",
        "",
        "**Changes.** The photographs were cropped, most were scaled down, and all were encoded",
        "again as JPEG; `recipe.csv` has the exact crop and size. GCompris had cropped, scaled and",
        "sharpened most of its pictures before. Files that end in `-self-blend` or",
        "`-synthetic-blur` were changed further: part of the picture was replaced by a changed",
        "copy of itself, or depth of field was added. Neither the authors nor the people shown",
        "had a part in that, and none of them endorses edgedf.",
        "",
        "**Licences.** A photograph keeps the licence of its original, and a fake carries the",
        "licence of the photograph it was made of. The pictures are data beside the program; its",
        "own licence (Apache-2.0) does not cover them. `LicenseRef-Public-Domain` marks works",
        "that their authors or the law put into the public domain.",
        "",
        "| licence | text |",
        "|---|---|",
        *(f"| {licence} | {_licence_text(licence)} |" for licence in _used_licences(recipes)),
        "",
        "**Where the originals come from.** From the packages named: Debian 12 (bookworm) for",
        "names ending in a Debian version, the Python package index for scikit-image and",
        "scikit-learn. The `.rcc` files of gcompris-qt-data are unpacked with Qt's",
        "`rcc --reverse`; their pictures are credited one by one in the `README` files of the",
        "same folders of the GCompris sources, from which author, licence and source were taken.",
        "",
        "| file | title | author | licence | split | origin | source |",
        "|---|---|---|---|---|---|---|",
    ]
    for recipe in recipes:
        cells = [f"{recipe.name}.jpg", recipe.source_title, recipe.author, recipe.licence]
        cells += [recipe.split, recipe.origin, f"<{recipe.source}>" if recipe.source else ""]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _used_licences(recipes: Sequence[Recipe]) -> list[str]:
    return sorted({recipe.licence for recipe in recipes})


def _licence_text(licence: str) -> str:
    """Where a Creative Commons licence can be read."""
    if licence == "CC0-1.0":
        return "<https://creativecommons.org/publicdomain/zero/1.0/>"
    if licence.startswith("CC-"):
        kind, _, version = licence.removeprefix("CC-").rpartition("-")
        return f"<https://creativecommons.org/licenses/{kind.lower()}/{version}/>"
    return "no rights reserved" if licence == "LicenseRef-Public-Domain" else "see SPDX"


if __name__ == "__main__":
    sys.exit(main())
