import re
from pathlib import Path

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

import edgedf
from edgedf.reports import page
from edgedf.reports.page import render, text
from edgedf.reports.section import Section
from tests.contract.pages import Page

NASTY = "a<img src=x onerror=alert(1)>\"'&\x1b[31m\udce9.png"


def shown(title: str = "a title", *sections: Section, said: str = "a verdict") -> str:
    """A page of ``edgedf verify`` with nothing but what is given."""
    figures, layers = (*sections, Section("", (), ()), Section("", (), ()))[:2]
    return render(
        "verify.html",
        title=title,
        verdict="pass",
        headline=said,
        facts={said: said, "left out": ""},
        figures=figures,
        layers=layers,
        examples=(),
        files={said: [said]},
    )


def test_a_page_may_load_nothing_and_run_nothing() -> None:
    document = shown()
    seen = Page(document)
    (policy,) = [
        meta["content"]
        for meta in seen.named("meta")
        if meta.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert any(meta.get("name") == "viewport" for meta in seen.named("meta"))
    assert {tag for tag, _ in seen.tags}.isdisjoint({"script", "link", "iframe", "object", "a"})
    assert "url(" not in document
    assert "http" not in document.replace("http-equiv", "")
    for part in ("a title", "a verdict", f"edgedf {edgedf.__version__}"):
        assert part in seen.text
    assert "left out" not in seen.text


def test_all_that_is_put_into_a_page_is_escaped() -> None:
    def section(cell: str) -> Section:
        return Section(cell, (cell, cell), (("a", cell), (f"✗ {cell}", "")), (cell,), (cell, cell))

    plain = Page(shown("x", section("x"), said="x"))
    document = shown(NASTY, section(NASTY), said=NASTY)
    document.encode("utf-8")
    assert "\x1b" not in document
    seen = Page(document)
    assert [tag for tag, _ in seen.tags] == [tag for tag, _ in plain.tags]
    # the title, banner, two of the facts, two of the files; of the table: title, two headings, a
    # cell, the name, two letters, a remark
    assert seen.text.count("<img src=x onerror=alert(1)>") == 6 + 8
    assert [cell["data-label"] for cell in seen.named("td") if cell] == [
        NASTY.replace("\x1b", "\ufffd").replace("\udce9", "\ufffd")
    ]


def test_a_table_has_marks_letters_and_columns_of_numbers() -> None:
    rows = (("✓ a", "12 ms", "a word"), ("✗ b", "-", "x" * 40))
    document = shown("x", Section("A table", ("", "time", "what"), rows, (), ("A", "B")))
    seen = Page(document)
    badges = [span["class"] for span in seen.named("span")]
    assert badges == ["badge pass", "badge fail"]
    assert "A · a" in seen.text and "B · b" in seen.text
    assert [cell["class"] for cell in seen.named("td")] == ["", "text long"] * 2
    assert "A table" in seen.text


def test_what_a_template_names_has_to_be_given() -> None:
    with pytest.raises(jinja2.UndefinedError):
        render("verify.html", title="x")


def test_every_color_has_a_value_for_light_and_dark() -> None:
    document = shown()
    light, dark = document.split("prefers-color-scheme: dark")
    used = set(re.findall(r"var\((--[\w-]+)\)", document))
    assert used
    for name in used:
        assert f"{name}:" in light
        assert f"{name}:" in dark


def test_every_class_of_a_page_has_a_style() -> None:
    folder = Path(page.__file__).with_name("templates")
    style = (folder / "style.css").read_text("utf-8")
    for template in folder.glob("*.html"):
        for classes in re.findall(r'class="([\w -]+)"', template.read_text("utf-8")):
            for name in classes.split():
                assert f".{name}" in style, f"{template.name}: {name}"


@given(st.text(st.characters(codec=None)))
def test_any_text_can_be_written_and_is_text_only(value: str) -> None:
    said = text(value)
    said.encode("utf-8")
    seen = Page(f"<p title=\"{said}\" class='{said}'>{said}</p>")
    assert [tag for tag, _ in seen.tags] == ["p"]
    assert len(seen.text) == len(value)
    assert seen.named("p")[0].keys() == {"title", "class"}
