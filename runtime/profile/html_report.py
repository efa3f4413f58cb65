"""A profile as one HTML file that needs nothing else: no script, no other file, no net."""

from __future__ import annotations

from edgedf.html_page import page
from edgedf.runtime.profile.document import Profile

__all__ = ["render"]


def render(profile: Profile) -> str:
    """Write the report."""
    return page("edgedf profile", "<h1>edgedf profile</h1>")
