"""How long steps tell a caller where they are."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Progress", "silent"]

Progress = Callable[[str, int, int], None]
"""Called with the name of the step, how much of it is done, and how much there is in all."""


def silent(step: str, done: int, total: int) -> None:
    """A caller that does not want to know."""
