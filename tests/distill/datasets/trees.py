"""Tiny trees of the layouts that data sets come in."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from edgedf.distill.datasets.dataset import Dataset, Sample

MANIPULATIONS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures", "FaceShifter")


def picture(seed: int, width: int = 40, height: int = 32) -> np.ndarray:
    """Blobs of colour that no other seed gives, uint8 RGB."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))


def write(path: Path, image: np.ndarray | None = None, quality: int = 90) -> Path:
    """Write a picture; by default one that depends on the path's last parts alone."""
    if image is None:
        image = picture(sum(ord(c) * (i + 1) for i, c in enumerate("/".join(path.parts[-5:]))))
    path.parent.mkdir(parents=True, exist_ok=True)
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if path.suffix == ".jpg" else []
    path.write_bytes(cv2.imencode(path.suffix, image[:, :, ::-1], options)[1].tobytes())
    return path


def write_video(path: Path, frames: int = 12, seed: int = 0) -> Path:
    """A video whose frames grow brighter."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, (64, 48))
    assert writer.isOpened()
    base = picture(seed, 64, 48) // 2
    for number in range(frames):
        writer.write(base + np.uint8(number * 8 % 128))
    writer.release()
    return path


def write_faceforensics(
    root: Path,
    *,
    pairs: Iterable[tuple[str, str]] = (("000", "003"), ("001", "870"), ("002", "006")),
    manipulations: Iterable[str] = MANIPULATIONS,
    compressions: Iterable[str] = ("c23",),
    frames: int = 2,
) -> Path:
    """FaceForensics++ with extracted frames, both directions of each pair."""
    pairs = tuple(pairs)
    for compression in compressions:
        for pair in pairs:
            for name in pair:
                place = root / "original_sequences" / "youtube" / compression / "frames" / name
                for number in range(frames):
                    write(place / f"{number:03d}.png")
            for manipulation in manipulations:
                for name in (f"{pair[0]}_{pair[1]}", f"{pair[1]}_{pair[0]}"):
                    place = root / "manipulated_sequences" / manipulation / compression
                    for number in range(frames):
                        write(place / "frames" / name / f"{number:03d}.png")
    return root


def write_official_splits(folder: Path, **pairs: list[list[str]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "val", "test"):
        (folder / f"{split}.json").write_text(json.dumps(pairs.get(split, [])), encoding="utf-8")


def write_celebdf(root: Path, *, persons: int = 12, listed: Iterable[str] = ()) -> Path:
    """Celeb-DF v2 with extracted frames: persons 0 and 1, 2 and 3, … are swapped."""
    for person in range(persons):
        other = person ^ 1
        write(root / "Celeb-real" / "frames" / f"id{person}_0000" / "0.png")
        write(root / "Celeb-synthesis" / "frames" / f"id{person}_id{other}_0000" / "0.png")
        write(root / "YouTube-real" / "frames" / f"{person:05d}" / "0.png")
    if listed:
        (root / "List_of_testing_videos.txt").write_text("\n".join(listed) + "\n", encoding="utf-8")
    return root


def write_cifake(root: Path, *, train: int = 16, test: int = 4) -> Path:
    for split, count in (("train", train), ("test", test)):
        for label in ("REAL", "FAKE"):
            for number in range(count):
                write(root / split / label / f"{number:04d} ({number % 10}).jpg", picture(number))
    return root


def write_diffusiondb(root: Path, *, parts: int = 2, pictures: int = 10) -> Path:
    """DiffusionDB 2M; pictures 0 and 1 of each part have the same prompt."""
    for part in range(1, parts + 1):
        name = f"part-{part:06d}"
        prompts = {}
        for number in range(pictures):
            file = write(root / "images" / name / f"{part}-{number}.png")
            prompts[file.name] = {"p": f"a cat, {max(number, 1)} of {part}", "se": 1, "c": 7.0}
        (root / "images" / name / f"{name}.json").write_text(json.dumps(prompts), encoding="utf-8")
    return root


def write_coco(root: Path, *, train: int = 16, val: int = 4) -> Path:
    for number in range(train):
        write(root / "train2017" / f"{number:012d}.jpg")
    for number in range(train, train + val):
        write(root / "val2017" / f"{number:012d}.jpg")
    return root


def splits_of(samples: Iterable[Sample]) -> set[str]:
    return {sample.split for sample in samples}


def names(dataset: Dataset, **chosen: str) -> set[str]:
    """Paths below the folder of the samples that have these values."""
    return {
        sample.path.relative_to(dataset.folder).as_posix()
        for sample in dataset.samples
        if all(getattr(sample, key) == value for key, value in chosen.items())
    }
