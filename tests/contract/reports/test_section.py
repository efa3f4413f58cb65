import pytest

from edgedf.reports.section import MARKS, Section, counted, split_mark, tone


@pytest.mark.parametrize(
    ("column", "numeric"),
    [
        (("12", "-", "3.5 ms"), True),
        (("≥ 0.99", "<0.01%", "-0.0010"), True),
        (("× 0.52", "", ""), True),
        (("a word", "another", "3"), False),
        (("", "-"), True),
    ],
)
def test_a_column_is_of_numbers_or_of_words(column: tuple[str, ...], numeric: bool) -> None:
    rows = tuple(("name", cell) for cell in column)
    assert Section("", ("", "x"), rows).numeric == (False, numeric)


def test_a_section_without_rows_has_no_columns() -> None:
    assert Section("", ("a",), ()).numeric == ()


def test_marks_are_split_from_text_and_have_a_tone() -> None:
    assert split_mark("✓ flips") == ("✓", "flips")
    assert split_mark("flips ✓ x") == ("", "flips ✓ x")
    assert split_mark("  size") == ("", "  size")
    for verdict, mark in MARKS.items():
        assert split_mark(f"{mark} x") == (mark, "x")
        assert tone(verdict) == tone(mark)
    assert [tone(verdict) for verdict in ("pass", "invalid", "cannot tell", "semi-valid")] == [
        *("pass", "fail", "cannot-tell", "cannot-tell")
    ]


def test_counts_have_a_singular() -> None:
    assert counted(1, "picture") == "1 picture"
    assert [counted(n, "picture") for n in (0, 1200)] == ["0 pictures", "1,200 pictures"]
