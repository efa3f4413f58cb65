import dataclasses
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from edgedf.quantize.diff.difference import FieldChange
from edgedf.quantize.diff.spec_changes import MAX_LISTED, spec_changes
from edgedf.result import Threshold
from edgedf.spec import Accuracy, Calibration, ModelSpec, OutputSpec, PreprocessStep
from tests.contract.specs import make_spec


@dataclass(frozen=True)
class Layer:
    name: str
    low: float
    high: float


@dataclass(frozen=True)
class LaterSpec(ModelSpec):
    """A spec with fields that today's does not have."""

    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    kept: tuple[Layer, ...] = ()
    gate: Threshold | None = None


def later(**changes: Any) -> LaterSpec:
    known = {f.name: getattr(make_spec(), f.name) for f in dataclasses.fields(ModelSpec)}
    return LaterSpec(**{**known, **changes})


def told(first: ModelSpec, second: ModelSpec) -> dict[str, tuple[str, str]]:
    return {change.field: (change.first, change.second) for change in spec_changes(first, second)}


def test_equal_specs_have_no_change() -> None:
    assert spec_changes(make_spec(), make_spec()) == ()


def test_every_field_is_compared_at_any_depth() -> None:
    first, second = make_spec(), make_spec(64)
    dense = second.output("defocus_map")
    second = second.with_changes(
        version="0.0.2",
        outputs=(second.output("fake_logit"), dataclasses.replace(dense, scale=0.5)),
        threshold=Threshold(0.6, 0.4, "by foot"),
        calibration=None,
        tools={"onnx": "2", "torch": "3"},
    )
    assert told(first, second) == {
        "version": ("0.0.1", "0.0.2"),
        "input.height": ("256", "64"),
        "input.width": ("256", "64"),
        "preprocessing.resize_exact.size": ("256", "64"),
        "outputs.defocus_map.shape": ("[1, 64, 64, 1]", "[1, 16, 16, 1]"),
        "outputs.defocus_map.scale": ("none", "0.5"),
        "threshold.how": ("by hand", "by foot"),
        "calibration.method": ("minmax", "none"),
        "calibration.samples": ("16", "none"),
        "calibration.images_sha256": ("2" * 64, "none"),
        "calibration.seed": ("0", "none"),
        "calibration.ranges": ("{}", "none"),
        "calibration.equalized": ("false", "none"),
        "calibration.corrected_biases": ("false", "none"),
        "tools.onnx": ("1", "2"),
        "tools.torch": ("none", "3"),
    }


def test_the_order_of_named_entries_does_not_matter_and_that_of_others_does() -> None:
    spec = make_spec()
    turned = spec.with_changes(outputs=spec.outputs[::-1])
    assert isinstance(turned.outputs[0], OutputSpec)
    assert spec_changes(spec, turned) == ()
    twice = spec.with_changes(accuracy=(Accuracy("other", "AUC", 0.9, 0.8, 1.0, 9), *spec.accuracy))
    assert told(spec, twice)["accuracy.0.dataset"] == ("test", "other")
    shorter = spec.with_changes(preprocessing=(PreprocessStep("resize_exact", 256),))
    assert told(spec, shorter)["preprocessing.uint8.step"] == ("uint8", "none")


def test_a_field_that_comes_later_is_compared_without_a_change_here() -> None:
    first = later(ranges={"a": (0.0, 1.0)}, kept=(Layer("stem", 0.0, 1.0),))
    second = later(
        ranges={"a": (0.0, 2.0)}, kept=(Layer("stem", 0.0, 3.0),), gate=Threshold(0.6, 0.4, "x")
    )
    assert told(first, second) == {
        "ranges.a": ("[0.0, 1.0]", "[0.0, 2.0]"),
        "kept.stem.high": ("1.0", "3.0"),
        "gate.fake_at": ("none", "0.6"),
        "gate.real_at": ("none", "0.4"),
        "gate.how": ("none", "x"),
    }


def test_a_long_table_is_summarised_with_its_largest_change() -> None:
    ranges = {f"conv{index}": (0.0, 6.0) for index in range(80)}
    second = {**ranges, "conv3": (0.0, 6.1), "conv7": (-1.0, 6.0), "more": (0.0, 1.0)}
    del second["conv0"]
    (change,) = spec_changes(later(ranges=ranges), later(ranges=second))
    assert change == FieldChange(
        "ranges",
        "80 entries",
        "80 entries",
        "2 of 79 differ, most: conv7 [0.0, 6.0] → [-1.0, 6.0]; 1 only in A; 1 only in B",
    )
    (change,) = spec_changes(later(), later(ranges=ranges))
    assert (change.first, change.second, change.note) == ("none", "80 entries", "")


def test_numbers_are_short_unless_the_difference_is_at_their_end() -> None:
    def threshold(value: float) -> ModelSpec:
        return make_spec(threshold=Threshold(value, 0.4))

    assert told(threshold(2 / 3), threshold(0.75)) == {
        "threshold.fake_at": ("0.666667", "0.75"),
    }
    close = told(threshold(0.7), threshold(0.7 + 1e-12))["threshold.fake_at"]
    assert close == ("0.7", repr(0.7 + 1e-12))


def test_a_long_text_is_shown_where_it_differs() -> None:
    common = "The licence says much. " * 40
    shown = told(make_spec(licence=f"{common}A"), make_spec(licence=f"{common}B"))["licence"]
    assert shown[0].startswith("… ") and shown[0].endswith("A")
    assert shown[1].endswith("B")
    assert max(map(len, shown)) < 220
    early = told(make_spec(licence=f"A{common}"), make_spec(licence=f"B{common}"))["licence"]
    assert early[0].startswith("AThe") and early[0].endswith(" …")


@given(
    st.dictionaries(st.text("abcdefgh", min_size=1, max_size=2), st.floats(-9, 9), max_size=20),
    st.dictionaries(st.text("abcdefgh", min_size=1, max_size=2), st.floats(-9, 9), max_size=20),
)
def test_a_table_differs_exactly_where_its_entries_do(
    one: dict[str, float], other: dict[str, float]
) -> None:
    ranges = ({name: (value, 10.0) for name, value in table.items()} for table in (one, other))
    changes = spec_changes(*(later(ranges=table) for table in ranges))
    differing = {name for name in {*one, *other} if one.get(name) != other.get(name)}
    if max(len(one), len(other)) <= MAX_LISTED:
        assert {change.field for change in changes} == {f"ranges.{name}" for name in differing}
    else:
        assert len(changes) == bool(differing)
    for change in changes:
        assert change.note or change.first != change.second


def test_a_change_of_the_calibration_is_a_change_of_its_fields() -> None:
    other = make_spec(calibration=Calibration("minmax", 16, "2" * 64, 7))
    assert told(make_spec(), other) == {"calibration.seed": ("0", "7")}
