"""A profile as Markdown, to paste into a pull request."""

from __future__ import annotations

from edgedf.runtime.profile.against import Comparison
from edgedf.runtime.profile.document import Profile

__all__ = ["markdown"]


def markdown(profile: Profile, comparison: Comparison | None = None) -> str:
    """The profile as Markdown."""
    raise NotImplementedError
