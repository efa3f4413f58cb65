"""What ``edgedf diff`` says, for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

    from edgedf.quantize.diff.difference import Difference

__all__ = ["parts"]


def parts(difference: Difference) -> Iterator[RenderableType]:
    """What to print, one below the other.

    Args:
        difference: What was found.
    """
    from rich.text import Text

    from edgedf.cli._sections import section_parts
    from edgedf.cli._verification import STYLES
    from edgedf.quantize.accuracy.wording import MARKS
    from edgedf.quantize.diff.wording import headline, sections

    yield from section_parts(sections(difference))
    text = Text(f"{MARKS[difference.verdict]} ", style=STYLES[difference.verdict])
    yield text.append(headline(difference), style="default")
