import io
import math
import struct
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageOps

from edgedf import golden, imaging
from edgedf.errors import ConfigError, ImageNotFound, ImageTooLarge, ImageUnreadable
from edgedf.image_header import read_header
from edgedf.imaging import (
    center_square_crop,
    decode_image,
    load_image,
    orient,
    preprocess,
    resize_exact,
)


def scene(height: int = 48, width: int = 64) -> np.ndarray:
    """A smooth colour picture whose corners all differ."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([255 * x // (width - 1), 255 * y // (height - 1), 128 + 0 * x], axis=2).astype(
        np.uint8
    )


def encoded(image: np.ndarray, kind: str = "PNG", mode: str | None = None, **options: Any) -> bytes:
    picture = Image.fromarray(image)
    if mode:
        picture = picture.convert(mode)
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


# Orientation


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientations_agree_with_pillow(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    data = encoded(scene(), kind, exif=exif, **options)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    found = decode_image(data)
    assert found.shape == expected.shape
    # Two JPEG decoders may differ by rounding in the inverse DCT and chroma upsampling.
    assert np.abs(found.astype(int) - expected).max() <= (6 if kind == "JPEG" else 0)


@given(st.integers(1, 8))
def test_orienting_moves_every_pixel_once(orientation: int) -> None:
    image = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    turned = orient(image, orientation)
    assert turned.shape == ((7, 5, 3) if orientation >= 5 else (5, 7, 3))
    assert sorted(turned.ravel()) == sorted(image.ravel())


def test_an_orientation_that_does_not_exist() -> None:
    with pytest.raises(ConfigError, match="orientation 9"):
        orient(scene(), 9)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_senseless_orientation_in_a_file_is_ignored(value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    data = encoded(scene(), "PNG", exif=exif)
    np.testing.assert_array_equal(decode_image(data), scene())


# Sample types


def test_grey_is_repeated_to_three_channels() -> None:
    grey = scene()[:, :, 0]
    np.testing.assert_array_equal(
        decode_image(encoded(grey)), np.repeat(grey[:, :, np.newaxis], 3, axis=2)
    )


def test_alpha_is_composited_over_white() -> None:
    alpha = np.linspace(0, 255, 64).astype(np.uint8)[np.newaxis].repeat(48, axis=0)
    found = decode_image(encoded(np.dstack([scene(), alpha])))
    color, a = scene().astype(int), alpha.astype(int)[:, :, np.newaxis]
    np.testing.assert_array_equal(found, (color * a + 255 * (255 - a) + 127) // 255)


def test_grey_with_alpha_and_palette() -> None:
    grey = encoded(scene(), mode="LA")
    assert decode_image(grey).shape == (48, 64, 3)
    palette = Image.fromarray(scene()).convert("P", palette=Image.Palette.ADAPTIVE)
    stream = io.BytesIO()
    palette.save(stream, "PNG")
    np.testing.assert_array_equal(
        decode_image(stream.getvalue()), np.asarray(palette.convert("RGB"))
    )


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bit_samples_are_scaled_and_rounded(channels: int) -> None:
    rng = np.random.default_rng(0)
    shape = (40, 40) if channels == 1 else (40, 40, channels)
    deep = rng.integers(0, 65536, shape, dtype=np.uint16)
    if channels == 4:
        deep[:, :, 3] = 65535
    data = cv2.imencode(".png", deep)[1].tobytes()
    expected = (deep.astype(np.uint64) * 255 + 32767) // 65535
    expected = expected[..., np.newaxis] if channels == 1 else expected[:, :, 2::-1]
    np.testing.assert_array_equal(
        decode_image(data), np.broadcast_to(expected, (40, 40, 3)).astype(np.uint8)
    )


def test_cmyk_jpeg_gives_the_colours_meant() -> None:
    flat = np.zeros((48, 64, 3), np.uint8)
    flat[:] = (200, 60, 30)
    data = encoded(flat, "JPEG", mode="CMYK", quality=95)
    assert np.abs(decode_image(data).astype(int) - flat).max() <= 8


@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 90}])
def test_webp(options: dict[str, Any]) -> None:
    found = decode_image(encoded(scene(), "WEBP", **options))
    limit = 0 if "lossless" in options else 30
    assert np.abs(found.astype(int) - scene()).max() <= limit


# Cropping and resizing


@given(st.integers(1, 40), st.integers(1, 40))
def test_the_crop_is_the_largest_centred_square(height: int, width: int) -> None:
    index = np.arange(height * width).reshape(height, width, 1).repeat(3, axis=2)
    crop = center_square_crop(index)  # type: ignore[arg-type]
    side = min(height, width)
    assert crop.shape == (side, side, 3)
    assert crop[0, 0, 0] == (height - side) // 2 * width + (width - side) // 2


def resized_by_fractions(image: np.ndarray, size: int) -> np.ndarray:
    """The definition of resize_exact in exact rational arithmetic, pixel by pixel."""
    side = image.shape[0]
    axis: list[dict[int, Fraction]] = []
    for i in range(size):
        weights: dict[int, Fraction] = {}
        if side >= size:
            low, high = Fraction(i * side, size), Fraction((i + 1) * side, size)
            for s in range(side):
                overlap = min(high, Fraction(s + 1)) - max(low, Fraction(s))
                if overlap > 0:
                    weights[s] = overlap * size / side
        else:
            position = Fraction(2 * i + 1, 2) * Fraction(side, size) - Fraction(1, 2)
            first = math.floor(position)
            for s, weight in ((first, 1 - (position - first)), (first + 1, position - first)):
                s = min(max(s, 0), side - 1)
                weights[s] = weights.get(s, Fraction(0)) + weight
        axis.append(weights)
    out = np.zeros((size, size, image.shape[2]), np.uint8)
    for i, j, c in np.ndindex(out.shape):
        value = sum(
            wy * wx * int(image[y, x, c]) for y, wy in axis[i].items() for x, wx in axis[j].items()
        )
        out[i, j, c] = math.floor(value + Fraction(1, 2))
    return out


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 9).flatmap(lambda s: arrays(np.uint8, (s, s, 3))),
    st.integers(1, 9),
)
def test_resize_is_exact(image: np.ndarray, size: int) -> None:
    np.testing.assert_array_equal(resize_exact(image, size), resized_by_fractions(image, size))


@pytest.mark.parametrize("vector", golden.resize_vectors(), ids=lambda v: v.name)
def test_golden_vectors_hold(vector: golden.ResizeVector) -> None:
    np.testing.assert_array_equal(resize_exact(vector.image, vector.size), vector.expected)
    np.testing.assert_array_equal(resized_by_fractions(vector.image, vector.size), vector.expected)


@given(st.integers(0, 255), st.integers(1, 60), st.integers(1, 60))
def test_a_flat_image_stays_flat(value: int, side: int, size: int) -> None:
    flat = np.full((side, side, 3), value, np.uint8)
    assert (resize_exact(flat, size) == value).all()


@pytest.mark.parametrize(
    ("side", "size"),
    # Sums in 16 bits, in float32 up to the largest denominator that it is good for, and beyond.
    [(384, 256), (33, 3), (36, 3), (181, 4), (183, 4), (300, 256), (383, 256), (97, 128)],
)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sums_of_every_width_are_exact(side: int, size: int, channels: int) -> None:
    noise = np.random.default_rng(side).integers(0, 256, (side, side, channels), np.uint8)
    image = np.where(noise < 200, noise, np.uint8(255))
    index = np.arange(size)[:, None]
    if side >= size:
        source, unit = np.arange(side), side
        ends = np.minimum((index + 1) * side, (source + 1) * size)
        weights = np.maximum(ends - np.maximum(index * side, source * size), 0)
    else:
        unit = 2 * size
        position = (2 * index + 1) * side - size
        weights = np.zeros((size, side), np.int64)
        for tap, share in (
            (position // unit, unit - position % unit),
            (position // unit + 1, position % unit),
        ):
            np.add.at(weights, (index, np.clip(tap, 0, side - 1)), share)
    sums = np.einsum("iy,yxc->ixc", weights, image.astype(np.int64))
    sums = np.einsum("jx,ixc->ijc", weights, sums)
    wanted = (2 * sums + unit**2) // (2 * unit**2)
    np.testing.assert_array_equal(resize_exact(image, size), wanted)


def test_large_sides_stay_exact() -> None:
    """White stays white where sums are largest, and a large image equals its exact mean."""
    white = np.full((4001, 4001, 3), 255, np.uint8)
    assert (resize_exact(white, 256) == 255).all()
    noise = np.random.default_rng(1).integers(0, 256, (2048, 2048, 3), dtype=np.uint8)
    blocks = noise.reshape(256, 8, 256, 8, 3).astype(np.int64).sum(axis=(1, 3))
    np.testing.assert_array_equal(resize_exact(noise, 256), (2 * blocks + 64) // 128)


def test_resize_refuses_what_it_is_not_defined_for() -> None:
    with pytest.raises(ConfigError, match="square"):
        resize_exact(scene(), 8)
    with pytest.raises(ConfigError, match="Cannot resize to 0"):
        resize_exact(scene(8, 8), 0)
    with pytest.raises(ConfigError, match="got shape"):
        resize_exact(np.zeros((8, 8, 5), np.uint8), 4)


# Sources and guards


def test_path_bytes_and_array_give_the_same_input(tmp_path: Path) -> None:
    data = encoded(scene())
    path = tmp_path / "picture.dat"  # the content decides, not the name
    path.write_bytes(data)
    wanted = preprocess(scene(), 32)
    assert wanted.shape == (32, 32, 3)
    for source in (path, str(path), data):
        np.testing.assert_array_equal(preprocess(source, 32), wanted)


def test_missing_folder_and_senseless_paths(tmp_path: Path) -> None:
    for path in (tmp_path / "none.jpg", tmp_path, "a\0b"):
        with pytest.raises(ImageNotFound):
            load_image(path)


def test_a_large_file_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "large.jpg"
    with path.open("wb") as stream:
        stream.truncate(imaging.MAX_FILE_BYTES + 1)  # sparse: takes no space
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("it was read"))
    with pytest.raises(ImageTooLarge, match="MB"):
        load_image(path)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def test_a_decompression_bomb_is_refused_before_it_is_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + b"".join(
        [
            png_chunk(b"IHDR", header),
            png_chunk(b"IDAT", zlib.compress(bytes(1_000_000))),
            png_chunk(b"IEND", b""),
        ]
    )
    monkeypatch.setattr(cv2, "imdecode", lambda *a: pytest.fail("it was decoded"))
    with pytest.raises(ImageTooLarge, match="60000 x 60000"):
        decode_image(bomb)


def test_a_second_header_does_not_hide_the_size_of_the_first() -> None:
    good = cv2.imencode(".webp", np.zeros((64, 96, 3), np.uint8))[1].tobytes()
    small = b"VP8X" + struct.pack("<I", 10) + bytes(4) + bytes([39, 0, 0, 39, 0, 0])
    body = good[8:] + small
    header = read_header(b"RIFF" + struct.pack("<I", len(body)) + body)
    assert (header.width, header.height) == (96, 64)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_truncated_files_are_refused(kind: str, share: float) -> None:
    rng = np.random.default_rng(0)
    data = encoded(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8), kind)
    with pytest.raises(ImageUnreadable):
        decode_image(data[: int(len(data) * share)])


def test_a_thumbnail_inside_does_not_hide_a_missing_end() -> None:
    """EXIF thumbnails end with their own end-of-image marker."""
    data = encoded(scene(), "JPEG")
    thumbnail = encoded(scene(32, 32), "JPEG")
    segment = b"\xff\xe2" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    cut = data[:2] + segment + data[2 : -len(data) // 4]
    with pytest.raises(ImageUnreadable, match="cut off"):
        decode_image(cut)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"hello, this is text", "This is not an image"),
        (b"GIF89a" + bytes(100), "a GIF"),
        (b"II*\0" + bytes(100), "a TIFF"),
        (b"BM" + bytes(100), "a BMP"),
        (b"\0\0\0\x18ftypheic" + bytes(100), "a HEIC"),
        (b"%PDF-1.7" + bytes(100), "a PDF"),
    ],
)
def test_what_is_not_decoded_is_named(data: bytes, message: str) -> None:
    with pytest.raises(ImageUnreadable, match=message):
        decode_image(data)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_animations_are_refused(kind: str) -> None:
    second = Image.fromarray(255 - scene())
    data = encoded(scene(), kind, save_all=True, append_images=[second], duration=100)
    with pytest.raises(ImageUnreadable, match="animated"):
        decode_image(data)


@pytest.mark.parametrize("shape", [(1, 1), (31, 500), (500, 31)])
def test_tiny_images_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ImageUnreadable, match="too few to judge"):
        decode_image(encoded(np.zeros((*shape, 3), np.uint8)))
    with pytest.raises(ImageUnreadable, match="too few to judge"):
        load_image(np.zeros((*shape, 3), np.uint8))


@pytest.mark.parametrize(
    "array", [np.zeros((64, 64), np.uint8), np.zeros((64, 64, 4), np.uint8), np.zeros((64, 64, 3))]
)
def test_arrays_of_another_kind_are_refused(array: np.ndarray) -> None:
    with pytest.raises(ImageUnreadable, match="uint8 RGB"):
        load_image(array)


PNG, JPEG, WEBP = encoded(scene()), encoded(scene(), "JPEG"), encoded(scene(), "WEBP")


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([PNG, JPEG, WEBP]), st.data())
def test_damaged_bytes_give_an_image_or_our_error(good: bytes, data: st.DataObject) -> None:
    """Any flipped bytes, anywhere: never another exception, never another shape than promised."""
    damaged = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        image = decode_image(bytes(damaged))
    except (ImageUnreadable, ImageTooLarge):
        return
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3
