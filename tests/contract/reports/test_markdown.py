from hypothesis import given
from hypothesis import strategies as st

from edgedf.reports.markdown import escaped, section_markdown, verdict_markdown
from edgedf.reports.section import Section


def test_a_section_is_a_heading_a_table_and_remarks() -> None:
    section = Section("Size_of", ("file", "MB"), (("a|b.tflite", "1.142"),), ("It is *small*.",))
    assert list(section_markdown(section)) == [
        r"#### Size\_of",
        "| file | MB |\n| --- | ---: |\n" + r"| a\|b.tflite | 1.142 |",
        r"It is \*small\*.",
    ]
    assert list(section_markdown(Section("", (), ()))) == []


def test_a_verdict_is_bold_behind_its_mark() -> None:
    assert verdict_markdown("cannot tell", "Too <few>.") == r"**? Too \<few\>.**"


@given(st.text())
def test_a_cell_breaks_neither_line_nor_table(value: str) -> None:
    cell = escaped(value)
    assert len(cell.splitlines()) <= 1
    assert all(cell[at - 1] == "\\" for at, char in enumerate(cell) if char == "|")
