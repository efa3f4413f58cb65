"""What all plots are made of: an SVG drawing, text that fits."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field

from edgedf.reports.page import text
from edgedf.runtime.profile.report.figures import number
from edgedf.runtime.profile.report.plots.scale import Scale

__all__ = ["FONT", "STYLE", "WIDTH", "Drawing", "fit", "text_width"]

WIDTH = 360
"""Of every drawing, in its own units: about what a phone of 390 pixels leaves, so a unit is a
pixel there."""

FONT = 12
"""Size of all text, in the same units."""

STYLE = """
:root { --first: #0072b2; --second: #d55e00; --third: #009e73; --fourth: #cc79a7;
  --first-pale: #b5d7ec; --span: #f7e9cc; --heat: #f2bfa6; }
@media screen and (prefers-color-scheme: dark) {
  :root { --first: #56b4e9; --second: #e69f00; --third: #2fc399; --fourth: #dd9ec3;
    --first-pale: #2f6c91; --span: #4a3c17; --heat: #5c2c17; }
}
svg { display: block; width: 100%; height: auto; }
svg text { font: 12px system-ui, sans-serif; fill: var(--ink); }
svg .quiet { fill: var(--quiet); } svg .strong { font-weight: 600; }
svg .inside { fill: #111; }
svg .grid { stroke: var(--line); } svg .axis { stroke: var(--quiet); }
svg .line { stroke: var(--first); fill: none; stroke-width: 1.5; stroke-linejoin: round; }
svg .line.second { stroke: var(--second); stroke-dasharray: 4 3; fill: none; }
svg .mark { stroke: var(--ink); stroke-width: 1.5; }
svg .whisker { stroke: var(--quiet); stroke-width: 1.25; fill: none; }
svg .first { fill: var(--first); } svg .second { fill: var(--second); }
svg .third { fill: var(--third); } svg .fourth { fill: var(--fourth); }
svg .pale { fill: var(--first-pale); }
svg .hollow { fill: var(--paper); stroke: var(--first); stroke-width: 1.5;
  stroke-dasharray: 3 2; }
svg .seg-1 { fill: #56b4e9; } svg .seg-2 { fill: #f0e442; }
svg .seg-3 { fill: #e69f00; } svg .seg-4 { fill: #dd9ec3; }
svg .bubble { fill: var(--first-pale); stroke: var(--first); stroke-width: 1.5; }
svg .halo { paint-order: stroke; stroke: var(--paper); stroke-width: 3px; stroke-linejoin: round; }
svg .front { stroke: var(--quiet); stroke-dasharray: 2 3; fill: none; }
svg .loaded { fill: var(--span); } svg .throttled { fill: var(--heat); }
"""
"""What a page with drawings needs besides its own."""


@dataclass
class Drawing:
    """An SVG image that a screen reader can tell about.

    Args:
        title: What it shows, in a few words.
        description: What can be read from it, in a sentence or two.
        height: In units.
    """

    title: str
    description: str
    height: float
    _parts: list[str] = field(default_factory=list)

    def svg(self, identifier: str) -> str:
        """As an element of a page.

        Args:
            identifier: Unlike any other on the page; letters, digits and hyphens.
        """
        return (
            f'<svg viewBox="0 0 {WIDTH} {_coordinate(self.height)}" role="img" '
            f'aria-labelledby="{identifier}-title {identifier}-text">'
            f'<title id="{identifier}-title">{text(self.title)}</title>'
            f'<desc id="{identifier}-text">{text(self.description)}</desc>'
            f"{''.join(self._parts)}</svg>"
        )

    def text(
        self,
        x: float,
        y: float,
        said: str,
        *,
        anchor: str = "start",
        style: str = "",
        then: str = "",
    ) -> None:
        """Text whose base line begins, has its middle or ends at a point; ``then`` in grey."""
        where = "" if anchor == "start" else f' text-anchor="{anchor}"'
        rest = f'<tspan dx="2" class="quiet"> {text(then)}</tspan>' if then else ""
        self._parts.append(
            f'<text x="{_coordinate(x)}" y="{_coordinate(y)}"{where}{_class(style)}>'
            f"{text(said)}{rest}</text>"
        )

    def line(self, x1: float, y1: float, x2: float, y2: float, style: str) -> None:
        """A straight line."""
        points = " ".join(
            f'{name}="{_coordinate(value)}"'
            for name, value in (("x1", x1), ("y1", y1), ("x2", x2), ("y2", y2))
        )
        self._parts.append(f"<line {points}{_class(style)}/>")

    def polyline(self, points: Iterable[tuple[float, float]], style: str) -> None:
        """Straight lines from point to point."""
        joined = " ".join(f"{_coordinate(x)},{_coordinate(y)}" for x, y in points)
        self._parts.append(f'<polyline points="{joined}"{_class(style)}/>')

    def rectangle(
        self, x: float, y: float, width: float, height: float, style: str, *, tip: str = ""
    ) -> None:
        """A filled rectangle, with words for whoever points at it."""
        shape = (
            f'<rect x="{_coordinate(x)}" y="{_coordinate(y)}" '
            f'width="{_coordinate(max(width, 0))}" height="{_coordinate(max(height, 0))}"'
            f"{_class(style)}"
        )
        self._parts.append(_closed("rect", shape, tip))

    def circle(self, x: float, y: float, radius: float, style: str, *, tip: str = "") -> None:
        """A filled circle, likewise."""
        shape = (
            f'<circle cx="{_coordinate(x)}" cy="{_coordinate(y)}" r="{_coordinate(radius)}"'
            f"{_class(style)}"
        )
        self._parts.append(_closed("circle", shape, tip))

    def horizontal_axis(self, scale: Scale, y: float, label: str, *, top: float) -> None:
        """Ticks with numbers below ``y``, lines up to ``top``, and what is counted, at the end.

        The label takes the place of the last number where they would meet.
        """
        room = WIDTH - text_width(label) - 6
        for tick in scale.ticks:
            x, said = scale(tick), _round(tick)
            self.line(x, top, x, y, "grid")
            if x + text_width(said) / 2 <= room:
                self.text(x, y + FONT + 4, said, anchor="middle", style="quiet")
        self.line(scale.start, y, scale.end, y, "axis")
        self.text(WIDTH, y + FONT + 4, label, anchor="end", style="quiet")

    def vertical_axis(self, scale: Scale, x: float) -> None:
        """Ticks with numbers left of ``x`` and lines over the whole width."""
        for tick in scale.ticks:
            y = scale(tick)
            self.line(x, y, WIDTH, y, "grid")
            self.text(x - 4, y + 4, _round(tick), anchor="end", style="quiet")


def text_width(said: str) -> float:
    """How wide text may become, in units: that of a wide font, as the reader's is not known."""
    return FONT * sum(map(_advance, said))


def fit(said: str, width: float) -> str:
    """Text that is no wider than ``width``: what is too much goes from its middle.

    The ends of file names tell more than their middles.
    """
    if text_width(said) <= width:
        return said
    room = width - text_width("…")
    left, right = 0, len(said)
    used = 0.0
    while left < right:
        at_left = left <= len(said) - right
        char = said[left] if at_left else said[right - 1]
        used += FONT * _advance(char)
        if used > room:
            break
        if at_left:
            left += 1
        else:
            right -= 1
    return f"{said[:left]}…{said[right:]}"


def _round(value: float) -> str:
    """A tick's number, which is round, without zeros that say nothing."""
    said = number(value)
    return said.rstrip("0").rstrip(".") if "." in said else said


def _advance(char: str) -> float:
    """Width of a character in ems."""
    if unicodedata.combining(char) or unicodedata.category(char) == "Cf":
        return 0.0
    if unicodedata.east_asian_width(char) in ("W", "F"):
        return 1.0
    if char in "mwMW@%…":
        return 0.99
    if char in "iljtfrI.,:;|!'()[] -/":
        return 0.4
    return 0.72 if char.isupper() else 0.64


def _coordinate(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _class(style: str) -> str:
    return f' class="{style}"' if style else ""


def _closed(name: str, shape: str, tip: str) -> str:
    return f"{shape}><title>{text(tip)}</title></{name}>" if tip else f"{shape}/>"
