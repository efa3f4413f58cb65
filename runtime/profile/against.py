"""A profile against an earlier one, for CI: slower, larger, or as it was.

A figure *fails* where it got worse by more than the limit and its whole 95 % interval says so; it
*passes* where the whole interval is within the limit; else one *cannot tell*. The intervals are
those of both profiles together, by the logarithm, as both ends may be off.

Two runs of one machine on two days differ by its drift, which no interval within a run knows. Where
both profiles hold a model file that has not changed, it is a baseline: the ratio of another model
to it, taken within each run, has no drift in it, and decides instead of milliseconds. Without one
milliseconds decide.

Latency on another machine, or of another version of the runtime, is shown and decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from edgedf.errors import ConfigError
from edgedf.runtime.profile.document import Latency, Profile
from edgedf.runtime.profile.matching import Pair, Sides, devices_of
from edgedf.runtime.profile.ratios import turned

__all__ = ["LIMIT", "Change", "Comparison", "Verdict", "What", "compare"]

Verdict = Literal["pass", "fail", "cannot tell"]
What = Literal["p50", "p90", "memory", "size", "ratio"]

LIMIT = 0.10
"""What a figure may get worse, as a fraction, where nobody says otherwise."""

_MEMORY_NOISE_KIB = 1024  # what an allocator takes more or less from one start to the next


@dataclass(frozen=True)
class Change:
    """One figure, then and now.

    Args:
        device: As the user wrote it.
        name: Which model and how many threads; of a ratio, which two.
        what: Which figure.
        before: In the earlier profile: milliseconds, KiB, bytes, or a ratio.
        now: In this one.
        ratio: Now divided by before; above 1 it got worse.
        low: Lower end of its 95 % interval; None where there is none.
        high: Upper end.
        verdict: None where it is only shown.
        reason: In words, empty where there is nothing to say.
    """

    device: str
    name: str
    what: What
    before: float
    now: float
    ratio: float
    low: float | None
    high: float | None
    verdict: Verdict | None
    reason: str = ""


@dataclass(frozen=True)
class Comparison:
    """This profile against an earlier one.

    Args:
        verdict: ``fail`` where something got worse beyond the limit, ``cannot tell`` where
            something cannot be told, else ``pass``.
        limit: What may be lost, as a fraction.
        changes: Figure by figure.
        remarks: What else to know: different machines or runtimes, results that only one has.
    """

    verdict: Verdict
    limit: float
    changes: tuple[Change, ...]
    remarks: tuple[str, ...] = ()


def compare(profile: Profile, previous: Profile, limit: float = LIMIT) -> Comparison:
    """Hold a profile against an earlier one.

    Results are matched by device, file name, format, precision and threads; one whose file was
    renamed by the last three, where only one can be meant.

    Args:
        profile: The new one.
        previous: The earlier one.
        limit: How much worse a figure may be, as a fraction: 0.1 for 10 %.

    Returns:
        All changes with a verdict each, and one for all.

    Raises:
        ConfigError: The limit makes no sense.
    """
    if not (math.isfinite(limit) and limit > 0):
        raise ConfigError(
            f"The limit is {limit:g}.",
            expected="a number above 0, such as 0.1 for 10 %",
            next_step=f"leave it out for {LIMIT:g}",
        )
    changes: list[Change] = []
    remarks: list[str] = []
    unclear = False
    if profile.effort != previous.effort:
        remarks.append("The two were not measured with the same effort.")
    for before, now in devices_of(previous, profile):
        sides = Sides(previous, before, profile, now)
        matched = list(sides.pairs())
        remarks.extend(sides.remarks(matched))
        for pair in matched:
            if pair.before.latency is not None:
                unclear |= pair.now.latency is None or pair.now.latency.p50_ms is None
        judge = _Judge(sides, limit)
        changes.extend(_by_ratios(matched, list(judge.of_ratios(matched)), judge))
    if not changes:
        remarks.append("Nothing is in both profiles, so nothing was compared.")
    return Comparison(_overall(changes, unclear), limit, tuple(changes), tuple(remarks))


_Measured = tuple[float | None, float | None, float | None]
"""A figure with the ends of its interval."""


@dataclass(frozen=True)
class _Judge:
    """Holds the figures of one device against the limit."""

    sides: Sides
    limit: float

    def of_pair(self, pair: Pair) -> Iterator[Change]:
        """Latency, memory and size of one result."""
        why = self.sides.why_not(pair)
        old, new = pair.before.latency, pair.now.latency
        if old is not None and new is not None:
            for what in ("p50", "p90"):
                change = self._latency(pair, what, _figure(old, what), _figure(new, what))
                if change is not None:
                    yield _undecided(change, why) if why else change
        if pair.before.memory is not None and pair.now.memory is not None:
            kib = pair.before.memory.model_kib, pair.now.memory.model_kib
            if min(kib) > 0:
                change = self._exact(pair, "memory", *kib, slack=_MEMORY_NOISE_KIB)
                alike = not self.sides.differences and pair.before.runtime == pair.now.runtime
                yield change if alike else replace(change, verdict=None, reason=why)
        if pair.model_before.sha256 != pair.model_now.sha256:
            sizes = pair.model_before.size_bytes, pair.model_now.size_bytes
            if min(sizes) > 0:
                yield self._exact(pair, "size", *sizes)

    def of_ratios(self, matched: Sequence[Pair]) -> Iterator[tuple[Pair, Pair, Change]]:
        """Ratios that both runs hold: the pair divided by, the other, what became of it."""
        then = {(ratio.first, ratio.second): ratio for ratio in self.sides.before.ratios}
        pairs = {pair.at_now: pair for pair in matched}
        for ratio in self.sides.now.ratios:
            first, second = pairs.get(ratio.first), pairs.get(ratio.second)
            if first is None or second is None:
                continue
            old = then.get((first.at_before, second.at_before))
            if old is None:
                other_way = then.get((second.at_before, first.at_before))
                if other_way is None:
                    continue
                old = turned(other_way)
            change = self._measured(
                f"{second.name} / {first.name}",
                "ratio",
                (old.ratio, old.low, old.high),
                (ratio.ratio, ratio.low, ratio.high),
            )
            why = self.sides.why_not(first) or self.sides.why_not(second)
            if why:
                change = _undecided(change, why)
            elif not first.is_baseline:
                change = replace(
                    change,
                    verdict=None,
                    reason=f"only shown: {first.name} is not the file it was then",
                )
            yield first, second, change

    def _latency(
        self, pair: Pair, what: Literal["p50", "p90"], old: _Measured, new: _Measured
    ) -> Change | None:
        if not old[0] or not new[0]:
            return None
        return self._measured(pair.name, what, old, new)

    def _measured(self, name: str, what: What, old: _Measured, new: _Measured) -> Change:
        before, now = float(old[0] or 0), float(new[0] or 0)
        ratio = now / before
        low, high = _combined(ratio, old, new)
        verdict: Verdict = "pass"
        reason = ""
        if (ratio if high is None else high) > 1 + self.limit:
            # Without an interval a change may be noise.
            verdict = "fail" if low is not None and low > 1 + self.limit else "cannot tell"
            if verdict == "cannot tell":
                missing = low is None
                reason = "no interval" if missing else "the interval includes the limit: run longer"
        return Change(
            self.sides.now.device, name, what, before, now, ratio, low, high, verdict, reason
        )

    def _exact(self, pair: Pair, what: What, old: int, new: int, slack: int = 0) -> Change:
        worse = new > (1 + self.limit) * old and new - old > slack
        return Change(
            device=self.sides.now.device,
            name=pair.name,
            what=what,
            before=float(old),
            now=float(new),
            ratio=new / old,
            low=None,
            high=None,
            verdict="fail" if worse else "pass",
        )


def _by_ratios(
    matched: Sequence[Pair], ratios: Sequence[tuple[Pair, Pair, Change]], judge: _Judge
) -> Iterator[Change]:
    """All changes of a device; milliseconds give way to the ratio to a baseline."""
    judged = [(first, second, change) for first, second, change in ratios if change.verdict]
    by_second: dict[int, list[tuple[Pair, Change]]] = {}
    baselines: set[int] = set()
    for first, second, change in judged:
        if not judge.sides.why_not(first) and not judge.sides.why_not(second):
            by_second.setdefault(second.at_now, []).append((first, change))
            baselines.add(first.at_now)
    for pair in matched:
        passing = [
            first for first, change in by_second.get(pair.at_now, []) if change.verdict == "pass"
        ]
        drift = 1.0  # what the median did: the tail has to answer for what it did beyond that
        for change in judge.of_pair(pair):
            worse = change.what in ("p50", "p90") and change.verdict in ("fail", "cannot tell")
            if change.what == "p50":
                drift = change.ratio
            tail = change.what == "p90" and (change.low or change.ratio) > drift * (1 + judge.limit)
            if worse and not tail and not judge.sides.why_not(pair):
                if passing:
                    reason = f"the ratio to {passing[0].name}, which has not changed, decides"
                    change = replace(change, verdict=None, reason=reason)
                elif pair.at_now in baselines and pair.at_now not in by_second:
                    reason = (
                        "file and runtime are what they were, so the machine is not: the ratios to "
                        "it decide"
                    )
                    change = replace(change, verdict=None, reason=reason)
            yield change
    for _, _, change in ratios:
        yield change


def _overall(changes: Iterable[Change], unclear: bool) -> Verdict:
    verdicts = {change.verdict for change in changes}
    if "fail" in verdicts:
        return "fail"
    if unclear or "cannot tell" in verdicts or "pass" not in verdicts:
        return "cannot tell"
    return "pass"


def _combined(
    ratio: float, old: _Measured, new: _Measured
) -> tuple[float, float] | tuple[None, None]:
    """The interval of a quotient of two figures that were measured apart from each other."""
    figures = (*old, *new)
    if any(value is None or value <= 0 for value in figures):
        return None, None
    before, before_low, before_high, now, now_low, now_high = (
        math.log(value) for value in figures if value is not None
    )
    below = math.hypot(now - now_low, before_high - before)
    above = math.hypot(now_high - now, before - before_low)
    return ratio * math.exp(-below), ratio * math.exp(above)


def _figure(latency: Latency, what: str) -> _Measured:
    if what == "p50":
        return latency.p50_ms, latency.p50_low_ms, latency.p50_high_ms
    return latency.p90_ms, latency.p90_low_ms, latency.p90_high_ms


def _undecided(change: Change, why: str) -> Change:
    # One figure of each result says that nothing is decided; the others need not repeat it.
    return replace(change, verdict=None if change.what != "p50" else "cannot tell", reason=why)
