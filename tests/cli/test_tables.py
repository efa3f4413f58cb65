import io

import pytest
from rich.console import Console, RenderableType

from edgedf.cli._tables import (
    facts_table,
    mark,
    marked,
    new_table,
    ruled_table,
    section_parts,
    section_table,
    shown,
    verdict_text,
)
from edgedf.reports.section import MARKS, Section

NASTY = "[red]a[/]\x1b[31m\nb"
CLEAN = "[red]a[/]\ufffd[31m\ufffdb"


def printed(*parts: RenderableType, width: int = 60) -> list[str]:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    for part in parts:
        console.print(part)
    file = console.file
    assert isinstance(file, io.StringIO)
    return [line.rstrip() for line in file.getvalue().splitlines()]


def test_text_from_outside_is_neither_markup_nor_steers_the_terminal() -> None:
    assert printed(shown(NASTY), marked(f"✓ {NASTY}"), verdict_text("fail", NASTY)) == [
        *(CLEAN, f"✓ {CLEAN}", f"✗ {CLEAN}")
    ]
    section = Section(NASTY, ("name", "what"), ((f"? {NASTY}", NASTY),), (NASTY,))
    assert printed(*section_parts([section])) == [
        CLEAN,
        "name" + " " * len(CLEAN) + "what",
        f"? {CLEAN}  {CLEAN}",
        CLEAN,
        "",
    ]
    assert printed(facts_table([(NASTY, NASTY)])) == [f"{CLEAN}  {CLEAN}"]


@pytest.mark.parametrize("verdict", MARKS)
def test_every_verdict_has_a_mark_in_a_color(verdict: str) -> None:
    assert mark(verdict).plain == MARKS[verdict]
    assert mark(verdict).style
    assert verdict_text(verdict, "It is so.").plain == f"{MARKS[verdict]} It is so."


def test_numbers_go_to_the_right_and_words_to_the_left() -> None:
    section = Section("", ("", "ms", "what"), (("✓ a", "1.5", "x"), ("b", "12.25", "y")))
    assert printed(section_table(section, numbers=["ms"])) == [
        "        ms  what",
        "✓ a    1.5  x",
        "b    12.25  y",
    ]


def test_many_columns_are_cut_and_few_are_folded() -> None:
    few = Section("", ("a", "b"), (("x" * 50, "y" * 50),))
    assert len(printed(section_table(few))) > 2
    many = Section("", tuple("abcde"), (("x" * 30,) * 5,))
    assert len(printed(section_table(many))) == 2


def test_a_table_has_its_title_and_may_have_a_line_below_its_headings() -> None:
    plain = new_table(("a", "b"), title="T")
    plain.add_row("1", "2")
    assert printed(plain) == ["T", "a  b", "1  2"]
    ruled = ruled_table("T", ("a", "b"))
    ruled.add_row("1", "2")
    assert [line.strip(" ─") for line in printed(ruled)] == ["T", "", "a  b", "", "1  2", ""]
