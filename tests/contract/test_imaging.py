import io
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from edgedf import imaging
from edgedf.errors import ConfigError, ImageNotFound, ImageTooLarge, ImageUnreadable
from edgedf.image_header import read_header
from edgedf.imaging import (
    center_square_crop,
    decode_image,
    load_image,
    orient,
    preprocess,
    read_image,
)
from tests.runtime.pictures import damaged, photographs


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


def tiff(kind: int, value: int, *, values: int = 1) -> bytes:
    """TIFF with an orientation of a type (1 BYTE, 3 SHORT, 4 LONG)."""
    sample = struct.pack({1: "<B", 3: "<H", 4: "<I"}[kind], value).ljust(4, b"\0")
    return b"II*\0" + struct.pack("<IHHHI", 8, 1, 0x0112, kind, values) + sample + bytes(4)


WITHOUT_ORIENTATION = b"II*\0" + struct.pack("<IHI", 8, 0, 0)


@pytest.mark.parametrize(
    ("segments", "wanted"),
    [
        ([tiff(3, 6)], 6),
        ([tiff(4, 6)], 1),
        ([tiff(1, 6)], 1),
        ([tiff(3, 6, values=2)], 1),
        ([tiff(3, 6), tiff(3, 3)], 6),
        ([tiff(3, 6), WITHOUT_ORIENTATION], 6),
        ([WITHOUT_ORIENTATION, tiff(3, 6)], 1),
        ([b"no TIFF", tiff(3, 6)], 1),
    ],
)
def test_the_first_exif_segment_decides_and_only_a_short_counts(
    segments: list[bytes], wanted: int
) -> None:
    """As in browsers and on Android."""
    jpeg = encoded(scene(), "JPEG")
    parts = (b"Exif\0\0" + segment for segment in segments)
    app1 = b"".join(b"\xff\xe1" + struct.pack(">H", len(part) + 2) + part for part in parts)
    assert read_header(jpeg[:2] + app1 + jpeg[2:]).orientation == wanted
    png = encoded(scene())
    chunks = b"".join(png_chunk(b"eXIf", segment) for segment in segments)
    assert read_header(png[:33] + chunks + png[33:]).orientation == wanted
    webp = encoded(scene(), "WEBP")
    body = webp[8:] + b"".join(
        b"EXIF" + struct.pack("<I", len(segment)) + segment + bytes(len(segment) % 2)
        for segment in segments
    )
    assert read_header(b"RIFF" + struct.pack("<I", len(body)) + body).orientation == wanted


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


