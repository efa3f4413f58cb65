import dataclasses
import json
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedf.errors import DeviceError
from edgedf.runtime.profile import events
from edgedf.runtime.profile.events import Event, from_line, to_line

KINDS = typing.get_args(Event)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
# from_type would draw nan, infinities and lone surrogates, none of which JSON text can carry.
st.register_type_strategy(float, NUMBERS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_event_comes_back_from_its_line(kind: type) -> None:
    @given(st.builds(kind))
    def comes_back(event: Event) -> None:
        line = to_line(event)
        assert "\n" not in line
        assert from_line(line) == event

    comes_back()


@given(st.text(max_size=40))
def test_whatever_else_is_written_is_refused_in_words(text: str) -> None:
    with pytest.raises(DeviceError, match="no event"):
        from_line(text)


@pytest.mark.parametrize(
    "data",
    [
        {"event": "Block"},
        {"event": "Block", "configuration": "0", "round": 0, "at_s": 0, "times_ms": []},
        {"event": "Exploded"},
        {"event": "Finished", "more": 1},
        {"event": ["Finished"]},
        {},
        [],
        7,
    ],
)
def test_an_event_that_breaks_the_schema_is_refused(data: object) -> None:
    with pytest.raises(DeviceError, match="no event"):
        from_line(json.dumps(data))


def test_every_kind_of_event_has_a_name_of_its_own_and_is_frozen() -> None:
    assert len({kind.__name__ for kind in KINDS}) == len(KINDS)
    assert {kind.__name__ for kind in KINDS} <= set(events.__all__)
    for kind in KINDS:
        assert dataclasses.is_dataclass(kind)
        assert kind.__dataclass_params__.frozen
