"""Damage done to files on purpose, the same for the same random numbers."""

from __future__ import annotations

import contextlib
import copy
import csv
import io
import json
import struct
import zlib
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

__all__ = [
    "Mutation",
    "damage",
    "damage_csv",
    "damage_jpeg",
    "damage_json",
    "damage_png",
    "damage_safetensors",
    "odd",
]

Mutation = Callable[[Random, bytes, Sequence[bytes]], bytes]
"""Random numbers, a good file and all good files of its kind → a bad file."""

_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_INTEGERS = ("<B", "<H", ">H", "<I", ">I", "<Q", ">Q")
_LONGEST = 1 << 22


def damage(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Any bytes: one to four changes that know nothing of the format."""
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        data = random.choice(_CHANGES)(random, data, others)
    return data[:_LONGEST]


def _place(random: Random, data: bytes) -> int:
    """Where to change something; headers and ends are likelier than the middle."""
    near = min(len(data), 256)
    where = random.random()
    if where < 0.4:
        return random.randrange(near + 1)
    return (
        len(data) - random.randrange(near + 1) if where < 0.6 else random.randrange(len(data) + 1)
    )


def _stretch(random: Random, data: bytes) -> slice:
    start = _place(random, data)
    longest = max(1, random.choice((4, 64, len(data) // 2)))
    return slice(start, min(len(data), start + random.randint(1, longest)))


def _flip(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 4, 32)) if data else 0):
        changed[min(_place(random, data), len(data) - 1)] ^= 1 << random.randrange(8)
    return bytes(changed)


def _truncate(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    return data[: _place(random, data)]


def _remove(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    gone = _stretch(random, data)
    return data[: gone.start] + data[gone.stop :]


def _repeat(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    again = _stretch(random, data)
    return data[: again.stop] + data[again] * random.choice((1, 1, 3, 50)) + data[again.stop :]


def _splice(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    other = random.choice(others)
    return data[: _place(random, data)] + other[_place(random, other) :]


def _insert(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    at = _place(random, data)
    return data[:at] + random.randbytes(random.choice((1, 4, 100))) + data[at:]


def _blank(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    gone = _stretch(random, data)
    return (
        data[: gone.start]
        + random.choice((b"\0", b"\xff", b" ")) * (gone.stop - gone.start)
        + data[gone.stop :]
    )


def _extreme(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """An integer somewhere, of any width and byte order: a length, an offset, a count."""
    layout = random.choice(_INTEGERS)
    size = struct.calcsize(layout)
    at = min(_place(random, data), len(data) - size)
    if at < 0:
        return data
    (old,) = struct.unpack_from(layout, data, at)
    new = random.choice((*_EXTREMES, old + 1, old - 1, old * 2, ~old)) % (1 << 8 * size)
    return data[:at] + struct.pack(layout, new) + data[at + size :]


_CHANGES = (_flip, _flip, _truncate, _remove, _repeat, _splice, _insert, _blank, _extreme, _extreme)


def damage_png(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A PNG; in half of the cases inside a chunk whose checksum is right all the same."""
    if random.random() < 0.5:
        return damage(random, data, others)
    chunks, at = [], 8
    while at + 12 <= len(data):
        (size,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += size + 12
    index = random.randrange(len(chunks))
    kind, body = chunks[index]
    if kind == b"IDAT" and random.random() < 0.5:  # damage below the compression
        pixels = damage(
            random, zlib.decompress(b"".join(b for k, b in chunks if k == kind)), [body]
        )
        chunks[index] = kind, zlib.compress(pixels, 1)
    elif random.random() < 0.8:
        chunks[index] = kind, damage(random, body, [body])
    else:
        chunks.insert(random.randrange(len(chunks)), random.choice(chunks))
    return data[:8] + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def damage_jpeg(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A JPEG; in half of the cases inside a segment of its header."""
    if random.random() < 0.5:
        return damage(random, data, others)
    starts, at = [], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        starts.append(at)
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    start = random.choice(starts)
    end = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    body = damage(random, data[start + 4 : end], [data[start + 4 : end]])[:65533]
    segment = data[start : start + 2] + struct.pack(">H", len(body) + 2) + body
    return data[:start] + segment * random.choice((1, 1, 1, 2)) + data[end:]


def odd(random: Random) -> Any:
    """A value that JSON can hold and that nobody expects."""
    return random.choice(
        (
            *(None, True, -1, 0, 1, 2**31, 2**63, -(2**63), 10**400, 1e308, -1e308, 5e-324, 0.5),
            *(float("nan"), float("inf"), "", "\0", "\ud800", "../../x", "[bold]", "=1+1", "é" * 9),
            *("x" * 100_000, [], {}, [[]], {"": None}, [None] * 1000, _deep(200), _deep(5000)),
        )
    )


def _deep(depth: int) -> Any:
    made: Any = []
    for _ in range(depth):
        made = [made]
    return made


def damage_tree(random: Random, tree: Any) -> Any:
    """Plain data with one to three places changed, removed, doubled or renamed."""
    tree = copy.deepcopy(tree)
    for _ in range(random.choice((1, 1, 2, 3))):
        places: list[tuple[Any, Any]] = []
        _collect(tree, places)
        if not places:
            return odd(random)
        holder, key = random.choice(places)
        action = random.random()
        if action < 0.6:
            holder[key] = odd(random)
        elif action < 0.7:
            with contextlib.suppress(LookupError, RecursionError):  # changed before, or too deep
                other, at = random.choice(places)
                holder[key] = copy.deepcopy(other[at])
        elif action < 0.8 and isinstance(holder[key], int | float):
            holder[key] = random.choice((-holder[key], holder[key] + 1, holder[key] * 1e9))
        elif action < 0.9 or isinstance(holder, list):
            del holder[key]
        else:
            holder[random.choice(("", "x", key + "s", "__class__"))] = holder.pop(key)
    return tree


def _collect(tree: Any, places: list[tuple[Any, Any]], depth: int = 0) -> None:
    if depth > 50:  # a value that was put there
        return
    if isinstance(tree, dict | list):
        for key in tree if isinstance(tree, dict) else range(len(tree)):
            places.append((tree, key))
            _collect(tree[key], places, depth + 1)


def damage_json(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A JSON document; in a third of the cases its text, as where it is none."""
    with contextlib.suppress(ValueError, RecursionError):
        if random.random() < 0.67:
            return as_json(damage_tree(random, json.loads(data)))
    return damage(random, data, others)


def as_json(tree: Any) -> bytes:
    """JSON text, for trees too deep for the standard library as well."""
    try:
        return json.dumps(tree).encode()
    except RecursionError:
        return b'{"a":' * 100_000


def damage_safetensors(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Weights; in two thirds of the cases their header, or the JSON that it holds as text."""
    if random.random() < 0.33:
        return damage(random, data, others)
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    told = header.get("__metadata__", {})
    if told and random.random() < 0.5:
        key = random.choice(list(told))
        told[key] = damage_json(random, told[key].encode(), [data]).decode("utf-8", "replace")
        text = as_json(header)
    else:
        text = as_json(damage_tree(random, header))
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def damage_csv(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A CSV file; in a third of the cases its bytes, else its cells, lines and columns."""
    if random.random() < 0.33:
        return damage(random, data, others)
    rows = list(csv.reader(io.StringIO(data.decode())))
    for _ in range(random.choice((1, 2, 5))):
        row = random.choice(rows)
        at = random.randrange(len(row)) if row else 0
        action = random.random()
        if action < 0.5 and row:
            row[at] = as_json(odd(random)).decode().strip('"')[:200_000]
        elif action < 0.6:
            del row[at:]
        elif action < 0.7:
            row.insert(at, "x")
        elif action < 0.8:
            rows.insert(random.randrange(len(rows)), random.choice(rows))
        elif action < 0.9 and len(rows) > 1:
            del rows[random.randrange(len(rows))]
        else:
            rows = [r[:at] + r[at + 1 :] for r in rows]
    text = io.StringIO()
    writer = csv.writer(
        text,
        delimiter=random.choice(",,,,;\t"),
        quoting=random.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL)),
    )
    writer.writerows(rows)
    encoding = random.choice(("utf-8",) * 6 + ("utf-16", "utf-8-sig", "latin-1"))
    return text.getvalue().encode(encoding, "replace")
