"""From a path, bytes or an array to the uint8 RGB square that a model takes.

Every step is defined so that another language can repeat it exactly; a model's spec names the
steps it needs (:data:`STEPS`). Only NumPy and OpenCV are used, OpenCV only to decode and to move
pixels, never to compute them.

``exif_orientation``
    The stored picture is flipped or turned as EXIF orientation 1 to 8 asks. The first Exif segment
    decides; an orientation counts if it is one SHORT.
``center_square_crop``
    With short side S, the S x S square that starts at ((width - S) // 2, (height - S) // 2).
``resize_exact``
    The S x S square becomes N x N, see :func:`~edgedf.resize.resize_exact`.
``uint8``
    RGB, one byte a channel, height x width x channel.

Decoding itself: greyscale is repeated to three channels; 16-bit samples v become
(v * 255 + 32767) // 65535; alpha, and what a PNG's tRNS makes transparent, is composited over
white, (c * a + 255 * (255 - a) + 127) // 255. A JPEG of more than :data:`MAX_PIXELS` is decoded at
half its width and height, rounded up, by the decoder's own 4 x 4 inverse DCT.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple, Union

import cv2
import numpy as np
from numpy.typing import NDArray

from edgedf.decoder_warnings import with_warnings
from edgedf.errors import ConfigError, ImageNotFound, ImageTooLarge, ImageUnreadable
from edgedf.image_header import ImageHeader, read_header
from edgedf.resize import resize_exact

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_FILE_BYTES",
    "MAX_JPEG_PIXELS",
    "MAX_PIXELS",
    "MIN_SIDE",
    "STEPS",
    "DecodedImage",
    "ImageSource",
    "RGBImage",
    "center_square_crop",
    "decode_image",
    "load_image",
    "orient",
    "prepare",
    "preprocess",
    "read_image",
    "read_image_bytes",
    "resize_exact",
]

RGBImage = NDArray[np.uint8]
ImageSource = Union[str, "os.PathLike[str]", bytes, RGBImage]

STEPS = ("exif_orientation", "center_square_crop", "resize_exact", "uint8")
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp"})

MAX_FILE_BYTES = 128 * 1024 * 1024
MAX_PIXELS = 100_000_000
MAX_JPEG_PIXELS = 4 * MAX_PIXELS
"""Above :data:`MAX_PIXELS` a JPEG is decoded at half size. A progressive one would take as much
memory as at full size, so it is refused."""
MIN_SIDE = 32

_PIXELS_AT_ONCE = 1 << 15
_HALF_SIZE = cv2.IMREAD_REDUCED_COLOR_2 | cv2.IMREAD_IGNORE_ORIENTATION


class DecodedImage(NamedTuple):
    """A decoded picture.

    Args:
        pixels: uint8 RGB, (height, width, 3), upright.
        damaged: Whether the JPEG decoder found data missing, left over or senseless: what it could
            not decode is grey or garbage. WebP has nothing by which a decoder could tell, and a PNG
            that does not match its checksums is refused.
    """

    pixels: RGBImage
    damaged: bool = False


def read_image_bytes(source: str | os.PathLike[str]) -> bytes:
    """Read an image file after checking that it is one and not too large.

    Args:
        source: Path of the file.

    Returns:
        Its content.

    Raises:
        ImageNotFound: No such file, a folder, or no permission.
        ImageTooLarge: More than :data:`MAX_FILE_BYTES`.
    """
    path = Path(source)
    try:
        if path.exists() and not path.is_file():
            raise ImageNotFound(
                f"{path} is not a file.",
                expected="the path of one image",
                next_step="name a file in it",
            )
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise ImageTooLarge(
                f"{path} has {size / 1e6:.0f} MB.",
                expected=f"at most {MAX_FILE_BYTES / 1e6:.0f} MB",
                next_step="scale it down first",
            )
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        reason = getattr(error, "strerror", None) or error
        raise ImageNotFound(
            f"Cannot read {path}: {reason}.",
            expected="the path of a readable image",
            next_step="check the path and its permissions",
        ) from error


def decode_image(data: bytes) -> RGBImage:
    """Decode an image file's bytes, upright.

    Args:
        data: A whole JPEG, PNG or WebP file.

    Returns:
        uint8 RGB, (height, width, 3), after the ``exif_orientation`` step.

    Raises:
        ImageError: As :func:`read_image`.
    """
    return _decode(data).pixels


def load_image(source: ImageSource) -> RGBImage:
    """Path, bytes or array → upright uint8 RGB.

    Args:
        source: A path, the bytes of an image file, or a uint8 RGB array (height, width, 3).

    Returns:
        uint8 RGB, (height, width, 3).

    Raises:
        ImageError: As :func:`read_image`.
    """
    return read_image(source).pixels


def read_image(source: ImageSource) -> DecodedImage:
    """Path, bytes or array → upright uint8 RGB, and whether the file is damaged.

    Args:
        source: A path, the bytes of an image file, or a uint8 RGB array (height, width, 3).

    Returns:
        The picture.

    Raises:
        ImageNotFound: No readable file at the path.
        ImageTooLarge: More than :data:`MAX_FILE_BYTES`, :data:`MAX_PIXELS` (half of it for a PNG of
            16 bits a sample) or, of a JPEG that is not progressive, :data:`MAX_JPEG_PIXELS`;
            nothing was decoded.
        ImageUnreadable: Not an image that is decoded here, cut off, animated, smaller than
            :data:`MIN_SIDE`, or an array of another shape or type.
    """
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3:
            raise ImageUnreadable(
                f"The array is {source.dtype} of shape {source.shape}.",
                expected="uint8 RGB of shape (height, width, 3)",
                next_step="convert it, or pass the path of the file",
            )
        _check_side(*source.shape[:2])
        return DecodedImage(source)
    return _decode(source if isinstance(source, bytes) else read_image_bytes(source))


def orient(image: RGBImage, orientation: int) -> RGBImage:
    """Turn a picture as stored into the picture as meant.

    Args:
        image: uint8, (height, width, channels).
        orientation: EXIF orientation, 1 to 8 (CIPA DC-008, tag 0x0112).

    Returns:
        The upright picture, contiguous.

    Raises:
        ConfigError: Orientation outside 1 to 8.
    """
    if not 1 <= orientation <= 8:
        raise ConfigError(
            f"EXIF orientation {orientation} does not exist.",
            expected="1 to 8",
            next_step="pass 1 for a picture that is upright already",
        )
    height, width, channels = image.shape
    own: RGBImage | None = None
    if orientation >= 5:
        image = own = np.asarray(cv2.transpose(image), np.uint8)
        height, width = width, height
    # What remains after the transposition: which axes run backwards.
    backwards = (orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7))
    if any(backwards):
        around = {(True, False): 0, (False, True): 1, (True, True): -1}[backwards]
        image = np.asarray(cv2.flip(image, around, own), np.uint8)
    return np.ascontiguousarray(image).reshape(height, width, channels)


def center_square_crop(image: RGBImage) -> RGBImage:
    """Largest centred square: side S = min(height, width), offsets (side - S) // 2.

    Args:
        image: (height, width, channels).

    Returns:
        A view, (S, S, channels).
    """
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]


def prepare(image: RGBImage, size: int) -> RGBImage:
    """Upright RGB → model input: ``center_square_crop`` then ``resize_exact``.

    Args:
        image: uint8 RGB, (height, width, 3).
        size: Side of the model's input in pixels.

    Returns:
        uint8 RGB, (size, size, 3).
    """
    return resize_exact(center_square_crop(image), size)


def preprocess(source: ImageSource, size: int) -> RGBImage:
    """All of :data:`STEPS`: path, bytes or array → uint8 RGB, (size, size, 3).

    Raises:
        ImageError: As :func:`load_image`.
    """
    return prepare(load_image(source), size)


def _decode(data: bytes) -> DecodedImage:
    if len(data) > MAX_FILE_BYTES:
        raise ImageTooLarge(
            f"The image has {len(data) / 1e6:.0f} MB.",
            expected=f"at most {MAX_FILE_BYTES / 1e6:.0f} MB",
            next_step="scale it down first",
        )
    header = read_header(data)
    _check_side(header.height, header.width)
    # UNCHANGED keeps 16 bits and alpha and leaves the orientation to us, in every version.
    shape, flags = (header.height, header.width), cv2.IMREAD_UNCHANGED
    if header.width * header.height > _most_pixels(header):
        _check_reducible(header)
        shape, flags = ((header.height + 1) // 2, (header.width + 1) // 2), _HALF_SIZE
    try:
        pixels, complaints = with_warnings(
            lambda: cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        )
    except cv2.error:
        pixels, complaints = None, ()
    if pixels is None or pixels.shape[:2] != shape:
        raise ImageUnreadable(
            f"The {header.format.upper()} data are damaged and cannot be decoded.",
            expected="a complete, valid file",
            next_step="copy or download it again",
        )
    if header.transparent is not None and pixels.ndim == 2:
        # Of transparent colours OpenCV makes alpha, but not of a transparent grey.
        pixels[pixels == header.transparent] = 65535 if pixels.dtype == np.uint16 else 255
    pixels = _to_rgb(pixels)  # under the same name, so that what was decoded is freed
    damaged = header.format == "jpeg" and bool(complaints)
    return DecodedImage(orient(pixels, header.orientation), damaged)


def _most_pixels(header: ImageHeader) -> int:
    """What is decoded as it is, in less than 1 GiB."""
    return MAX_PIXELS // 2 if header.deep else MAX_PIXELS


def _check_reducible(header: ImageHeader) -> None:
    reducible = header.format == "jpeg" and header.one_scan
    limit = MAX_JPEG_PIXELS if reducible else _most_pixels(header)
    if header.width * header.height > limit:
        what = header.format.upper() if header.one_scan else "progressive JPEG"
        what += " of 16 bits a sample" if header.deep else ""
        most = f"{MAX_JPEG_PIXELS / 1e6:.0f} million pixels"
        other = f", or save it as a JPEG that is not progressive (up to {most})"
        raise ImageTooLarge(
            f"The image claims {header.width} x {header.height} pixels.",
            expected=f"at most {limit / 1e6:.0f} million pixels of a {what}",
            next_step=f"scale it down first{'' if reducible else other}",
        )


def _check_side(height: int, width: int) -> None:
    if min(height, width) < MIN_SIDE:
        raise ImageUnreadable(
            f"The image has {width} x {height} pixels, too few to judge.",
            expected=f"at least {MIN_SIDE} pixels on each side",
            next_step="use the original, not a thumbnail of it",
        )


def _to_rgb(pixels: NDArray[np.generic]) -> RGBImage:
    """OpenCV's grey, BGR or BGRA of 8 or 16 bits → uint8 RGB, as the module's head defines."""
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ImageUnreadable(
            f"The image has samples of type {pixels.dtype}.",
            expected="8 or 16 bits a sample",
            next_step="save it as 8-bit JPEG or PNG",
        )
    height, width = pixels.shape[:2]
    pixels = pixels.reshape(height, width, -1)
    channels = pixels.shape[2]
    image: NDArray[Any] = pixels
    if pixels.dtype == np.uint16 or channels in (2, 4):
        image = np.empty((height, width, 1 if channels <= 2 else 3), np.uint8)
        # A few rows at a time stay in the cache, and need little memory.
        step = max(1, _PIXELS_AT_ONCE // width)
        for at in (slice(top, top + step) for top in range(0, height, step)):
            image[at] = _opaque_bytes(pixels[at])
    order = cv2.COLOR_GRAY2RGB if image.shape[2] == 1 else cv2.COLOR_BGR2RGB
    return np.asarray(cv2.cvtColor(image, order), np.uint8)


def _opaque_bytes(rows: NDArray[Any]) -> NDArray[np.uint8]:
    """Samples of 8 or 16 bits, the last of two or four channels alpha → those of the others."""
    if rows.dtype == np.uint16:
        rows = ((rows.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    if rows.shape[2] in (1, 3):
        return rows
    alpha = rows[:, :, -1:].astype(np.uint16)  # nothing here exceeds 16 bits
    over_white = rows[:, :, :-1] * alpha + (255 * (255 - alpha) + 127)
    return (over_white // 255).astype(np.uint8)
