"""Which fields of two specs differ: whatever fields there are, without a list of them here."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from edgedf import typed_json
from edgedf.quantize.diff.difference import FieldChange
from edgedf.spec import ModelSpec

__all__ = ["MAX_LISTED", "spec_changes"]

MAX_LISTED = 8
"""Tables with more entries are summarised, such as a range for each of 80 tensors."""

# What tells the entries of a tuple apart, the first that all of them have.
_KEYS = ("name", "tensor", "step", "pattern")
_MAX_TEXT = 200
_NONE = "none"


def spec_changes(first: ModelSpec, second: ModelSpec) -> tuple[FieldChange, ...]:
    """Fields that differ, in the order of the schema.

    Args:
        first: Spec of A.
        second: Spec of B.
    """
    return tuple(_changes("", first, second))


def _changes(path: str, first: Any, second: Any) -> Iterator[FieldChange]:
    if first == second:
        return
    tables = [_as_table(value) for value in (first, second)]
    if any(table is None for table in tables) or not any(tables):
        yield FieldChange(path, *_texts(first, second))
        return
    one, other = (table or {} for table in tables)
    # The fields of a dataclass are told one by one, however many there are.
    open_ended = not any(map(dataclasses.is_dataclass, (first, second)))
    if open_ended and max(len(one), len(other)) > MAX_LISTED:
        yield FieldChange(path, _entries(one), _entries(other), _summary(one, other))
        return
    for name in dict.fromkeys((*one, *other)):
        inner = f"{path}.{name}" if path else name
        yield from _changes(inner, one.get(name), other.get(name))


def _as_table(value: Any) -> Mapping[str, Any] | None:
    """Entries by name, none for None; None for what is a value of its own, such as a shape."""
    if value is None:
        return {}
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return value
    if not isinstance(value, tuple) or not all(map(dataclasses.is_dataclass, value)):
        return None
    for key in _KEYS:
        names = [str(getattr(entry, key)) for entry in value if hasattr(entry, key)]
        if len(names) == len(value) == len(set(names)):
            return dict(zip(names, value, strict=True))
    return {str(index): entry for index, entry in enumerate(value)}


def _summary(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    shared = [name for name in first if name in second]
    differing = [name for name in shared if first[name] != second[name]]
    parts = []
    if shared:
        parts.append(f"{len(differing)} of {len(shared)} differ")
    if differing:
        most = max(differing, key=lambda name: _distance(first[name], second[name]))
        one, other = _texts(first[most], second[most])
        parts[0] += f", most: {most} {one} → {other}"
    for title, entries, others in (("A", first, second), ("B", second, first)):
        alone = sum(name not in others for name in entries)
        if alone and shared:
            parts.append(f"{alone} only in {title}")
    return "; ".join(parts)


def _distance(first: Any, second: Any) -> float:
    """The largest change of a number in an entry, as a share of the entry's largest number."""
    one, other = (list(_numbers(typed_json.encode(value))) for value in (first, second))
    if len(one) != len(other) or not one:
        return math.inf
    scale = max(abs(value) for value in (*one, *other)) or 1.0
    return max(abs(a - b) for a, b in zip(one, other, strict=True)) / scale


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for entry in value:
            yield from _numbers(entry)
    elif isinstance(value, (int, float)):
        yield float(value)


def _entries(table: Mapping[str, Any]) -> str:
    return f"{len(table)} entries" if table else _NONE


def _texts(first: Any, second: Any) -> tuple[str, str]:
    """Both as text: short numbers, unless the difference is in the digits left out."""
    one, other = _text(first, digits=6), _text(second, digits=6)
    if one == other:
        one, other = _text(first), _text(second)
    alike = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    start = sum(1 for _ in alike)
    begin = 0 if start < _MAX_TEXT // 2 else start - _MAX_TEXT // 4
    return _window(one, begin), _window(other, begin)


def _window(text: str, begin: int) -> str:
    """A part of a long text, in which it differs from another."""
    if len(text) <= _MAX_TEXT:
        return text
    end = begin + _MAX_TEXT
    return f"{'… ' if begin else ''}{text[begin:end]}{' …' if end < len(text) else ''}"


def _text(value: Any, digits: int = 17) -> str:
    if value is None:
        return _NONE
    if isinstance(value, str):
        return value
    return json.dumps(_rounded(typed_json.encode(value), digits), ensure_ascii=False)


def _rounded(value: Any, digits: int) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    if isinstance(value, dict):
        return {name: _rounded(entry, digits) for name, entry in value.items()}
    if isinstance(value, list):
        return [_rounded(entry, digits) for entry in value]
    return value
