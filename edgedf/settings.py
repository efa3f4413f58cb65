"""Settings of a run as a TOML file and as ``key=value`` on the command line, strictly.

A frozen dataclass says which keys there are, of which type and with which default; nested
dataclasses are tables. Overrides win over the file, the file over the defaults.
"""

from __future__ import annotations

import dataclasses
import difflib
import sys
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from edgedf import typed_json
from edgedf.errors import ConfigError, MissingExtra
from edgedf.files import open_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["MAX_CONFIG_BYTES", "check_settings", "dump_settings", "load_settings"]

T = TypeVar("T")

MAX_CONFIG_BYTES = 1024 * 1024

_EXAMPLE = "key=value, such as loop.steps=300"


def load_settings(cls: type[T], path: str | Path | None = None, overrides: Sequence[str] = ()) -> T:
    """Settings from defaults, a file and overrides.

    Args:
        cls: A dataclass with a default for each field.
        path: A TOML file with any of its fields; None for defaults alone.
        overrides: ``key=value`` each, later ones first in rank; keys of nested tables are joined
            by dots, values are TOML, and text needs no quotes: ``loop.patience=3``.

    Returns:
        An instance; its ``__post_init__`` has run.

    Raises:
        ConfigError: The file cannot be read or is no TOML, a key does not exist (names it and the
            nearest that does), or a value is of the wrong type or out of range.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Run:
        ...     steps: int = 300
        >>> load_settings(Run, overrides=["steps=20"]).steps
        20
    """
    types = dict(_keys(cls))
    data: dict[str, Any] = {} if path is None else _read(Path(path))
    _check_keys(data, types, f"{path}")
    for text in overrides:
        key, value = _override(text, types)
        _set(data, key, value)
    try:
        return typed_json.decode(cls, data)
    except ValueError as error:
        raise ConfigError(
            f"The settings cannot be used: {error}.",
            expected=_expected(str(error), types),
            next_step="correct that value" + (f" in {path} or on the command line" if path else ""),
        ) from error


def dump_settings(settings: Any) -> str:
    """Settings as TOML, every field given; :func:`load_settings` reads it back.

    Fields that are None are left out, as TOML has no word for it.

    Args:
        settings: A dataclass.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Run:
        ...     steps: int = 300
        >>> print(dump_settings(Run()), end="")
        steps = 300
    """
    try:
        import tomli_w  # here, as reading settings needs no extra
    except ImportError as error:
        raise MissingExtra("distill", "Writing settings") from error

    return tomli_w.dumps(_without_none(typed_json.encode(settings)))


def check_settings(settings: Any, ranges: Mapping[str, str]) -> None:
    """Refuse what is outside its range; to be called where settings are made.

    Args:
        settings: A dataclass with numbers, and with choices of type ``Literal``, which are checked
            as well.
        ranges: Names of fields, separated by spaces, by their range: ``[1, inf)`` holds 1,
            ``(0, 1)`` neither 0 nor 1, ``[32, 64] in steps of 8`` multiples of 8 alone.

    Raises:
        ConfigError: Such a value: names the field, its range and its default.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Run:
        ...     steps: int = 300
        >>> check_settings(Run(20), {"[1, inf)": "steps"})
    """
    hints = typing.get_type_hints(type(settings))
    expected = {
        name: ", ".join(typing.get_args(hint))
        for name, hint in hints.items()
        if typing.get_origin(hint) is typing.Literal
        and getattr(settings, name) not in typing.get_args(hint)
    }
    for text, names in ranges.items():
        expected.update({n: text for n in names.split() if not _is_in(getattr(settings, n), text)})
    for field in dataclasses.fields(settings):
        if field.name in expected:
            raise ConfigError(
                f"{field.name} = {getattr(settings, field.name)} is outside its range.",
                expected=f"{field.name} in {expected[field.name]}",
                next_step=f"{field.name}={field.default}, the default, is a good start",
            )


def _is_in(value: float, text: str) -> bool:
    interval, _, step = text.partition(" in steps of ")
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = value >= low if interval[0] == "[" else value > low
    below = value <= high if interval[-1] == "]" else value < high
    return above and below and (not step or value % int(step) == 0)


