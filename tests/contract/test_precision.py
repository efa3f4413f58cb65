from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedf.errors import ConfigError
from edgedf.formats import formats
from edgedf.precision import (
    AUTO,
    CALIBRATED,
    PRECISIONS,
    PrecisionName,
    precision_named,
)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "commands" / "convert.md"


def rows_of_the_page() -> dict[str, list[str]]:
    """The table of precisions: name → the cells of its row."""
    section = PAGE.read_text("utf-8").split("## Precisions")[1].split("##")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    rows = [line.strip("| ").split(" | ") for line in lines]
    return {name.strip("`"): cells for name, *cells in rows}


def test_the_page_says_what_the_records_say() -> None:
    rows = rows_of_the_page()
    assert list(rows) == list(PRECISIONS)
    for name, (weights, activations, _, tflite, onnx) in rows.items():
        record = PRECISIONS[name]  # type: ignore[index]
        assert ("calibrated" in activations) == (name in CALIBRATED)
        assert f"int{record.activation_bits}" in activations or record.activation_bits is None
        assert ("int8" in weights) == name.startswith("int8")
        assert {"tflite": tflite == "–", "onnx": onnx == "–"} == {
            known.name: name in known.missing_precisions for known in formats()
        }


@pytest.mark.parametrize("name", PRECISIONS)
def test_a_record_is_consistent(name: PrecisionName) -> None:
    record = PRECISIONS[name]
    assert record.name == name
    assert (record.activation_bits is None) == bool(record.without_ranges)
    assert record.tolerance.flips_allowed(10_000) == 10_000 * record.tolerance.flips


@pytest.mark.parametrize("name", PRECISIONS)
def test_a_name_is_taken_as_it_is(name: str) -> None:
    assert precision_named(name) == name


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("int8dynamic", "int8-dynamic"), ("int-8", "int8"), ("fp-16", "fp16"), ("sixteen", None)],
)
def test_the_nearest_name_is_suggested(name: str, nearest: str | None) -> None:
    with pytest.raises(ConfigError) as caught:
        precision_named(name)
    assert caught.value.expected == f"one of {', '.join((*PRECISIONS, AUTO))}"
    wanted = "edgedf convert --help" if nearest is None else f"--precision {nearest}"
    assert caught.value.next_step == wanted


@given(st.text(max_size=20).filter(lambda name: name not in PRECISIONS))
def test_any_other_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="no precision"):
        precision_named(name)


def test_only_static_precisions_compute_in_integers() -> None:
    integer = {(name, known.name) for known in formats() for name in known.integer_precisions}
    assert integer == {("int8", "tflite"), ("int8", "onnx"), ("int8-a16", "tflite")}
    assert {name for name, _ in integer} <= set(CALIBRATED)
