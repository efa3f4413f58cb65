import doctest
from pathlib import Path

import pytest

from edgedf import int8_kernels
from edgedf.int8_kernels import EXACT_INT8, kernels_in_words, session_option_lines

CONTRACT = Path(__file__).parents[2] / "docs/contract.md"


def test_the_examples_run() -> None:
    assert doctest.testmod(int8_kernels).failed == 0


def test_the_contract_has_the_line_for_every_language() -> None:
    page = CONTRACT.read_text()
    for language, lines in session_option_lines(EXACT_INT8).items():
        (line,) = lines
        assert f"| {language} | `{line}` |" in page


def test_several_options_are_several_lines() -> None:
    lines = session_option_lines({"session.a": "1", "ep.b": "2"})["JavaScript"]
    assert lines == (
        "InferenceSession.create(model, {extra: {session: {a: '1'}}})",
        "InferenceSession.create(model, {extra: {ep: {b: '2'}}})",
    )
    assert session_option_lines({})["Python"] == ()


@pytest.mark.parametrize("kernels", ["exact", "widened", "saturating"])
def test_every_kind_of_kernels_has_words_of_its_own(kernels: str) -> None:
    said = kernels_in_words(kernels)  # type: ignore[arg-type]
    assert ("wrong" in said) == (kernels == "saturating")
    assert ("session.x64quantprecision = 1" in said) == (kernels == "widened")
