from dataclasses import replace
from functools import cache

import pytest

from edgedf.figures import Figure
from edgedf.machine import Host
from edgedf.quantize.accuracy.gate import judge, overall
from edgedf.quantize.accuracy.limits import DiffLimits
from edgedf.quantize.accuracy.verify import Verification
from edgedf.quantize.diff.compare import diff
from edgedf.quantize.diff.difference import (
    Count,
    Difference,
    FieldChange,
    Latency,
    LayerChange,
    Ratio,
    Side,
)
from edgedf.quantize.diff.wording import headline, markdown, sections
from edgedf.runtime.interleaved import LatencyRatio, Speed
from edgedf.runtime.models import shipped_model
from tests.quantize.accuracy.test_gate import measured

HOST = Host("Some CPU", 2, 0.5, "Linux", "3.11.7", "0.1.0")
SIDE = Side("a.tflite", "tflite", "student 1 fp32", 2_000_000, "ab" * 32, {"float32": 3}, 1, 1)


def verification(**changes: object) -> Verification:
    limits, seen = DiffLimits().of_gate, measured(**changes)
    rows = judge(seen, limits)
    return Verification(
        overall(rows), None, "b", "a", True, "photos", "test", 600, 400, seen, limits, rows, (), ()
    )


def difference(**changes: object) -> Difference:
    """Two that differ everywhere, with any field changed."""
    ratio = LatencyRatio(Speed(8.0, 9.0, 7.5), Speed(4.0, 4.5, 3.75), 0.5, 0.45, 0.55, 200)
    second = replace(
        SIDE, path="b_|.tflite", bytes=1_000_000, layers={"int8": 2, "float32": 1}, undelegated=2
    )
    found = Difference(
        verdict="pass",
        identical=False,
        first=SIDE,
        second=second,
        spec=(
            FieldChange("version", "1", "2"),
            FieldChange("ranges", "80 entries", "79 entries", "3 of 79 differ"),
        ),
        operators=(Count("QUANTIZE", 0, 1), Count("CONV_2D", 3, 2)),
        same_format=True,
        layers=(
            LayerChange("t/a", "a", "CONV_2D", "float32", "int8"),
            LayerChange("t/b", "b", "ADD", "float32", "int8"),
            LayerChange("t/c", "c", "CONV_2D", "float32", None),
        ),
        matched=2,
        ratios=(
            Ratio.judged("size_ratio", 0.5, 0.75),
            Ratio.judged("latency_ratio", 0.5, None, low=0.45, high=0.55),
        ),
        limits=DiffLimits(max_size_ratio=0.75),
        verification=verification(),
        latency=Latency(ratio, "litert 2", "onnxruntime 1", 1, HOST),
    )
    return replace(found, **changes)  # type: ignore[arg-type]


@cache
def text() -> str:
    return " ".join(markdown(difference()).split())


def test_everything_is_told() -> None:
    told = {section.title: section for section in sections(difference())}
    assert list(told) == [
        "",
        "Spec",
        "Operators",
        "Layers by what they compute in",
        "Latency",
        "B against A",
    ]
    assert ("XNNPACK partitions", "1, 1 operator outside", "1, 2 operators outside") in told[
        ""
    ].rows
    assert told["Spec"].rows == (
        ("version", "1", "2"),
        ("ranges", "80 entries", "79 entries: 3 of 79 differ"),
    )
    assert told["Operators"].rows[1] == ("CONV_2D", "3", "2", "-1")
    layers = told["Layers by what they compute in"]
    assert layers.rows == (("float32", "3", "1"), ("int8", "0", "2"))
    assert layers.remarks == (
        "2 of 2 layers that both have compute in something else.",
        "float32 → int8: 2 layers (CONV_2D a, ADD b)",
        "only in A: 1 layer (CONV_2D c)",
    )
    assert told["Latency"].rows[1] == ("B", "onnxruntime 1", "4.00 ms", "4.50 ms", "3.75 ms")
    (said,) = told["Latency"].remarks
    for part in ("200 turns each", "1 thread;", "Some CPU, 2 cores, load 0.5, Linux"):
        assert part in said
    figures = told["B against A"]
    assert figures.rows[0] == ("✓ size, B / A", "2.000 MB", "1.000 MB", "0.500", "", "0.75", "")
    assert figures.rows[1][:5] == (
        "  latency, B / A",
        "8.00 ms",
        "4.00 ms",
        "0.500",
        "0.450 to 0.550",
    )
    assert figures.rows[2][0] == "✓ AUC drop"
    assert figures.remarks[0].startswith("On 1,000 pictures (600 real, 400 fake) of photos,")


