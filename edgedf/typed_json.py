"""Frozen dataclasses to and from JSON, strictly, and their JSON Schema.

The dataclass is the only definition: the schema is generated from it and decoding follows it.
Supported field types: str, int, float, bool, ``X | None``, ``tuple[X, ...]``, ``tuple[X, X]``,
``Literal`` of strings, ``dict[str, X]`` and other dataclasses.
"""

from __future__ import annotations

import ast
import dataclasses
import math
import sys
import types
import typing
from typing import Any, Literal, TypeVar, Union

__all__ = ["decode", "encode", "json_schema"]

T = TypeVar("T")

_PLAIN: dict[type, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}
_NULL = {"type": "null"}
# Python 3.9, which a measured board may have, knows ``Union[X, None]`` alone.
_UNIONS = (Union,) if sys.version_info < (3, 10) else (Union, types.UnionType)


def encode(value: Any) -> Any:
    """Dataclass → plain dicts, lists and scalars, in field order."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    if isinstance(value, dict):
        return {key: encode(item) for key, item in value.items()}
    return value


def decode(cls: type[T], data: Any, where: str = "") -> T:
    """Plain data → dataclass ``cls``.

    Args:
        cls: A dataclass.
        data: What ``json.loads`` gave.
        where: Path of ``data`` inside the document, for messages.

    Returns:
        An instance; its ``__post_init__`` has run.

    Raises:
        ValueError: A field is missing, unknown, of the wrong type or not one of its values; the
            message names it.
    """
    if not isinstance(data, dict):
        raise ValueError(f"{where or 'the document'} is {_kind(data)}, not an object")
    hints = _hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(data) - set(fields))
    if unknown:
        raise ValueError(f"{_join(where, unknown[0])} is unknown (known: {', '.join(fields)})")
    values = {}
    for name, field in fields.items():
        if name in data:
            values[name] = _value(hints[name], data[name], _join(where, name))
        elif _required(field):
            raise ValueError(f"{_join(where, name)} is missing")
    return cls(**values)


def json_schema(cls: type, *, title: str, identifier: str) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a dataclass.

    Args:
        cls: A dataclass.
        title: Title of the schema.
        identifier: Its ``$id``.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": identifier,
        "title": title,
        **_schema(cls),
    }


def _hints(cls: type) -> dict[str, Any]:
    """Types of a dataclass's fields."""
    if sys.version_info >= (3, 10):
        return typing.get_type_hints(cls)
    names = vars(sys.modules[cls.__module__])
    return {f.name: _evaluate(f.type, names) for f in dataclasses.fields(cls)}


def _evaluate(annotation: str, names: dict[str, Any]) -> Any:
    """The type that an annotation means, with ``X | Y`` read as ``Union[X, Y]``.

    Python 3.9 cannot evaluate the former. Annotations are text of our own modules.
    """
    tree = _AsUnion().visit(ast.parse(annotation, mode="eval"))
    code = compile(ast.fix_missing_locations(tree), "<annotation>", "eval")
    return eval(code, {**names, "_Union": Union})


class _AsUnion(ast.NodeTransformer):
    """``X | Y`` becomes ``_Union[X, Y]``."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if not isinstance(node.op, ast.BitOr):
            return node
        both = ast.Tuple([node.left, node.right], ast.Load())
        return ast.Subscript(ast.Name("_Union", ast.Load()), both, ast.Load())


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return decode(hint, value, where)  # type: ignore[arg-type]
    if origin is Literal:
        if not isinstance(value, str) or value not in args:
            raise ValueError(f"{where} is {value!r}, not one of {', '.join(args)}")
        return value
    if origin in _UNIONS:
        if value is None and type(None) in args:
            return None
        (inner,) = [arg for arg in args if arg is not type(None)]
        return _value(inner, value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{where} is {_kind(value)}, not a list")
        if args[-1] is Ellipsis:
            return tuple(_value(args[0], v, f"{where}[{i}]") for i, v in enumerate(value))
        if len(value) != len(args):
            raise ValueError(f"{where} has {len(value)} entries, not {len(args)}")
        return tuple(_value(a, v, f"{where}[{i}]") for i, (a, v) in enumerate(zip(args, value)))
    if origin is dict:
        if not isinstance(value, dict):
            raise ValueError(f"{where} is {_kind(value)}, not an object")
        return {key: _value(args[1], item, f"{where}.{key}") for key, item in value.items()}
    return _scalar(hint, value, where)


def _scalar(hint: type, value: Any, where: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            value = float(value)
        except OverflowError:
            raise ValueError(f"{where} is too large for a number") from None
    # bool is a subclass of int in Python, not in JSON.
    if type(value) is not hint:
        raise ValueError(f"{where} is {_kind(value)}, not {_PLAIN[hint]}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} is {value}, not a finite number")
    return value


def _schema(hint: Any) -> dict[str, Any]:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        hints = _hints(hint)  # type: ignore[arg-type]
        fields = dataclasses.fields(hint)
        return {
            "type": "object",
            "additionalProperties": False,
            "required": [f.name for f in fields if _required(f)],
            "properties": {f.name: _schema(hints[f.name]) for f in fields},
        }
    if origin is Literal:
        return {"type": "string", "enum": list(args)}
    if origin in _UNIONS:
        return {"anyOf": [_schema(arg) for arg in args if arg is not type(None)] + [_NULL]}
    if origin is tuple:
        if args[-1] is Ellipsis:
            return {"type": "array", "items": _schema(args[0])}
        return {
            "type": "array",
            "prefixItems": [_schema(arg) for arg in args],
            "minItems": len(args),
            "maxItems": len(args),
        }
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema(args[1])}
    return {"type": _PLAIN[hint]}
