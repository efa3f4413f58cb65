"""Facts read from an image file's header, before any pixel is decoded.

Decoders allocate what the header promises, so size, kind and completeness are checked on the
bytes first. Only the fields needed for that are read: ITU T.81 (JPEG), the PNG specification
(third edition), the WebP container specification, and TIFF 6.0 inside EXIF for the orientation.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

from edgedf.errors import ImageUnreadable

__all__ = ["ImageHeader", "read_header"]

Format = Literal["jpeg", "png", "webp"]

_SUPPORTED = "a JPEG, PNG or WebP photograph"
_CONVERT = "convert it to JPEG, PNG or WebP"

# How PNG decoders spread shallow grey samples over 8 bits.
_PNG_GREY_STEPS = {1: 255, 2: 85, 4: 17}

# Start-of-frame markers; C4 (Huffman table), C8 (reserved) and CC (arithmetic) are not frames.
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})


@dataclass(frozen=True)
class ImageHeader:
    """What the header of an image file says of the picture.

    Args:
        format: ``jpeg``, ``png`` or ``webp``.
        width: Pixels, as stored (before orientation).
        height: Pixels, as stored.
        orientation: EXIF orientation, 1 to 8; 1 where the file has none.
        one_scan: False for a JPEG whose blocks are spread over several scans (a progressive one),
            so that a decoder has to keep all coefficients of the picture.
        transparent: Of a grey PNG the sample that is transparent (tRNS), in the 8 or 16 bits that
            it is decoded to; None where there is none.
        deep: Whether it is a PNG of 16 bits a sample.
    """

    format: Format
    width: int
    height: int
    orientation: int = 1
    one_scan: bool = True
    transparent: int | None = None
    deep: bool = False


def read_header(data: bytes) -> ImageHeader:
    """Read the header of an encoded image.

    Args:
        data: The whole file.

    Returns:
        The header.

    Raises:
        ImageUnreadable: Empty, not an image, a format that is not decoded here, animated, or cut
            off before its end.
    """
    if not data:
        raise ImageUnreadable(
            "The image is empty (0 bytes).",
            expected=_SUPPORTED,
            next_step="copy or download it again",
        )
    try:
        if data[:3] == b"\xff\xd8\xff":
            return _jpeg(data)
        if data[:8] == b"\x89PNG\r\n\x1a\n":
            return _png(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
    except (struct.error, IndexError):
        raise _cut_off() from None
    name = _name_of(data)
    raise ImageUnreadable(
        f"This is {name}, which is not decoded here." if name else "This is not an image.",
        expected=_SUPPORTED,
        next_step=_CONVERT,
    )


def _cut_off() -> ImageUnreadable:
    return ImageUnreadable(
        "The image is cut off or damaged: its end is missing.",
        expected="a complete file",
        next_step="copy or download it again",
    )


def _animated() -> ImageUnreadable:
    return ImageUnreadable(
        "The image is animated.",
        expected="one still picture",
        next_step="extract the frame you mean and pass that",
    )


def _name_of(data: bytes) -> str:
    if data[:4] == b"GIF8":
        return "a GIF"
    if data[:4] in (b"II*\0", b"MM\0*"):
        return "a TIFF (or a camera's raw file)"
    if data[:2] == b"BM":
        return "a BMP"
    if data[4:8] == b"ftyp":
        return "a HEIC, AVIF or video file"
    if data[:5] == b"%PDF-":
        return "a PDF"
    return ""


def _jpeg(data: bytes) -> ImageHeader:
    at, size, orientation, frame, components = 2, (0, 0), 0, 0, 0
    while True:
        at = data.find(b"\xff", at)  # decoders skip what stands between segments, and say so
        if at < 0:
            raise _cut_off()
        while data[at] == 0xFF:  # any number of fill bytes may precede a marker
            at += 1
        marker = data[at]
        at += 1
        if marker <= 0x01 or 0xD0 <= marker <= 0xD8:  # no length follows these
            continue
        if marker == 0xD9:
            raise _cut_off()
        (length,) = struct.unpack_from(">H", data, at)
        if length < 2 or at + length > len(data):
            raise _cut_off()
        if marker in _JPEG_FRAMES and size == (0, 0):
            height, width, components = struct.unpack_from(">HHB", data, at + 3)
            size, frame = (width, height), marker
        elif marker == 0xE1 and data[at + 2 : at + 8] == b"Exif\0\0":
            orientation = orientation or _exif_orientation(data[at + 8 : at + length])
        elif marker == 0xDA:  # entropy-coded data up to the end-of-image marker
            if size == (0, 0) or data.find(b"\xff\xd9", at + length) < 0:
                raise _cut_off()
            one_scan = frame not in _JPEG_PROGRESSIVE and data[at + 2] == components
            return ImageHeader("jpeg", size[0], size[1], orientation or 1, one_scan)
        at += length


def _png(data: bytes) -> ImageHeader:
    at, size, orientation, depth, color = 8, (0, 0), 0, 0, 0
    transparent: int | None = None
    while True:
        length, kind = struct.unpack_from(">I4s", data, at)
        body = at + 8
        if body + length + 4 > len(data):
            raise _cut_off()
        if kind == b"IHDR" and size == (0, 0):
            width, height, depth, color = struct.unpack_from(">IIBB", data, body)
            size = (width, height)
        elif kind == b"acTL":
            raise _animated()
        elif kind == b"tRNS" and color == 0 and transparent is None:
            (sample,) = struct.unpack_from(">H", data, body)
            transparent = (sample & (1 << depth) - 1) * _PNG_GREY_STEPS.get(depth, 1)
        elif kind == b"IDAT":
            color = -1  # a tRNS behind the pixels is void
        elif kind == b"eXIf":
            orientation = orientation or _exif_orientation(data[body : body + length])
        elif kind == b"IEND":
            return ImageHeader(
                "png", *size, orientation or 1, transparent=transparent, deep=depth == 16
            )
        at = body + length + 4


def _webp(data: bytes) -> ImageHeader:
    (riff_size,) = struct.unpack_from("<I", data, 4)
    if riff_size + 8 > len(data):
        raise _cut_off()
    at, size, orientation = 12, (0, 0), 0
    while at + 8 <= riff_size + 8:
        kind, length = struct.unpack_from("<4sI", data, at)
        body = at + 8
        if body + length > len(data):
            raise _cut_off()
        # Decoders go by the first of these, so a later one must not change what is checked.
        if kind == b"VP8X" and size == (0, 0):
            if data[body] & 0x02:
                raise _animated()
            size = (
                int.from_bytes(data[body + 4 : body + 7], "little") + 1,
                int.from_bytes(data[body + 7 : body + 10], "little") + 1,
            )
        elif kind == b"VP8 " and size == (0, 0):
            width, height = struct.unpack_from("<HH", data, body + 6)
            size = (width & 0x3FFF, height & 0x3FFF)
        elif kind == b"VP8L" and size == (0, 0):
            (bits,) = struct.unpack_from("<I", data, body + 1)
            size = ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
        elif kind == b"EXIF":
            payload = data[body : body + length]
            orientation = orientation or _exif_orientation(payload.removeprefix(b"Exif\0\0"))
        at = body + length + (length & 1)
    if size == (0, 0):
        raise _cut_off()
    return ImageHeader("webp", size[0], size[1], orientation or 1)


def _exif_orientation(tiff: bytes) -> int:
    """Orientation (tag 0x0112) of IFD0; 1 where it is absent or senseless, as viewers do.

    Only a SHORT counts, as EXIF defines it: browsers and Android take no other type.
    """
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (offset,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, offset)
        for entry in range(offset + 2, offset + 2 + 12 * count, 12):
            tag, kind, values, value = struct.unpack_from(order + "HHIH", tiff, entry)
            if (tag, kind, values) == (0x0112, 3, 1):
                return value if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1
