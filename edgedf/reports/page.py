"""HTML pages that need nothing else: no script, no other file, no net.

The pages are Jinja templates in the folder ``templates``. Everything that is put into them is
escaped; only what is marked as HTML already, such as the plots, is not.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from edgedf import __version__
from edgedf.reports.section import NONE, Section, split_mark, tone

__all__ = ["render", "text"]

_TEMPLATES = Path(__file__).with_name("templates")
_LONG = 28  # characters of a cell that had better be broken into lines


def render(template: str, **values: object) -> str:
    """A whole document, which may load nothing and run nothing: a policy says so to the browser.

    Args:
        template: Name of a file in the folder ``templates``.
        values: What the template names.
    """
    return _environment().get_template(template).render(values)


def text(value: str) -> str:
    """Escaped for HTML, without what no HTML file can hold."""
    return str(escape(_writable(value)))


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        finalize=_writable,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        classes=_classes, split_mark=split_mark, tone=tone, version=__version__
    )
    return environment


def _writable(value: object) -> str:
    """Text without control characters and half-decoded bytes; HTML stays as it is."""
    if isinstance(value, Markup):
        return value
    return "".join(
        char if unicodedata.category(char) not in ("Cc", "Cs") else "\N{REPLACEMENT CHARACTER}"
        for char in str(value)
    )


def _classes(section: Section) -> list[str]:
    """CSS classes of each column: words go to the left and are broken into lines."""
    classes = []
    for cells, numeric in zip(zip(*section.rows), section.numeric):
        is_long = any(len(cell) > _LONG for cell in cells if cell != NONE)
        classes.append("text long" if is_long else "" if numeric else "text")
    return classes
