import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedf.formats import turns
from edgedf.formats.turns import take_turns, time_alone
from edgedf.imaging import RGBImage

IMAGES = [np.full((1, 1, 3), value, np.uint8) for value in range(3)]


@given(queries=st.integers(1, 40))
def test_three_quarters_of_what_was_asked_for_count(queries: int) -> None:
    shown: dict[str, list[int]] = {"profiled": [], "plain": []}
    after: list[int] = []

    def run(name: str, image: RGBImage) -> None:
        shown[name].append(int(image[0, 0, 0]))

    found = take_turns(
        lambda image: run("profiled", image),
        lambda image: run("plain", image),
        IMAGES,
        queries,
        after=lambda: after.append(len(shown["profiled"])),
    )
    assert len(found.counted) == max(1, round(0.75 * queries))
    assert list(found.counted) == sorted(set(found.counted))
    assert found.counted[-1] < len(shown["profiled"])
    assert shown["profiled"] == shown["plain"]  # the same pictures
    assert after == list(range(1, len(shown["profiled"]) + 1))


def test_interrupted_inferences_and_the_first_of_a_block_do_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A clock that only the models move: 3 and 2 ms, but 50 where one is interrupted."""
    now = 0
    runs = {"profiled": 0, "plain": 0}
    monkeypatch.setattr(turns.time, "perf_counter_ns", lambda: now)

    def run(name: str, milliseconds: int, slow: tuple[int, ...]) -> None:
        nonlocal now
        now += 1_000_000 * (50 if runs[name] in slow else milliseconds)
        runs[name] += 1

    found = take_turns(
        lambda image: run("profiled", 3, (0, 1, 2, 5, 11)),  # three to warm up, one, one lead-in
        lambda image: run("plain", 2, (0, 7)),
        IMAGES,
        8,
    )
    assert (found.inference_ms, found.plain_ms) == (3.0, 2.0)
    assert not {0, 1, 2, 5} & set(found.counted)


def test_alone_the_slowest_quarter_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    now, times = 0, iter([9, 9, 9, 1, 2, 3, 90])
    monkeypatch.setattr(turns.time, "perf_counter_ns", lambda: now)

    def run(image: RGBImage) -> None:
        nonlocal now
        now += 1_000_000 * next(times)

    assert time_alone(run, IMAGES, 4) == 2.0


def test_a_slow_model_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    now, runs = 0, 0
    monkeypatch.setattr(turns.time, "perf_counter_ns", lambda: now)

    def run(image: RGBImage) -> None:
        nonlocal now, runs
        now += 2_000_000_000
        runs += 1

    found = take_turns(run, run, IMAGES, 1000)
    assert found.inference_ms == found.plain_ms == 2000.0
    assert runs < 30
    assert time_alone(run, IMAGES, 1000) == 2000.0
    assert runs < 40
