import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedf.typed_json import decode, encode, json_schema


@dataclass(frozen=True)
class Inner:
    """An object inside."""

    kind: Literal["a", "b"]
    ratio: float = 0.5


@dataclass(frozen=True)
class Outer:
    """One field of every supported type."""

    name: str
    count: int
    flag: bool
    inner: Inner
    many: tuple[Inner, ...] = ()
    pair: tuple[float, float] = (0.0, 1.0)
    maybe: int | None = None
    table: dict[str, str] = dataclasses.field(default_factory=dict)


SCHEMA = json_schema(Outer, title="outer", identifier="outer")

inners = st.builds(
    Inner, kind=st.sampled_from(["a", "b"]), ratio=st.floats(allow_nan=False, allow_infinity=False)
)
outers = st.builds(
    Outer,
    name=st.text(),
    count=st.integers(),
    flag=st.booleans(),
    inner=inners,
    many=st.lists(inners, max_size=3).map(tuple),
    maybe=st.none() | st.integers(),
    table=st.dictionaries(st.text(), st.text(), max_size=3),
)


@given(outers)
def test_round_trip_and_the_schema_accepts_it(value: Outer) -> None:
    data = json.loads(json.dumps(encode(value)))
    assert decode(Outer, data) == value
    jsonschema.validate(data, SCHEMA)


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@given(outers, st.sampled_from([f.name for f in dataclasses.fields(Outer)]), junk)
def test_decoding_accepts_exactly_what_the_schema_accepts(
    value: Outer, field: str, replacement: Any
) -> None:
    data = {**encode(value), field: replacement}
    valid = jsonschema.Draft202012Validator(SCHEMA).is_valid(data)
    if valid:
        decode(Outer, data)
    else:
        with pytest.raises(ValueError, match=field):
            decode(Outer, data)


GOOD = {"name": "n", "count": 1, "flag": True, "inner": {"kind": "a"}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inner": {"kind": "c"}}, r"inner.kind is 'c', not one of a, b"),
        ({"count": True}, "count is bool, not integer"),
        ({"many": [{"kind": "a"}, {}]}, r"many\[1\].kind is missing"),
        ({"pair": [1.0]}, "pair has 1 entries, not 2"),
        ({"extra": 1}, "extra is unknown"),
        ({"inner": {"kind": "a", "ratio": float("nan")}}, "not a finite number"),
    ],
)
def test_messages_name_the_field(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode(Outer, {**GOOD, **change})


def test_an_integer_is_a_number() -> None:
    assert decode(Inner, {"kind": "a", "ratio": 2}) == Inner("a", 2.0)


def test_an_integer_beyond_every_float_is_refused() -> None:
    with pytest.raises(ValueError, match="ratio is too large"):
        decode(Inner, {"kind": "a", "ratio": 10**400})
