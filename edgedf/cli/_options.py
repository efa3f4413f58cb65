"""Options that only make sense with, or without, another one."""

from __future__ import annotations

from edgedf.errors import ConfigError

__all__ = ["refuse_alone", "refuse_together"]


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
