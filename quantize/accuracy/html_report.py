"""The gate's findings as one HTML file that needs nothing else: no script, no other file, no net.

Everything that comes from outside (names of files, of models, of data) is escaped.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable

import numpy as np

from edgedf.html_page import definitions, page, text
from edgedf.imaging import RGBImage
from edgedf.quantize.accuracy.verify import Example, Verification
from edgedf.quantize.accuracy.wording import MARKS, Line, headline, lines, remarks
from edgedf.quantize.layer_error.ranking import LayerRanking
from edgedf.quantize.layer_error.wording import HEADINGS, TEXTS, conclusion, matching, rows
from edgedf.runtime.overlay import SCALE_MAXIMUM, color_map, encode_jpeg, fit_square

__all__ = ["render"]

_SIDE = 256  # of each picture, in pixels

_STYLE = """
.side-by-side { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: .5rem; }
img { display: block; width: 100%; height: auto; }
.scale { max-width: 24rem; } .scale img { height: .8rem; }
.scale figcaption { display: flex; justify-content: space-between; }
@media (max-width: 40rem) {
  .side-by-side { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .side-by-side figure:first-child { grid-column: 1 / -1; max-width: 256px; }
}
"""

_DEFINITIONS = (
    "Drops are the parent's figure minus the artifact's. Intervals are 95 % percentile intervals "
    "of a paired bootstrap of 2,000 resamples of whole groups, the same for both models; where no "
    "verdict flips among n groups, the interval ends at 3 / n. Each model's verdicts follow its "
    "own thresholds. The limit is for the figure, the bound for the upper end of its interval; "
    "TPR@1% is the TPR at an FPR of at most 1 %. A ? means that there are too few pictures to tell."
)


_TEXT_CELL = ' class="text"'
_LAYER_DEFINITIONS = (
    "SQNR is that of the layer's tensor, inherited noise included; added is the noise that the "
    "layer adds itself, as a share of its signal; clipped the share of values outside the "
    "calibrated range; weights the SQNR of the weights, with the worst output channel. Logit and "
    "map say how far the outputs move when this layer alone is quantized, as a share of their "
    "standard deviation."
)


def render(
    verification: Verification,
    examples: Iterable[Example] = (),
    *,
    layers: LayerRanking | None = None,
) -> str:
    """Write the report.

    Args:
        verification: What the gate found.
        examples: Pictures to show with both maps, the worst first.
        layers: Which layers hurt, where that was asked for.

    Returns:
        A whole HTML document.
    """
    shown = "".join(map(_example, examples))
    body = f"""<h1>edgedf verify</h1>
<p class="verdict {_css(verification.verdict)}">{MARKS[verification.verdict]}
{text(headline(verification))}</p>
{_about(verification)}
<h2>Figures</h2>
<table>
<thead><tr><td></td>{_headings()}</tr></thead>
<tbody>
{"".join(map(_row, lines(verification)))}</tbody>
</table>
{"".join(f"<p>{text(remark)}</p>" for remark in remarks(verification))}
{_layers(layers)}{_worst(shown)}{_files(verification)}"""
    title = f"edgedf verify: {verification.artifact} against {verification.parent}"
    return page(title, body, footer=[_DEFINITIONS], style=_STYLE)


_COLUMNS = ("parent", "artifact", "measured", "95 % interval", "limit", "bound")


def _headings() -> str:
    return "".join(f'<th scope="col">{name}</th>' for name in ("figure", *_COLUMNS))


def _row(line: Line) -> str:
    reason = f'<span class="reason">{text(line.reason)}</span>' if line.reason else ""
    values = (line.parent, line.artifact, line.measured, line.interval, line.limit, line.bound)
    cells = "".join(
        f'<td data-label="{name}">{text(value)}</td>' if value else "<td></td>"
        for name, value in zip(_COLUMNS, values, strict=True)
    )
    return (
        f'<tr><td class="mark {_css(line.verdict)}" title="{line.verdict}">{line.mark}</td>'
        f'<th scope="row">{text(line.title)}{reason}</th>{cells}</tr>\n'
    )


def _about(verification: Verification) -> str:
    seen = verification.measurements
    counts = f"{seen.pictures:,} in {seen.groups:,} groups"
    if verification.real or verification.fake:
        counts += f": {verification.real:,} real, {verification.fake:,} fake"
    facts = {
        "artifact": verification.artifact,
        "parent": verification.parent,
        "data": f"{verification.data}, split {verification.split}",
        "pictures": counts,
    }
    return definitions(facts)


def _layers(ranking: LayerRanking | None) -> str:
    if ranking is None:
        return ""
    headings = "".join(f'<th scope="col">{name}</th>' for name in HEADINGS)
    body = "".join(map(_layer, rows(ranking)))
    return f"""<h2>Layers, the worst first</h2>
<table>
<thead><tr>{headings}</tr></thead>
<tbody>
{body}</tbody>
</table>
<p>{text(matching(ranking))}</p>
<p>{text(conclusion(ranking))}</p>
<p>{text(_LAYER_DEFINITIONS)}</p>
"""


def _layer(row: tuple[str, ...]) -> str:
    cells = "".join(
        f'<td{_TEXT_CELL * (name in TEXTS)} data-label="{name}">{text(value)}</td>'
        if value
        else "<td></td>"
        for name, value in zip(HEADINGS, row, strict=True)
    )
    return f"<tr>{cells}</tr>\n"


def _worst(shown: str) -> str:
    if not shown:
        return ""
    ramp = np.linspace(0, SCALE_MAXIMUM, _SIDE, dtype=np.float32)[np.newaxis].repeat(_SIDE, axis=0)
    scale = _picture(color_map(ramp, side=_SIDE)[:8], "color scale of the maps")
    return f"""<h2>Where the two differ most</h2>
<figure class="scale">{scale}<figcaption><span>0 px</span><span>blur sigma in pixels of the
model's input</span><span>{SCALE_MAXIMUM:g} px</span></figcaption></figure>
{shown}"""


def _example(example: Example) -> str:
    seen = example.compared
    if seen.flipped:
        what = "verdict flipped"
    else:
        what = "verdict changed" if seen.changed else "same verdict"
    truth = "no label" if seen.label == "unknown" else seen.label
    parent = f"parent: {seen.parent_verdict}, score {seen.parent_score:.3f}"
    artifact = f"artifact: {seen.artifact_verdict}, score {seen.artifact_score:.3f}"
    panels = (
        (fit_square(example.picture, _SIDE), "picture", f"truth: {truth}"),
        (color_map(example.parent_map, side=_SIDE), "the parent's defocus map", parent),
        (color_map(example.artifact_map, side=_SIDE), "the artifact's defocus map", artifact),
    )
    figures = "".join(
        f"<figure>{_picture(pixels, alternative)}<figcaption>{text(caption)}</figcaption></figure>"
        for pixels, alternative, caption in panels
    )
    return f"""<article>
<h3>{text(seen.file)}</h3>
<div class="side-by-side">{figures}</div>
<p>{what}; the maps differ by {seen.map_error:.3f} px on average</p>
</article>
"""


def _files(verification: Verification) -> str:
    """What is to be said of the files, a list each."""
    lists = {
        "Damaged, and judged as they decode": verification.damaged,
        "Left out: not readable": [f"{e.file}: {e.reason}" for e in verification.skipped],
        "Left out for their suffix": [f"{n} {s}" for s, n in verification.left_out.items()],
    }
    return "".join(
        f"<h2>{heading}</h2>\n<ul>{''.join(f'<li>{text(line)}</li>' for line in lines)}</ul>\n"
        for heading, lines in lists.items()
        if lines
    )


def _picture(pixels: RGBImage, alternative: str) -> str:
    data = base64.b64encode(encode_jpeg(pixels)).decode("ascii")
    height, width = pixels.shape[:2]
    return (
        f'<img alt="{html.escape(alternative)}" width="{width}" height="{height}" '
        f'src="data:image/jpeg;base64,{data}">'
    )


def _css(verdict: str) -> str:
    return verdict.replace(" ", "-")
