import json
from dataclasses import replace
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedf.errors import SpecMismatch, SpecUnsupported
from edgedf.precision import PRECISIONS
from edgedf.result import Threshold
from edgedf.spec import (
    INPUT_TYPES,
    INPUT_ZERO_POINTS,
    SCHEMA_VERSION,
    InputSpec,
    InputType,
    LayerOverride,
    ModelSpec,
    OutputSpec,
    TensorInfo,
    check_tensors,
    spec_schema,
)
from tests.contract.specs import make_spec

IMAGE = TensorInfo("image", (1, 256, 256, 3), "uint8")
LOGIT = TensorInfo("fake_logit", (1, 1), "float32")
MAP = TensorInfo("defocus_map", (1, 64, 64, 1), "float32")


def test_round_trip_through_json_and_the_schema() -> None:
    spec = make_spec()
    assert ModelSpec.from_json(spec.to_json()) == spec
    jsonschema.validate(json.loads(spec.to_json()), spec_schema())


@given(st.text(), st.floats(0, 1), st.integers(8, 512), st.sampled_from(list(PRECISIONS)))
def test_any_spec_survives_the_round_trip(
    name: str, fake_at: float, size: int, precision: str
) -> None:
    spec = make_spec(size, name=name, threshold=Threshold(fake_at, 0.0), precision=precision)
    assert ModelSpec.from_json(spec.to_json().encode()) == spec


@pytest.mark.parametrize("dtype", INPUT_TYPES)
def test_an_input_has_the_zero_point_of_its_type(dtype: InputType) -> None:
    described = replace(make_spec().input, dtype=dtype, zero_point=INPUT_ZERO_POINTS[dtype])
    spec = make_spec(input=described)
    assert ModelSpec.from_json(spec.to_json()) == spec
    for wrong in (replace(described, zero_point=7), replace(described, scale=1 / 255)):
        with pytest.raises(SpecUnsupported, match=f"its {dtype} input"):
            make_spec(input=wrong)


def test_overrides_are_written_where_there_are_any_and_read_where_there_are_none() -> None:
    override = LayerOverride("fp32", "decoder.*", ("decoder.a", "decoder.b"), ("head",))
    spec = make_spec(overrides=(override,))
    assert ModelSpec.from_json(spec.to_json()) == spec
    jsonschema.validate(json.loads(spec.to_json()), spec_schema())
    # A reader from before there were any refuses a field that it does not know.
    assert "overrides" not in json.loads(make_spec().to_json())
    assert ModelSpec.from_json(make_spec().to_json()).overrides == ()


def changed(**changes: Any) -> str:
    return json.dumps({**json.loads(make_spec().to_json()), **changes})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not valid JSON"),
        ("[1]", "schema version None"),
        ("[" * 100_000, "not valid JSON"),
        (changed(schema_version=SCHEMA_VERSION + 1), f"schema version {SCHEMA_VERSION + 1}"),
        (changed(schema_version="1"), "schema version 1"),
        (changed(precision="int4"), "precision is 'int4', not one of fp32, fp16, int8"),
        (changed(surprise=1), "surprise is unknown"),
        (changed(threshold={"fake_at": 0.1, "real_at": 0.9}), "real_at=0.9"),
    ],
)
def test_a_bad_spec_is_refused_with_the_field_named(text: str, message: str) -> None:
    with pytest.raises(SpecUnsupported, match=message):
        ModelSpec.from_json(text)


def test_a_future_spec_says_to_upgrade() -> None:
    with pytest.raises(SpecUnsupported, match="upgrade edgedf"):
        ModelSpec.from_json(changed(schema_version=99))


def test_contradicting_parts_are_refused() -> None:
    with pytest.raises(SpecUnsupported, match="resizes to"):
        make_spec(input=InputSpec("image", 224, 224, (0.0,) * 3, (1.0,) * 3))
    with pytest.raises(SpecUnsupported, match="outputs"):
        make_spec(outputs=(OutputSpec("fake_logit", (1, 1), "", "logit"),))
    with pytest.raises(SpecUnsupported, match="shapes"):
        make_spec(
            outputs=(
                OutputSpec("fake_logit", (1, 2), "", "logit"),
                OutputSpec("defocus_map", (1, 64, 64, 1), "", "px"),
            )
        )


def test_matching_tensors_pass_in_any_order() -> None:
    check_tensors(make_spec(), (IMAGE,), (MAP, LOGIT))


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ((), (LOGIT, MAP)),
        ((IMAGE,), (LOGIT,)),
        ((IMAGE,), (LOGIT, MAP, TensorInfo("extra", (1,), "float32"))),
        ((TensorInfo("image", (1, 3, 256, 256), "uint8"),), (LOGIT, MAP)),
        ((TensorInfo("image", (1, 256, 256, 3), "float32"),), (LOGIT, MAP)),
        ((IMAGE,), (TensorInfo("fake_logit", (1, 1), "int8"), MAP)),
    ],
)
def test_other_tensors_are_refused_naming_both_sides(
    inputs: tuple[TensorInfo, ...], outputs: tuple[TensorInfo, ...]
) -> None:
    with pytest.raises(SpecMismatch, match="its spec says"):
        check_tensors(make_spec(), inputs, outputs)
