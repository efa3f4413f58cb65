import importlib
import itertools
from collections.abc import Iterable, Iterator

import pytest

from edgedf.runtime.profile.settle import settle

module = importlib.import_module("edgedf.runtime.profile.settle")


class Clocks:
    """A wall clock that only sleep moves, and a process that takes a share of each sleep."""

    def __init__(self, shares: Iterable[float]) -> None:
        self.now = self.used = 0.0
        self.sleeps = 0
        self._shares: Iterator[float] = iter(shares)

    def monotonic(self) -> float:
        return self.now

    def process_time(self) -> float:
        return self.used

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.used += next(self._shares) * seconds
        self.sleeps += 1


def settled(monkeypatch: pytest.MonkeyPatch, shares: Iterable[float], limit_s: float) -> Clocks:
    clocks = Clocks(shares)
    monkeypatch.setattr(module, "time", clocks)
    assert settle(limit_s) == clocks.now
    return clocks


@pytest.mark.parametrize(
    ("shares", "looks"),
    [
        ([0.0, 0.0], 2),
        ([1.0] * 18 + [0.05, 0.02], 20),
        ([1.0, 0.0, 1.0, 0.0, 0.0], 5),  # off its processor for a moment
        ([3.0, 2.0, 1.0, 0.3, 0.2, 0.2], 6),  # several threads
    ],
)
def test_threads_are_waited_for_until_they_rest(
    monkeypatch: pytest.MonkeyPatch, shares: list[float], looks: int
) -> None:
    assert settled(monkeypatch, shares, 60.0).sleeps == looks


def test_what_never_rests_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = settled(monkeypatch, itertools.repeat(1.0), 0.1)
    assert 0.1 <= clocks.now < 0.11


def test_it_ends_on_the_real_clock_too() -> None:
    assert settle(0.05) > 0
