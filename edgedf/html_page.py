"""An HTML page that needs nothing else: no script, no other file, no net.

Reports are such pages. What comes from outside goes through :func:`text`; what is put together
with it is HTML already.
"""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterable, Mapping

from edgedf import __version__

__all__ = ["definitions", "page", "text"]

_STYLE = """
:root { color-scheme: light dark; --ink: #212529; --quiet: #5c636a; --line: #dee2e6;
  --paper: #fff; --good: #0b5132; --good-edge: #197346; --good-paper: #e6f4ec; --bad: #8a1c1c;
  --bad-edge: #be2626; --bad-paper: #fbe9e9; --open: #6b4500; --open-edge: #a86c00;
  --open-paper: #fdf3dd; }
@media screen and (prefers-color-scheme: dark) {
  :root { --ink: #e4e7ea; --quiet: #a4abb2; --line: #3b4148; --paper: #16191c; --good: #9fdcb9;
    --good-edge: #3fa56f; --good-paper: #12301f; --bad: #f5b5b5; --bad-edge: #e05c5c;
    --bad-paper: #3a1717; --open: #f2cf8d; --open-edge: #d09a33; --open-paper: #352708; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; color: var(--ink);
  background: var(--paper); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.verdict { padding: .75rem 1rem; border-left: .4rem solid; font-weight: 600; }
.pass { color: var(--good); border-color: var(--good-edge); background: var(--good-paper); }
.fail { color: var(--bad); border-color: var(--bad-edge); background: var(--bad-paper); }
.cannot-tell { color: var(--open); border-color: var(--open-edge);
  background: var(--open-paper); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; }
dt { color: var(--quiet); } dd { margin: 0; }
table { border-collapse: collapse; width: 100%; }
th, td { padding: .4rem .6rem; border-bottom: 1px solid var(--line); text-align: right;
  vertical-align: top; font-variant-numeric: tabular-nums; }
td, thead th { white-space: nowrap; } thead th:first-of-type { text-align: left; }
th { font-weight: 600; } thead th { color: var(--quiet); }
tbody th { text-align: left; } td.mark { text-align: center; font-weight: 700; }
td.text { text-align: left; }
.reason { display: block; font-weight: 400; color: var(--quiet); font-size: .875rem; }
article { margin: 1.5rem 0; break-inside: avoid; }
article h3 { font-size: 1rem; margin: 0 0 .4rem; }
figure { margin: 0; } figcaption { font-size: .875rem; }
footer { margin-top: 2rem; color: var(--quiet); font-size: .875rem; }
"""

# A table whose rows do not fit side by side becomes a card per row.
_CARDS = """
@media (max-width: 40rem) { dl { display: block; } dd { margin-bottom: .5rem; } }
@media (max-width: WIDTH) {
  table, tbody { display: block; } td { white-space: normal; }
  thead { position: absolute; left: -999rem; }
  tr { display: block; position: relative; padding: .5rem 0 .5rem 2.5rem;
    border-bottom: 1px solid var(--line); }
  th, td { display: block; border: 0; padding: .1rem 0; text-align: left; }
  td.mark { position: absolute; left: 0; width: 1.75rem; text-align: center; }
  td:empty { display: none; }
  td[data-label]::before { content: attr(data-label) ": "; color: var(--quiet); }
}
"""

_PRINT = """
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  tr, figure { break-inside: avoid; } h2, h3 { break-after: avoid; }
}
"""


def page(
    title: str,
    body: str,
    *,
    footer: Iterable[str] = (),
    style: str = "",
    cards_below: str = "40rem",
) -> str:
    """A whole document.

    Args:
        title: Of the window, as it comes.
        body: HTML.
        footer: Paragraphs below, as they come; the version of edgedf follows them.
        style: CSS for what only this page has.
        cards_below: Width of the window below which each row of a table becomes a card: that of
            the widest table.

    Returns:
        HTML that may load nothing and run nothing: a policy says so to the browser.
    """
    below = "".join(f"<p>{text(paragraph)}</p>" for paragraph in footer)
    sheet = f"{_STYLE}{_CARDS.replace('WIDTH', cards_below)}{style}{_PRINT}"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{text(title)}</title>
<style>{sheet}</style>
</head>
<body>
<main>
{body}</main>
<footer>{below}<p>Made by edgedf {text(__version__)}.</p></footer>
</body>
</html>
"""


def definitions(facts: Mapping[str, str]) -> str:
    """Names with what they stand for, both as they come; those with nothing are left out."""
    inner = "".join(
        f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in facts.items() if value
    )
    return f"<dl>{inner}</dl>"


def text(value: str) -> str:
    """Escaped, without what no HTML file can hold: control characters and half-decoded bytes."""
    kept = (
        char if unicodedata.category(char) not in ("Cc", "Cs") else "\N{REPLACEMENT CHARACTER}"
        for char in value
    )
    return html.escape("".join(kept))
