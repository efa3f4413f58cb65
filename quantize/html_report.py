"""The gate's findings as one HTML file that needs nothing else: no script, no other file, no net.

Everything that comes from outside (names of files, of models, of data) is escaped.
"""

from __future__ import annotations

import base64
import html
import unicodedata
from collections.abc import Iterable

import numpy as np

from edgedf import __version__
from edgedf.imaging import RGBImage
from edgedf.quantize.layers import LayerRanking
from edgedf.quantize.layers_wording import HEADINGS, TEXTS, conclusion, matching, rows
from edgedf.quantize.verify import Example, Verification
from edgedf.quantize.wording import MARKS, Line, headline, lines, remarks
from edgedf.runtime.overlay import SCALE_MAXIMUM, color_map, encode_jpeg, fit_square

__all__ = ["render"]

_SIDE = 256  # of each picture, in pixels

_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; color: #212529; background: #fff;
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.verdict { padding: .75rem 1rem; border-left: .4rem solid; font-weight: 600; }
.pass { color: #0b5132; border-color: #197346; background: #e6f4ec; }
.fail { color: #8a1c1c; border-color: #be2626; background: #fbe9e9; }
.cannot-tell { color: #6b4500; border-color: #a86c00; background: #fdf3dd; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; }
dt { color: #5c636a; } dd { margin: 0; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: .4rem .6rem; border-bottom: 1px solid #dee2e6; text-align: right;
  vertical-align: top; font-variant-numeric: tabular-nums; }
td, thead th { white-space: nowrap; } thead th:first-of-type { text-align: left; }
th { font-weight: 600; } thead th { color: #5c636a; }
tbody th { text-align: left; } td.mark { text-align: center; font-weight: 700; }
td.text { text-align: left; }
.reason { display: block; font-weight: 400; color: #5c636a; font-size: .875rem; }
article { margin: 1.5rem 0; break-inside: avoid; }
article h3 { font-size: 1rem; margin: 0 0 .4rem; }
.side-by-side { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: .5rem; }
figure { margin: 0; } figcaption { font-size: .875rem; }
img { display: block; width: 100%; height: auto; }
.scale { max-width: 24rem; } .scale img { height: .8rem; }
.scale figcaption { display: flex; justify-content: space-between; }
footer { margin-top: 2rem; color: #5c636a; font-size: .875rem; }
@media (max-width: 40rem) {
  dl { display: block; } dd { margin-bottom: .5rem; }
  thead { position: absolute; left: -999rem; }
  tr { display: block; position: relative; padding: .5rem 0 .5rem 2.5rem;
    border-bottom: 1px solid #dee2e6; }
  th, td { display: block; border: 0; padding: .1rem 0; text-align: left; }
  td.mark { position: absolute; left: 0; width: 1.75rem; text-align: center; }
  td:empty { display: none; }
  td[data-label]::before { content: attr(data-label) ": "; color: #5c636a; }
  .side-by-side { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .side-by-side figure:first-child { grid-column: 1 / -1; max-width: 256px; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  tr { break-inside: avoid; } h2 { break-after: avoid; }
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
    title = _text(f"{verification.artifact} against {verification.parent}")
    shown = "".join(map(_example, examples))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>edgedf verify: {title}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
<h1>edgedf verify</h1>
<p class="verdict {_css(verification.verdict)}">{MARKS[verification.verdict]}
{_text(headline(verification))}</p>
{_about(verification)}
<h2>Figures</h2>
<table>
<thead><tr><td></td>{_headings()}</tr></thead>
<tbody>
{"".join(map(_row, lines(verification)))}</tbody>
</table>
{"".join(f"<p>{_text(remark)}</p>" for remark in remarks(verification))}
{_layers(layers)}{_worst(shown)}{_skipped(verification)}</main>
<footer><p>{_text(_DEFINITIONS)}</p><p>Made by edgedf {_text(__version__)}.</p></footer>
</body>
</html>
"""


_COLUMNS = ("parent", "artifact", "measured", "95 % interval", "limit", "bound")


def _headings() -> str:
    return "".join(f'<th scope="col">{name}</th>' for name in ("figure", *_COLUMNS))


def _row(line: Line) -> str:
    reason = f'<span class="reason">{_text(line.reason)}</span>' if line.reason else ""
    values = (line.parent, line.artifact, line.measured, line.interval, line.limit, line.bound)
    cells = "".join(
        f'<td data-label="{name}">{_text(value)}</td>' if value else "<td></td>"
        for name, value in zip(_COLUMNS, values, strict=True)
    )
    return (
        f'<tr><td class="mark {_css(line.verdict)}" title="{line.verdict}">{line.mark}</td>'
        f'<th scope="row">{_text(line.title)}{reason}</th>{cells}</tr>\n'
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
    inner = "".join(f"<dt>{name}</dt><dd>{_text(value)}</dd>" for name, value in facts.items())
    return f"<dl>{inner}</dl>"


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
<p>{_text(matching(ranking))}</p>
<p>{_text(conclusion(ranking))}</p>
<p>{_text(_LAYER_DEFINITIONS)}</p>
"""


def _layer(row: tuple[str, ...]) -> str:
    cells = "".join(
        f'<td{_TEXT_CELL * (name in TEXTS)} data-label="{name}">{_text(value)}</td>'
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
        f"<figure>{_picture(pixels, alternative)}<figcaption>{_text(caption)}</figcaption></figure>"
        for pixels, alternative, caption in panels
    )
    return f"""<article>
<h3>{_text(seen.file)}</h3>
<div class="side-by-side">{figures}</div>
<p>{what}; the maps differ by {seen.map_error:.3f} px on average</p>
</article>
"""


def _skipped(verification: Verification) -> str:
    if not verification.skipped:
        return ""
    entries = "".join(
        f"<li>{_text(entry.file)}: {_text(entry.reason)}</li>" for entry in verification.skipped
    )
    return f"<h2>Left out: not readable</h2>\n<ul>{entries}</ul>\n"


def _picture(pixels: RGBImage, alternative: str) -> str:
    data = base64.b64encode(encode_jpeg(pixels)).decode("ascii")
    height, width = pixels.shape[:2]
    return (
        f'<img alt="{html.escape(alternative)}" width="{width}" height="{height}" '
        f'src="data:image/jpeg;base64,{data}">'
    )


def _css(verdict: str) -> str:
    return verdict.replace(" ", "-")


def _text(text: str) -> str:
    """Escaped, without what no HTML file can hold: control characters and half-decoded bytes."""
    kept = (
        char if unicodedata.category(char) not in ("Cc", "Cs") else "\N{REPLACEMENT CHARACTER}"
        for char in text
    )
    return html.escape("".join(kept))
