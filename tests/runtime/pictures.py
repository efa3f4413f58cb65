"""Pictures for tests: photographs from scikit-image, and files with every fault there is."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.uint8]


@cache
def photographs() -> tuple[Picture, ...]:
    """Real photographs, uint8 RGB, of different sizes and shapes."""
    from skimage import data

    return tuple(
        np.ascontiguousarray(load()) for load in (data.astronaut, data.chelsea, data.coffee)
    )


def noise(height: int, width: int, seed: int = 0, *, red: float = 1.0) -> Picture:
    """Noise with its red channel dimmed; a lower ``red`` makes a tiny model say ``real``."""
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3))
    picture[:, :, 0] = picture[:, :, 0] * red
    return picture.astype(np.uint8)


def encoded(picture: Picture, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, kind)
    return stream.getvalue()


def write(path: Path, picture: Picture) -> Path:
    """Write a picture, lossless where the suffix is .png; missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
    return path


def animated(kind: str) -> bytes:
    frames = [Image.fromarray(noise(40, 40, seed)) for seed in range(3)]
    stream = io.BytesIO()
    frames[0].save(stream, kind, save_all=True, append_images=frames[1:], duration=100)
    return stream.getvalue()


def decompression_bomb() -> bytes:
    """A PNG of a few hundred bytes that claims 100 000 x 100 000 pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(100_000)))
    return b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")


def truncated() -> bytes:
    data = encoded(photographs()[1], "JPEG")
    return data[: len(data) // 2]


def damaged(jpeg: bytes) -> bytes:
    """A JPEG without the second half of its data, but with its end."""
    start = jpeg.index(b"\xff\xda")
    return jpeg[: (start + len(jpeg)) // 2] + b"\xff\xd9"


# Name, content, and what has to be said about it.
BROKEN: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty.jpg": (lambda: b"", "is empty"),
    "truncated.jpg": (truncated, "cut off"),
    "bomb.png": (decompression_bomb, "100000 x 100000 pixels"),
    "text.jpg": (lambda: b"this is not an image", "not an image"),
    "program.png": (lambda: b"\x7fELF" + bytes(500), "not an image"),
    "paper.jpeg": (lambda: b"%PDF-1.7\n" + bytes(500), "a PDF"),
    "moving.gif.jpg": (lambda: animated("GIF"), "a GIF"),
    "moving.webp": (lambda: animated("WEBP"), "animated"),
    "moving.png": (lambda: animated("PNG"), "animated"),
    "dot.png": (lambda: encoded(noise(1, 1)), "1 x 1 pixels"),
}


def write_broken(folder: Path) -> None:
    """Write all of :data:`BROKEN` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (content, _) in BROKEN.items():
        (folder / name).write_bytes(content())
