"""Which of several files to ship, by what was measured: accuracy first, then speed, then size.

For each device and number of threads:

1. A file that loses more accuracy than the limits allow is out.
2. The others are held against the fastest, the one with the smallest median, by the 95 % interval
   of the ratio to it: *as fast* where none of it is above 1.02, else *slower* where all of it is
   above 1.
3. The smallest of the fastest and those as fast is recommended, so what comes out is on the Pareto
   front of latency and size.

One cannot tell where a latency is missing or invalid, where an interval is too wide to say whether
a smaller file is as fast or a larger one is faster, and where nobody knows the accuracy of the
file that comes out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgedf.runtime.profile.document import (
    Considered,
    DeviceRun,
    ModelAccuracy,
    Profile,
    Ratio,
    Recommendation,
)
from edgedf.runtime.profile.ratios import turned
from edgedf.runtime.profile.report.figures import megabytes, number

__all__ = ["ALIKE", "recommend"]

ALIKE = 0.02
"""Differences of latency up to this fraction count for nothing, so that size decides."""

_LONGER = "measure longer, such as with --seconds 300"


def recommend(profile: Profile, accuracies: Sequence[ModelAccuracy], accuracy_from: str) -> Profile:
    """Say of each device and number of threads which file to ship.

    Args:
        profile: What was measured.
        accuracies: Of each of its models, in their order.
        accuracy_from: What these were judged by, in words.

    Returns:
        The profile with the recommendations in its devices.
    """
    return replace(
        profile,
        devices=tuple(
            replace(
                run,
                recommendations=tuple(
                    _Choice(profile, run, tuple(accuracies), threads).recommendation(accuracy_from)
                    for threads in dict.fromkeys(result.threads for result in run.results)
                ),
            )
            for run in profile.devices
        ),
    )


class _CannotTell(Exception):
    """Why no file comes out, and what would help."""

    def __init__(self, reason: str, next_step: str) -> None:
        super().__init__(reason)
        self.reason, self.next_step = reason, next_step


@dataclass(frozen=True)
class _Choice:
    """Among the results of one device with one number of threads, by index into its results."""

    profile: Profile
    run: DeviceRun
    accuracies: tuple[ModelAccuracy, ...]
    threads: int

    def recommendation(self, accuracy_from: str) -> Recommendation:
        all_ = [at for at, each in enumerate(self.run.results) if each.threads == self.threads]
        allowed = [at for at in all_ if self._accuracy(at).standing != "over"]
        findings = dict.fromkeys(all_, "not compared")
        findings.update({at: "loses too much accuracy" for at in all_ if at not in allowed})
        model: int | None = None
        next_step = ""
        try:
            chosen, reason = self._chosen(allowed, findings)
            self._check_known(chosen, allowed)
            model = self.run.results[chosen].model
        except _CannotTell as error:
            reason, next_step = error.reason, error.next_step
        considered = tuple(
            Considered(self.run.results[at].model, self._accuracy(at), findings[at]) for at in all_
        )
        return Recommendation(self.threads, model, reason, considered, accuracy_from, next_step)

    def _chosen(self, allowed: Sequence[int], findings: dict[int, str]) -> tuple[int, str]:
        """The second and the third step; what becomes of each goes into the findings."""
        self._check_latencies(allowed)
        fastest = min(allowed, key=lambda at: (self._milliseconds(at), *self._order(at)))
        ratios = {at: self._ratio(fastest, at) for at in allowed if at != fastest}
        alike = [fastest, *(at for at, ratio in ratios.items() if ratio.high <= 1 + ALIKE)]
        chosen = min(alike, key=self._order)
        unclear = []
        for at, ratio in ratios.items():
            slower = at not in alike and ratio.low > 1
            may_be_smaller = at not in alike and self._size(at) < self._size(chosen)
            may_be_faster = ratio.low < 1 / (1 + ALIKE) and self._size(at) > self._size(chosen)
            if not slower and (may_be_smaller or may_be_faster):
                unclear.append(ratio)
            findings[at] = f"{_times(ratio)} the time of {self._file(fastest)}"
        findings[fastest] = "the fastest"
        if unclear:
            raise _CannotTell(
                f"{self._file(unclear[0].second)} takes {_times(unclear[0])} as long as "
                f"{self._file(fastest)}, which leaves open which of the two is faster.",
                _LONGER,
            )
        findings[chosen] += "; comes out by speed and size"
        return chosen, self._why(chosen, fastest, ratios)

    def _check_latencies(self, allowed: Sequence[int]) -> None:
        if not allowed:
            raise _CannotTell(
                "Every file loses more accuracy than the limits allow.",
                "add the float file, or convert with --precision auto --gate DIR",
            )
        for at in allowed:
            if self.run.results[at].latency is None:
                raise _CannotTell(
                    f"{self._file(at)} was not measured.",
                    "see what could not be measured, or leave the file out",
                )
        invalid = [at for at in allowed if self.run.results[at].validity.status == "invalid"]
        if invalid:
            raise _CannotTell(
                f"The latency is invalid of {', '.join(map(self._file, invalid))}.",
                "measure again while the machine does nothing else",
            )

    def _check_known(self, chosen: int, allowed: Sequence[int]) -> None:
        accuracy = self._accuracy(chosen)
        if accuracy.standing == "within":
            return
        reason = (
            f"{self._file(chosen)} comes out by speed and size, but whether it is accurate enough "
            f"is unknown: {accuracy.reason}."
        )
        known = [at for at in allowed if self._accuracy(at).standing == "within"]
        with contextlib.suppress(_CannotTell):
            best, _ = self._chosen(known, {})
            reason += f" Of the files known to be accurate it is {self._file(best)}."
        raise _CannotTell(reason, accuracy.next_step)

    def _why(self, chosen: int, fastest: int, ratios: dict[int, Ratio]) -> str:
        if chosen != fastest:
            return (
                f"It is smaller than {self._file(fastest)} ({megabytes(self._size(chosen))}, not "
                f"{megabytes(self._size(fastest))}) and as fast within {ALIKE:.0%}: it takes "
                f"{_times(ratios[chosen])} as long."
            )
        if not ratios:
            return "It is the only one that is accurate enough."
        smallest = all(self._size(chosen) <= self._size(at) for at in ratios)
        what = "the fastest and the smallest" if smallest else "the fastest"
        following = min(ratios, key=self._milliseconds)
        return f"It is {what}: {self._file(following)} takes {_times(ratios[following])} as long."

    def _ratio(self, first: int, second: int) -> Ratio:
        """How many times as long as the first the second takes."""
        for ratio in self.run.ratios:
            if (ratio.first, ratio.second) == (first, second):
                return ratio
            if (ratio.first, ratio.second) == (second, first):
                return turned(ratio)
        raise _CannotTell(
            f"{self._file(first)} and {self._file(second)} were not timed by turns.", _LONGER
        )

    def _accuracy(self, at: int) -> ModelAccuracy:
        return self.accuracies[self.run.results[at].model]

    def _file(self, at: int) -> str:
        return self.profile.models[self.run.results[at].model].file

    def _size(self, at: int) -> int:
        return self.profile.models[self.run.results[at].model].size_bytes

    def _order(self, at: int) -> tuple[int, float, str]:
        return self._size(at), self._milliseconds(at), self._file(at)

    def _milliseconds(self, at: int) -> float:
        latency = self.run.results[at].latency
        if latency is None:
            return float("inf")
        return latency.mean_ms if latency.p50_ms is None else latency.p50_ms


def _times(ratio: Ratio) -> str:
    return f"{number(ratio.ratio)} times ({number(ratio.low)} to {number(ratio.high)})"
