import re

from hypothesis import given
from hypothesis import strategies as st

import edgedf
from edgedf.html_page import definitions, page, text
from tests.contract.pages import Page

NASTY = "a<img src=x onerror=alert(1)>\"'&\x1b[31m\udce9.png"


def test_a_page_may_load_nothing_and_run_nothing() -> None:
    said = page("a title", "<h1>a heading</h1>", footer=["first", "second"])
    seen = Page(said)
    (policy,) = [
        meta["content"]
        for meta in seen.named("meta")
        if meta.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert any(meta.get("name") == "viewport" for meta in seen.named("meta"))
    assert {tag for tag, _ in seen.tags}.isdisjoint({"script", "link", "iframe", "object", "a"})
    assert "url(" not in said
    assert "http" not in said.replace("http-equiv", "")
    for part in ("a title", "a heading", "first", "second", f"edgedf {edgedf.__version__}"):
        assert part in seen.text


def test_title_and_footer_are_escaped() -> None:
    plain = Page(page("x", "", footer=["x"]))
    said = page(NASTY, "", footer=[NASTY])
    said.encode("utf-8")
    seen = Page(said)
    assert [tag for tag, _ in seen.tags] == [tag for tag, _ in plain.tags]
    assert seen.text.count("<img src=x onerror=alert(1)>") == 2


def test_a_page_has_its_own_style_and_width_of_cards() -> None:
    said = page("x", "", style="b { color: red; }", cards_below="77rem")
    assert "b { color: red; }" in said
    assert "(max-width: 77rem)" in said
    assert "WIDTH" not in said


def test_every_color_has_a_value_for_light_and_dark() -> None:
    said = page("x", "")
    light, dark = said.split("prefers-color-scheme: dark")
    used = set(re.findall(r"var\((--[\w-]+)\)", said))
    assert used
    for name in used:
        assert f"{name}:" in light
        assert f"{name}:" in dark


def test_definitions_leave_out_what_is_empty() -> None:
    said = definitions({"a": "1 < 2", "b": "", "<c>": "3"})
    assert said == "<dl><dt>a</dt><dd>1 &lt; 2</dd><dt>&lt;c&gt;</dt><dd>3</dd></dl>"


@given(st.text(st.characters(codec=None)))
def test_any_text_can_be_written_and_is_text_only(value: str) -> None:
    said = text(value)
    said.encode("utf-8")
    seen = Page(f"<p title=\"{said}\" class='{said}'>{said}</p>")
    assert [tag for tag, _ in seen.tags] == ["p"]
    assert len(seen.text) == len(value)
    assert seen.named("p")[0].keys() == {"title", "class"}
