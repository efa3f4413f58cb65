import pytest

from edgedf.runtime.profile.events import State
from edgedf.runtime.profile.minutes import sustained
from tests.runtime.profile.made import blocks


def test_a_run_that_slows_down_says_by_how_much() -> None:
    long = blocks([10.0] * 200 + [14.0] * 100)
    seen = [
        State(float(at), frequency_mhz=(2000.0, 1000.0), temperature_c={"a": at / 10, "b": 20.0})
        for at in range(1, 320)
    ]
    found = sustained(long, seen)
    assert found is not None
    assert found.seconds == pytest.approx(315, abs=3)
    assert found.ratio_low <= found.ratio <= found.ratio_high
    assert found.ratio == pytest.approx(1.4, rel=0.01)
    assert found.ratio_low > 1.38 and found.ratio_high < 1.42
    assert [minute.at_s for minute in found.minutes] == [60.0 * at for at in range(6)]
    assert sum(minute.queries for minute in found.minutes) == sum(len(b.times_ms) for b in long)
    assert found.minutes[0].frequency_mhz == 1500.0
    assert found.minutes[4].temperature_c == pytest.approx(30.0, abs=0.2)
    assert found.minutes[0].p50_ms < found.minutes[0].p90_ms < found.minutes[4].p50_ms


def test_the_last_minute_is_one_of_the_clock() -> None:
    found = sustained(blocks([10.0] * 118 + [14.0] * 10), [])
    assert found is not None
    # 10 s of a started minute at the end do not decide, 60 s do.
    assert found.ratio < 1.1
    assert found.minutes[-1].frequency_mhz is None and found.minutes[-1].temperature_c is None


def test_what_was_cut_off_is_compared_by_halves() -> None:
    found = sustained(blocks([10.0] * 10 + [20.0] * 10), [])
    assert found is not None
    assert found.ratio == pytest.approx(2.0, rel=0.05)
    assert len(found.minutes) == 1
    assert sustained([], []) is None
    one = sustained(blocks([10.0]), [])
    assert one is not None and one.ratio == 1.0