def _keys(cls: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and their types, tables included."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        hint, key = hints[field.name], prefix + field.name
        yield key, hint
        if dataclasses.is_dataclass(hint):
            yield from _keys(hint, f"{key}.")


def _read(path: Path) -> dict[str, Any]:
    try:
        with open_text(path) as stream:
            text = stream.read(MAX_CONFIG_BYTES + 1)
    except UnicodeError as error:
        raise ConfigError(
            f"{path} is no TOML: {error}.",
            expected="a text file in UTF-8",
            next_step="save it again in UTF-8",
        ) from error
    except OSError as error:
        raise ConfigError(
            f"Cannot read {path}: {error.strerror or error}.",
            expected="a TOML file with settings",
            next_step="check its path and its permissions",
        ) from error
    if len(text) > MAX_CONFIG_BYTES:
        raise ConfigError(
            f"{path} has more than {MAX_CONFIG_BYTES / 1e6:.0f} MB.",
            expected="a TOML file with settings",
            next_step="check the path",
        )
    try:
        return tomllib.loads(text)
    # Deep nesting ends in a RecursionError.
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(
            f"{path} is no TOML: {error}.",
            expected="lines such as 'steps = 300', below headings such as '[loop]'",
            next_step="correct the file",
        ) from error


def _check_keys(data: Mapping[str, Any], types: Mapping[str, Any], where: str) -> None:
    for key in _given(data, types):
        if key not in types:
            raise _unknown(key, types, where)


def _given(data: Mapping[str, Any], types: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted keys in a file; not those inside a value that is a dictionary itself."""
    for name, value in data.items():
        key = prefix + name
        yield key
        if isinstance(value, dict) and dataclasses.is_dataclass(types.get(key)):
            yield from _given(value, types, f"{key}.")


def _unknown(key: str, types: Mapping[str, Any], where: str) -> ConfigError:
    settable = [known for known, hint in types.items() if not dataclasses.is_dataclass(hint)]
    table, _, name = key.rpartition(".")
    # A key of the right name in the wrong table is the likeliest mistake, a misspelt one the next.
    close = [known for known in settable if known.rpartition(".")[2] == name]
    close += difflib.get_close_matches(key, settable, n=1)
    last_parts = {known.rpartition(".")[2]: known for known in settable}
    close += [last_parts[part] for part in difflib.get_close_matches(name, last_parts, n=1)]
    beside = [known for known in settable if known.rpartition(".")[0] == table]
    return ConfigError(
        f"There is no setting {key!r} ({where}).",
        expected=f"such as {close[0]!r}" if close else f"one of {', '.join(beside or settable)}",
        next_step=f"did you mean {close[0]!r}?" if close else "choose one of these",
    )


def _override(text: str, types: Mapping[str, Any]) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    key, value = key.strip(), value.strip()
    if not equals or not key:
        raise ConfigError(
            f"{text!r} sets nothing.", expected=_EXAMPLE, next_step="write it that way"
        )
    if key not in types:
        raise _unknown(key, types, "on the command line")
    if dataclasses.is_dataclass(types[key]):
        inside = [known for known in types if known.startswith(f"{key}.")]
        raise ConfigError(
            f"{key!r} is a table of settings.",
            expected=f"one of {', '.join(inside)}",
            next_step=f"set one of its keys, such as {inside[0]}=...",
        )
    return key, _value(value, types[key])


def _value(text: str, hint: Any) -> Any:
    """A TOML value; what is none is text, and so is anything where text is asked for."""
    try:
        value = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    # A line break in the text would make more than one key of it.
    if list(value) != ["value"] or (hint is str and not isinstance(value["value"], str)):
        return text
    return value["value"]


def _set(data: dict[str, Any], key: str, value: Any) -> None:
    *tables, name = key.split(".")
    for table in tables:
        inner = data.get(table)
        if not isinstance(inner, dict):  # the file may say `student = 3`; decoding refuses it
            inner = data[table] = {} if inner is None else {"": inner}
        data = inner
    data[name] = value


def _expected(message: str, types: Mapping[str, Any]) -> str:
    key = message.split(" ")[0].split("[")[0]
    if key not in types:
        return "values of the types that the defaults have"
    hint = types[key]
    if type(None) in typing.get_args(hint):  # TOML has no word for it
        (hint,) = (inner for inner in typing.get_args(hint) if inner is not type(None))
    if typing.get_origin(hint) is typing.Literal:
        return f"{key} to be one of {', '.join(typing.get_args(hint))}"
    return f"{key} of type {hint.__name__ if isinstance(hint, type) else hint}"


def _without_none(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _without_none(value) for key, value in data.items() if value is not None}
    return data