def png(depth: int, color: int, samples: np.ndarray, *chunks: bytes, after: bytes = b"") -> bytes:
    """A PNG of samples, (height, width * channels), below 2 ** depth."""
    bits = np.unpackbits(samples.astype(">u2")[..., np.newaxis].view(np.uint8), axis=-1)
    rows = np.packbits(bits[..., 16 - depth :].reshape(len(samples), -1), axis=1)
    width = samples.shape[1] // (3 if color == 2 else 1)
    header = struct.pack(">IIBBBBB", width, len(samples), depth, color, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    parts = [png_chunk(b"IHDR", header), *chunks, png_chunk(b"IDAT", pixels), after]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + png_chunk(b"IEND", b"")


def grey_ramp(depth: int) -> np.ndarray:
    step = max(1, (1 << depth) // 64)
    return np.tile(np.arange(64) * step % (1 << depth), (40, 1))


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_transparent_grey_becomes_white(depth: int) -> None:
    ramp, largest = grey_ramp(depth), (1 << depth) - 1
    key = int(ramp[0, 1])
    # Bits above the depth mean nothing.
    given = key | (0 if depth == 16 else 1 << depth)
    found = decode_image(png(depth, 0, ramp, png_chunk(b"tRNS", struct.pack(">H", given))))
    wanted = np.where(ramp == key, 255, (ramp * 255 + largest // 2) // largest)
    np.testing.assert_array_equal(found, np.repeat(wanted[:, :, np.newaxis], 3, axis=2))
    late = png(depth, 0, ramp, after=png_chunk(b"tRNS", struct.pack(">H", key)))
    assert (decode_image(late)[:, 1] < 255).all() or depth == 1  # void behind the pixels


@pytest.mark.parametrize("depth", [8, 16])
def test_a_transparent_colour_becomes_white(depth: int) -> None:
    ramp = grey_ramp(depth)
    key = int(ramp[0, 1])
    data = png(
        depth, 2, np.repeat(ramp, 3, axis=1), png_chunk(b"tRNS", struct.pack(">HHH", key, key, key))
    )
    found = decode_image(data)
    assert (found[:, 1] == 255).all()
    assert (found[:, 2] == 8).all()


@pytest.mark.parametrize("depth", [4, 8])
def test_a_transparent_palette_is_composited_over_white(depth: int) -> None:
    index = np.tile(np.arange(64) % 16, (40, 1))
    palette = png_chunk(b"PLTE", bytes(range(0, 240, 5)))
    alpha = [255, 0, 128]
    found = decode_image(png(depth, 3, index, palette, png_chunk(b"tRNS", bytes(alpha))))
    for entry, a in enumerate([*alpha, 255]):
        color = np.arange(3) * 5 + entry * 15
        np.testing.assert_array_equal(
            found[0, entry], (color * a + 255 * (255 - a) + 127) // 255, str(entry)
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


# Damage


def with_other_bytes(data: bytes, other: bytes) -> bytes:
    """A JPEG with something else in the middle of its data."""
    start = data.index(b"\xff\xda")
    middle = start + (len(data) - start) // 3
    return data[:middle] + other + data[middle + len(other) :]


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
@pytest.mark.parametrize("mode", [None, "L", "CMYK"])
def test_a_damaged_jpeg_is_called_so_and_nothing_is_printed(
    mode: str | None, options: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    picture = photographs()[0][:256, :256]
    good = encoded(picture, "JPEG", mode, quality=90, **options)
    assert not read_image(good).damaged
    garbage = np.random.default_rng(0).integers(0, 255, 600, np.uint8).tobytes()
    for data in (
        damaged(good),
        with_other_bytes(good, bytes(2000)),
        with_other_bytes(good, garbage),
    ):
        found = read_image(data)
        assert found.damaged
        assert found.pixels.shape == picture.shape
        np.testing.assert_array_equal(decode_image(data), found.pixels)
    assert capfd.readouterr() == ("", "")


def test_what_stands_between_the_segments_is_damage_and_no_missing_end() -> None:
    good = encoded(scene(), "JPEG")
    at = good.index(b"\xff\xdb")
    found = read_image(good[:at] + bytes(11) + good[at:])
    assert found.damaged
    np.testing.assert_array_equal(found.pixels, decode_image(good))


def test_a_png_that_does_not_match_its_checksums_is_refused_and_nothing_is_printed(
    capfd: pytest.CaptureFixture[str],
) -> None:
    good = bytearray(encoded(scene()))
    text = png_chunk(b"tEXt", b"a\0b")[:-1] + b"?"  # says nothing of the pixels
    assert not read_image(bytes(good[:33] + text + good[33:])).damaged
    good[good.index(b"IDAT") + 60] ^= 1
    with pytest.raises(ImageUnreadable, match="damaged and cannot be decoded"):
        read_image(bytes(good))
    assert capfd.readouterr() == ("", "")


# Large pictures


@pytest.fixture
def few_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that a small picture exceeds."""
    monkeypatch.setattr(imaging, "MAX_PIXELS", 100 * 80)
    monkeypatch.setattr(imaging, "MAX_JPEG_PIXELS", 4 * 100 * 80)


@pytest.mark.usefixtures("few_pixels")
@pytest.mark.parametrize("mode", [None, "L", "CMYK"])
def test_a_jpeg_beyond_the_limit_is_decoded_at_half_size(mode: str | None) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    large = encoded(scene(161, 101), "JPEG", mode, quality=95, subsampling=0, exif=exif)
    found = decode_image(large)
    assert found.shape == (51, 81, 3)  # rounded up, then turned
    whole = np.asarray(Image.open(io.BytesIO(large)).convert("RGB"))
    halves = whole[:160, :100].reshape(80, 2, 50, 2, 3).mean(axis=(1, 3))
    upright = np.rot90(halves, -1)
    assert np.abs(found[:50, -80:] - upright).max() <= 4
    at_the_limit = encoded(scene(80, 100), "JPEG", mode)
    assert decode_image(at_the_limit).shape == (80, 100, 3)


@pytest.mark.usefixtures("few_pixels")
@pytest.mark.parametrize(
    ("kind", "options", "height", "said"),
    [
        ("PNG", {}, 101, "at most 0 million pixels of a PNG"),
        ("WEBP", {}, 101, "of a WEBP"),
        ("JPEG", {"progressive": True}, 101, "of a progressive JPEG"),
        ("JPEG", {}, 401, "of a JPEG"),
    ],
)
def test_other_pictures_beyond_the_limit_are_refused_before_they_are_decoded(
    kind: str, options: dict[str, Any], height: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encoded(scene(height, 80), kind, **options)
    monkeypatch.setattr(cv2, "imdecode", lambda *a: pytest.fail("it was decoded"))
    with pytest.raises(ImageTooLarge, match=f"80 x {height}") as caught:
        decode_image(data)
    assert said in caught.value.expected
    assert ("not progressive" in caught.value.next_step) == (height == 101)


def test_a_deep_png_has_half_as_many_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight bytes a pixel while it is decoded: 100 million of them took 1.6 GB."""
    monkeypatch.setattr(imaging, "MAX_PIXELS", 2 * 40 * 50)
    deep = np.full((40, 50, 4), 65535, np.uint16)
    assert decode_image(cv2.imencode(".png", deep)[1].tobytes()).shape == (40, 50, 3)
    larger = cv2.imencode(".png", np.full((41, 50, 4), 65535, np.uint16))[1].tobytes()
    with pytest.raises(ImageTooLarge) as caught:
        decode_image(larger)
    assert "of a PNG of 16 bits a sample" in caught.value.expected
    assert decode_image(cv2.imencode(".png", np.zeros((80, 50), np.uint8))[1].tobytes()).any() == 0


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
