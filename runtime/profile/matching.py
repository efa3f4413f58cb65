"""Which results of two profiles belong together, and whether they may be compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from edgedf.runtime.profile.document import DeviceRun, Model, Profile, Result, name_of

__all__ = ["Pair", "Sides", "devices_of"]


class Pair(NamedTuple):
    """A result of the new profile and the one that it is held against.

    Args:
        at_before: Index into the earlier device's results.
        at_now: Index into the new one's.
        before: The earlier result.
        now: The new one.
        model_before: What was timed then.
        model_now: What was timed now.
        name: File and threads, in words.
    """

    at_before: int
    at_now: int
    before: Result
    now: Result
    model_before: Model
    model_now: Model
    name: str

    @property
    def is_baseline(self) -> bool:
        """Whether file and runtime are what they were, so that only the machine may not be."""
        same_file = self.model_before.sha256 == self.model_now.sha256
        return same_file and self.before.runtime == self.now.runtime


@dataclass(frozen=True)
class Sides:
    """A device in both profiles."""

    previous: Profile
    before: DeviceRun
    profile: Profile
    now: DeviceRun

    def pairs(self) -> Iterator[Pair]:
        """Results of both that belong together."""
        taken: set[int] = set()
        left: list[int] = []
        for at in range(len(self.now.results)):
            match = self._first(at, taken)
            if match is None:
                left.append(at)
            else:
                taken.add(match)
                yield self._pair(match, at)
        for at in left:
            wanted = _kind(self.profile, self.now.results[at])
            candidates = [
                other
                for other, result in enumerate(self.before.results)
                if other not in taken and _kind(self.previous, result) == wanted
            ]
            rivals = [
                other for other in left if _kind(self.profile, self.now.results[other]) == wanted
            ]
            if len(candidates) == len(rivals) == 1:
                taken.add(candidates[0])
                yield self._pair(candidates[0], at)

    def _first(self, at: int, taken: set[int]) -> int | None:
        wanted = _whole(self.profile, self.now.results[at])
        for other, result in enumerate(self.before.results):
            if other not in taken and _whole(self.previous, result) == wanted:
                return other
        return None

    def _pair(self, before: int, now: int) -> Pair:
        then, result = self.before.results[before], self.now.results[now]
        models = self.previous.models[then.model], self.profile.models[result.model]
        return Pair(before, now, then, result, *models, name_of(self.profile, result))

    @property
    def differences(self) -> tuple[str, ...]:
        """What makes the machines different ones, in words."""
        one, other = self.before.machine, self.now.machine
        if one is None or other is None:
            return ("the machine is not stated",)
        named = {
            "name": (one.name, other.name),
            "processor": (one.cpu, other.cpu),
            "SoC": (one.soc, other.soc),
            "architecture": (one.architecture, other.architecture),
            "number of processors": (one.cores, other.cores),
            "governor": (", ".join(one.governors), ", ".join(other.governors)),
        }
        return tuple(
            f"{what} {old or 'unknown'} then, {new or 'unknown'} now"
            for what, (old, new) in named.items()
            if old != new
        )

    def remarks(self, matched: Sequence[Pair]) -> Iterator[str]:
        """What to know before the figures are read."""
        device = self.now.device
        if self.differences:
            yield (
                f"DIFFERENT MACHINES ({device}): {'; '.join(self.differences)}. Latency and memory "
                "are shown and decide nothing."
            )
        one, other = self.before.machine, self.now.machine
        if one is not None and other is not None and one.system != other.system:
            yield f"{device}: the system was {one.system} and is {other.system}."
        runtimes = {(pair.before.runtime, pair.now.runtime) for pair in matched}
        for old, new in sorted(runtimes):
            if old != new:
                yield (
                    f"DIFFERENT RUNTIMES ({device}): {old or 'unknown'} then, {new or 'unknown'} "
                    "now. Their latency and memory are shown and decide nothing."
                )
        seen = {pair.at_now for pair in matched}
        for at, result in enumerate(self.now.results):
            if at not in seen:
                yield f"{device}: {name_of(self.profile, result)} is not in the earlier profile."
        seen = {pair.at_before for pair in matched}
        for at, result in enumerate(self.before.results):
            if at not in seen:
                yield f"{device}: {name_of(self.previous, result)} is in the earlier profile alone."
        for pair in matched:
            if pair.now.latency is None and pair.before.latency is not None:
                yield f"{device}: {pair.name} was measured then and could not be now."
            elif pair.now.latency is not None and pair.now.latency.p50_ms is None:
                yield f"{device}: {pair.name} has no median, so its latency is not compared."

    def why_not(self, pair: Pair) -> str:
        """Why latency of a pair decides nothing; empty where it does."""
        if self.differences:
            return "different machines"
        if pair.before.runtime != pair.now.runtime:
            return "different runtimes"
        for when, result in (("now", pair.now), ("then", pair.before)):
            if result.validity.status == "invalid":
                return f"invalid {when}: {'; '.join(result.validity.reasons)}"
        return ""


def _whole(profile: Profile, result: Result) -> tuple[str, ...]:
    return (profile.models[result.model].file, *_kind(profile, result))


def _kind(profile: Profile, result: Result) -> tuple[str, ...]:
    model = profile.models[result.model]
    return model.format, model.precision, str(result.threads)


def devices_of(previous: Profile, profile: Profile) -> Iterator[tuple[DeviceRun, DeviceRun]]:
    """Devices of the earlier profile and the new one with the same name.

    Of one each it does not matter how they are called: another phone has another serial number,
    and whether it is alike is not told by that.
    """
    named = {run.device: run for run in previous.devices}
    for run in profile.devices:
        if run.device in named:
            yield named[run.device], run
        elif len(previous.devices) == len(profile.devices) == 1:
            yield previous.devices[0], run
