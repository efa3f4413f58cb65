"""Options that come from the fields of a dataclass, and options that need or exclude others."""

from __future__ import annotations

import inspect
import re
from typing import Any

import typer

from edgedf.errors import ConfigError

__all__ = ["documentation", "option", "refuse_alone", "refuse_together"]


def documentation(kind: type) -> dict[str, str]:
    """What the docstring of a dataclass says of each field, by name, as one line each.

    Args:
        kind: The dataclass; fields that it does not document are looked for in its bases.
    """
    texts: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        section = (inspect.cleandoc(base.__doc__ or "") + "\n\n").partition("Args:\n")[2]
        entries = re.findall(r"^ {4}(\w+): (.+(?:\n {5,}.+)*)", section.partition("\n\n")[0], re.M)
        texts |= {name: " ".join(text.split()) for name, text in entries}
    return texts


def option(kind: type, field: str, *names: str, **settings: Any) -> Any:
    """An option that sets a field of a dataclass and says what the docstring says of it.

    Args:
        kind: The dataclass.
        field: Name of the field.
        names: Of the option; none where the parameter has the right one.
        settings: As for ``typer.Option``.
    """
    return typer.Option(*names, **{"help": documentation(kind)[field], **settings})


def refuse_together(one: str, one_is_given: bool, other: str, other_is_given: bool) -> None:
    """Raise if both are given.

    Raises:
        ConfigError: They exclude each other.
    """
    if one_is_given and other_is_given:
        raise ConfigError(
            f"{one} and {other} exclude each other.",
            expected="one of them",
            next_step=f"leave {one} out",
        )


def refuse_alone(one: str, one_is_given: bool, other: str, other_is_given: bool) -> None:
    """Raise if one is given without the other that it needs.

    Raises:
        ConfigError: The first means nothing alone.
    """
    if one_is_given and not other_is_given:
        raise ConfigError(
            f"{one} means nothing without {other}.",
            expected="both of them, or neither",
            next_step=f"add {other}, or leave {one} out",
        )
