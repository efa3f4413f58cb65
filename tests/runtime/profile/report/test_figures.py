import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedf.runtime.profile.report.figures import kib, megabytes, ms, number


@pytest.mark.parametrize(
    "value, said",
    [
        (2.812, "2.81"),
        (28.14, "28.1"),
        (281.6, "282"),
        (9.999, "10.0"),
        (12345.6, "12,346"),
        (0.0451, "0.0451"),
        (0.0, "0"),
        (None, "-"),
    ],
)
def test_numbers_have_three_digits(value: float | None, said: str) -> None:
    assert number(value) == said


@settings(max_examples=50, deadline=None)
@given(st.floats(1e-3, 1e6))
def test_a_number_is_what_it_says(value: float) -> None:
    assert float(number(value).replace(",", "")) == pytest.approx(value, rel=0.0051)


def test_units() -> None:
    assert (ms(2.8), kib(5427), megabytes(1_142_345)) == ("2.80 ms", "5.3 MiB", "1.142 MB")
    assert (ms(None), kib(None)) == ("-", "-")
