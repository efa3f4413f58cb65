"""JPEG quantisation tables: which encoder, at which quality, a file comes from.

A JPEG's tables stand in its DQT segments (ITU T.81, B.2.4.1). Cameras, sites and generators have
their own, so they name the source of a file as surely as a signature does.
"""

from __future__ import annotations

import struct

import numpy as np

from edgedf.files import sha256_of

__all__ = ["Table", "Tables", "ijg_quality", "quantisation_tables", "tables_name"]

Table = tuple[int, ...]
Tables = tuple[Table, ...]

# ITU T.81, tables K.1 (luminance) and K.2 (chrominance), row by row.
_LUMINANCE = (
    *(16, 11, 10, 16, 24, 40, 51, 61),
    *(12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77),
    *(24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101),
    *(72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMINANCE = (
    *(17, 18, 24, 47, 99, 99, 99, 99),
    *(18, 21, 26, 66, 99, 99, 99, 99),
    *(24, 26, 56, 99, 99, 99, 99, 99),
    *(47, 66, 99, 99, 99, 99, 99, 99),
    *(99,) * 32,
)


def _zigzag() -> tuple[int, ...]:
    """Where each of the 64 numbers of a segment belongs, row by row (ITU T.81, figure A.6)."""
    cells = [(row, column) for row in range(8) for column in range(8)]
    # Diagonals in turn; odd ones run down and even ones up.
    cells.sort(key=lambda cell: (sum(cell), cell[0] if sum(cell) % 2 else cell[1]))
    return tuple(row * 8 + column for row, column in cells)


_ZIGZAG = _zigzag()


def quantisation_tables(data: bytes) -> Tables:
    """Tables of a JPEG file, ordered by their numbers.

    Args:
        data: The whole file; one that :func:`edgedf.image_header.read_header` accepts.

    Returns:
        At most four tables of 64 numbers, row by row; none for another format, or where the
        segments are damaged.
    """
    if data[:2] != b"\xff\xd8":
        return ()
    tables: dict[int, Table] = {}
    try:
        at = 2
        while True:
            while data[at] == 0xFF:  # any number of fill bytes may precede a marker
                at += 1
            marker = data[at]
            at += 1
            if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # no length follows these
                continue
            if marker in (0xDA, 0xD9):  # all tables of the first scan stand before it
                return tuple(tables[number] for number in sorted(tables))
            (length,) = struct.unpack_from(">H", data, at)
            if length < 2:
                return ()
            if marker == 0xDB:
                _read_segment(data[at + 2 : at + length], tables)
            at += length
    except (IndexError, struct.error):
        return ()


def _read_segment(body: bytes, tables: dict[int, Table]) -> None:
    at = 0
    while at < len(body):
        wide, number = body[at] >> 4, body[at] & 3  # 8 or 16 bits a number; numbers 0 to 3
        entries = struct.unpack_from(">64H" if wide else ">64B", body, at + 1)
        table = [0] * 64
        for place, entry in zip(_ZIGZAG, entries, strict=True):
            table[place] = entry
        tables[number] = tuple(table)
        at += 1 + (128 if wide else 64)


def ijg_quality(tables: Tables) -> int | None:
    """Quality setting, 1 to 100, of the Independent JPEG Group's encoder (libjpeg).

    It scales the tables of ITU T.81, annex K: with s = 5000 // quality below 50 and
    200 - 2 quality from there on, each number t becomes (t s + 50) // 100, within 1 to 255.

    Args:
        tables: As :func:`quantisation_tables` gives them.

    Returns:
        The quality whose tables these are; None for tables of another encoder, or none at all.
    """
    standard = (_LUMINANCE, _CHROMINANCE)
    for quality in range(1, 101) if 1 <= len(tables) <= 2 else ():
        if tables == tuple(_scaled(table, quality) for table in standard[: len(tables)]):
            return quality
    return None


def _scaled(table: Table, quality: int) -> Table:
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    scaled = (np.array(table) * scale + 50) // 100
    return tuple(np.clip(scaled, 1, 255).tolist())


def tables_name(tables: Tables) -> str:
    """``IJG quality 90``, or ``tables 1f2e3d4c`` (a hash) for another encoder's; empty for none."""
    if not tables:
        return ""
    quality = ijg_quality(tables)
    if quality is not None:
        return f"IJG quality {quality}"
    return f"tables {sha256_of(repr(tables).encode())[:8]}"