def test_every_row_has_a_cell_for_every_heading() -> None:
    changes = [{}, {"same_format": False, "layers": ()}, {"verification": None, "latency": None}]
    for change in changes:
        for section in sections(difference(**change)):
            assert {len(row) for row in section.rows} <= {len(section.headings)}


def test_what_does_not_differ_is_told_in_a_sentence() -> None:
    same = difference(spec=(), operators=(), layers=(), verification=None, latency=None)
    said = [remark for section in sections(same) for remark in section.remarks]
    assert said == [
        "The specs are equal.",
        "Both have the same operators.",
        "0 of 2 layers that both have compute in something else.",
    ]
    other = sections(difference(same_format=False, layers=(), matched=0))
    assert "The formats differ, so layers are counted and not matched." in other[3].remarks


def test_many_layers_are_counted_and_some_named() -> None:
    many = tuple(LayerChange(str(i), f"n{i}", "ADD", "float32", "int8") for i in range(9))
    said = sections(difference(layers=many, matched=9))[3].remarks
    assert said[1] == "float32 → int8: 9 layers (ADD n0, ADD n1, ADD n2, ADD n3 and 5 more)"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "B stays within every limit."),
        ({"identical": True, "verification": None}, "A and B are byte-identical."),
        (
            {
                "identical": True,
                "verdict": "fail",
                "verification": None,
                "ratios": (Ratio.judged("size_ratio", 1.0, 0.5),),
            },
            "A and B are byte-identical, which is over the limit: size, B / A.",
        ),
        (
            {"verification": None, "ratios": (Ratio.judged("size_ratio", 0.5, None),)},
            "Nothing was held against a limit.",
        ),
        (
            {"verdict": "fail", "ratios": (Ratio.judged("size_ratio", 0.9, 0.5),)},
            "B is over the limits: size, B / A.",
        ),
        (
            {
                "verdict": "fail",
                "verification": verification(flips=Figure(0.1, 0.05, 0.2, 1000), flipped=100),
            },
            "B is over the limits: flipped verdicts.",
        ),
        (
            {
                "verdict": "cannot tell",
                "ratios": (Ratio.judged("latency_ratio", 1.0, 1.0, low=0.9, high=1.1),),
            },
            "Cannot tell of latency, B / A: the interval includes the limit. Try more --rounds.",
        ),
        (
            {
                "verdict": "cannot tell",
                "verification": verification(flips=Figure(0.01, 0.0, 0.05, 1000), flipped=10),
            },
            "Cannot tell from 1,000 pictures",
        ),
    ],
)
def test_the_verdict_in_a_sentence(changes: dict[str, object], said: str) -> None:
    assert headline(difference(**changes)).startswith(said)


def test_markdown_is_made_of_tables_that_nothing_breaks() -> None:
    lines = markdown(difference()).splitlines()
    assert lines[0] == "**✓ B stays within every limit.**"
    assert "#### Spec" in lines
    tables = [line for line in lines if line.startswith("|")]
    assert "| file | a.tflite | b\\_\\|.tflite |" in tables
    rules = [at for at, line in enumerate(lines) if line.startswith("| ---")]
    assert len(rules) == 6
    for at in rules:
        assert lines[at - 1].count(" | ") == lines[at].count(" | ")
    assert "On 1,000 pictures (600 real, 400 fake) of photos" in text()


def test_identical_files_have_one_table(tmp_path: object) -> None:
    model = shipped_model("onnx")
    found = diff(model, model, rounds=None)
    assert [section.title for section in sections(found)] == [""]
    assert markdown(found).startswith("**✓ A and B are byte-identical.**")
