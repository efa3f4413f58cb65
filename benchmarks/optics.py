"""Defocus maps: how far they are from the truth, and how long they take.

    python benchmarks/optics.py                      photographs that scikit-image and -learn ship
    python benchmarks/optics.py --data DIR           a folder of photographs sharp everywhere
    python benchmarks/optics.py --only speed

Sharp photographs are rendered with random scenes and lenses (:mod:`edgedf.distill.optics.render`),
so the truth is exact; pixels within a disk's reach of a depth border, where two blurs mix, are
left out. Figures are means over images with a 95 % bootstrap interval over photographs.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.progress import track
from rich.table import Table
from threadpoolctl import threadpool_limits

from edgedf.cli._console import new_console
from edgedf.distill.optics.lens import random_lens
from edgedf.distill.optics.maps import PROFILES, Profile, defocus_map
from edgedf.distill.optics.render import add_camera_noise, random_depth, render
from edgedf.errors import DataError, EdgedfError
from edgedf.imaging import IMAGE_SUFFIXES, RGBImage, load_image, prepare
from edgedf.machine import this_host

SIDE = 256
BINS = ((0.0, 0.5), (0.5, 1.0), (1.0, 2.0), (2.0, 3.0), (3.0, 5.01))
GAUSSIANS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
NOISE, JPEG_QUALITY = 2.0, 90
# Fewer pixels of a bin in one image say more about the image than about the bin.
MIN_PIXELS = 200


@dataclass(frozen=True)
class Score:
    """How a map compares with the truth, in pixels; nan where that cannot be said."""

    mean: float
    median: float
    correlation: float
    bin_errors: tuple[float, ...]
    bin_biases: tuple[float, ...]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--data", type=Path, help="folder of photographs, sharp everywhere")
    parser.add_argument("--renderings", type=int, default=3, help="scenes a photograph")
    parser.add_argument("--repeats", type=int, default=9, help="timed calls a median")
    parser.add_argument("--only", choices=["accuracy", "speed"])
    options = parser.parse_args()
    console = new_console()
    cv2.setNumThreads(1)
    try:
        photographs = bundled() if options.data is None else in_folder(options.data)
    except EdgedfError as error:
        print(error, file=sys.stderr)
        return 2
    with threadpool_limits(1):
        if options.only != "speed":
            console.print(accuracy(photographs, options.renderings))
            console.print(known_gaussians(photographs))
        if options.only != "accuracy":
            console.print(speed(photographs[0], options.repeats))
    return 0


def bundled() -> list[RGBImage]:
    """Photographs without depth of field of their own."""
    from skimage import data
    from sklearn.datasets import load_sample_image

    pictures = [
        data.stereo_motorcycle()[0],
        data.rocket(),
        load_sample_image("china.jpg"),
        *(np.dstack([gray] * 3) for gray in (data.brick(), data.grass(), data.gravel())),
    ]
    return [np.ascontiguousarray(picture, np.uint8) for picture in pictures]


def in_folder(folder: Path) -> list[RGBImage]:
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise DataError(f"There is no photograph in {folder}.", expected="a folder of images")
    return [load_image(path) for path in files]


def accuracy(photographs: Sequence[RGBImage], renderings: int) -> Table:
    """Error against the exact maps of rendered scenes."""
    scores: dict[tuple[Profile, str], list[list[Score]]] = {}
    for index, photograph in enumerate(track(photographs, "rendered scenes", transient=True)):
        for variant in range(renderings):
            rng = np.random.default_rng([index, variant])
            depth = random_depth(SIDE, SIDE, rng)
            truth = render(prepare(photograph, SIDE), depth, random_lens(depth, rng))
            noisy = add_camera_noise(truth.image, rng, noise=NOISE, jpeg_quality=JPEG_QUALITY)
            for camera, image in (("none", truth.image), ("noise, JPEG", noisy)):
                for profile in PROFILES:
                    score = compare(at_side(image, profile), truth.defocus_map, ~truth.near_border)
                    rows = scores.setdefault((profile, camera), [])
                    if variant == 0:
                        rows.append([])
                    rows[-1].append(score)
    table = Table(
        title=f"Rendered scenes: {len(photographs)} photographs x {renderings}, {SIDE} x {SIDE}; "
        "error of sigma in px"
    )
    ranges = [f"{low:g} to {min(high, 5):g} px" for low, high in BINS]
    for name in ("profile", "camera", "mean [95 %]", "median", "correlation [95 %]"):
        table.add_column(name)
    for name in ranges:
        table.add_column(f"{name}\nerror / bias")
    for (profile, camera), rows in scores.items():
        bins = [
            f"{average(rows, lambda s: s.bin_errors[k]):.2f} / "  # noqa: B023  (called at once)
            f"{average(rows, lambda s: s.bin_biases[k]):+.2f}"  # noqa: B023
            for k in range(len(BINS))
        ]
        table.add_row(
            profile,
            camera,
            with_interval(rows, lambda s: s.mean),
            f"{average(rows, lambda s: s.median):.3f}",
            with_interval(rows, lambda s: s.correlation),
            *bins,
        )
    return table


def known_gaussians(photographs: Sequence[RGBImage]) -> Table:
    """What the maps say of photographs blurred by one Gaussian all over."""
    table = Table(
        title=f"Whole photographs blurred by one Gaussian, {len(photographs)} photographs: mean of "
        "the map's median / mean error, px"
    )
    for name in ("profile", "camera", *(f"sigma {sigma:g}" for sigma in GAUSSIANS)):
        table.add_column(name)
    squares = [prepare(photograph, SIDE) for photograph in photographs]
    for profile in PROFILES:
        for camera in ("none", "noise, JPEG"):
            cells = []
            for sigma in GAUSSIANS:
                pairs = []
                for index, square in enumerate(squares):
                    image = square
                    if sigma > 0:
                        image = np.asarray(cv2.GaussianBlur(square, (0, 0), sigma), np.uint8)
                    if camera != "none":
                        rng = np.random.default_rng(index)
                        image = add_camera_noise(image, rng, noise=NOISE, jpeg_quality=JPEG_QUALITY)
                    found = at_side(image, profile)
                    pairs.append((np.median(found), np.abs(found - sigma).mean()))
                medians, errors = np.mean(pairs, axis=0)
                cells.append(f"{medians:.2f} / {errors:.2f}")
            table.add_row(profile, camera, *cells)
    return table


def speed(photograph: RGBImage, repeats: int) -> Table:
    """Median time of a map, and of a rendering, on one thread."""
    host = this_host()
    machine = f"{host.cpu}, Python {host.python}, OpenCV {cv2.__version__}"
    table = Table(title=f"Medians of {repeats} calls, one thread; {machine}")
    for name in ("what", "256 x 256", "512 x 512"):
        table.add_column(name)
    images = {side: prepare(photograph, side) for side in (256, 512)}
    scenes = {side: random_depth(side, side, np.random.default_rng(3)) for side in images}
    lenses = {s: random_lens(scenes[s], np.random.default_rng(3), min_sigma=4) for s in images}
    jobs: dict[str, Callable[[int], object]] = {
        "map, physical": lambda side: defocus_map(images[side], "physical"),
        "map, reference": lambda side: defocus_map(images[side], "reference"),
        "render": lambda side: render(images[side], scenes[side], lenses[side]),
    }
    for name, job in jobs.items():
        cells = []
        for side in images:
            job(side)
            times = []
            for _ in range(repeats):
                start = time.perf_counter()
                job(side)
                times.append(time.perf_counter() - start)
            cells.append(f"{statistics.median(times) * 1000:.0f} ms")
        table.add_row(name, *cells)
    return table


def at_side(image: RGBImage, profile: Profile) -> NDArray[np.float32]:
    """The map in pixels of the image; ``reference`` measures at a size of its own."""
    found = defocus_map(image, profile)
    height, width = image.shape[:2]
    if found.shape == (height, width):
        return found
    scale = width / found.shape[1]
    resized = cv2.resize(found, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized * scale, np.float32)


def compare(
    found: NDArray[np.float32], truth: NDArray[np.float32], valid: NDArray[np.bool_]
) -> Score:
    found, truth = found[valid], truth[valid]
    difference = found - truth
    varied = min(found.std(), truth.std()) > 1e-3
    inside = [(truth >= low) & (truth < high) for low, high in BINS]
    return Score(
        mean=float(np.abs(difference).mean()),
        median=float(np.median(np.abs(difference))),
        correlation=float(np.corrcoef(found, truth)[0, 1]) if varied else float("nan"),
        bin_errors=tuple(mean_of(np.abs(difference[mask])) for mask in inside),
        bin_biases=tuple(mean_of(difference[mask]) for mask in inside),
    )


def mean_of(values: NDArray[np.float32]) -> float:
    return float(values.mean()) if values.size >= MIN_PIXELS else float("nan")


def average(rows: Iterable[Sequence[Score]], figure: Callable[[Score], float]) -> float:
    values = [figure(score) for row in rows for score in row]
    return float(np.nanmean(values)) if not np.all(np.isnan(values)) else float("nan")


def with_interval(rows: Sequence[Sequence[Score]], figure: Callable[[Score], float]) -> str:
    rng = np.random.default_rng(0)
    means = [
        average([rows[i] for i in rng.integers(0, len(rows), len(rows))], figure)
        for _ in range(1000)
    ]
    low, high = np.nanpercentile(means, (2.5, 97.5))
    return f"{average(rows, figure):.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    sys.exit(main())
