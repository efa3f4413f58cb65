"""Scripts that run on a board, with nothing but a shell and its Python's standard library.

They are sent as text and import nothing of edgedf. ``probe`` has to run on any Python, as it is
what finds one that is too old; the others on Python 3.9.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["text"]


def text(name: str) -> str:
    """One of the scripts, by its file's name."""
    return Path(__file__).with_name(name).read_text("utf-8")
