"""Whether a figure may be believed, and if not, why not.

valid
    At least 1,024 inferences and 60 s, as MLPerf asks for, on a machine that did nothing else.
semi-valid
    Too few, or too noisy to say much; nothing speaks against the machine.
invalid
    The machine changed while it was measured: it was slowed down, or did something else. No mean
    and no median puts that right, so it is said and not averaged away.

Each result is judged by the time in which its own blocks ran. What other processes did is read
from the system where it says so. Where it does not, latency itself gives a competing load away:
a stretch of the run in which nearly all blocks are slower than nearly all others is no noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edgedf.runtime.profile.document import DeviceRun, Latency, Validity
from edgedf.runtime.profile.events import Block, State, Summary
from edgedf.runtime.profile.level_shift import level_shift
from edgedf.runtime.profile.request import FULL, Effort

__all__ = [
    "FREQUENCY_FALL",
    "STOLEN",
    "Evidence",
    "is_publishable",
    "judge",
    "load_limit",
]

# A twentieth of the processors is what an idle phone or desktop does in the background. One busy
# process must always be seen, however many processors there are.
_LOAD_SHARE, _LOAD_LEAST, _LOAD_MOST = 0.05, 0.25, 0.75
# Processors; a virtual machine that has its own shows hundredths of one.
STOLEN = 0.1
# Long enough that a daemon's blink does not count, short enough that nothing hides in it.
_WINDOW_S = 3.0
FREQUENCY_FALL = 0.05
_FREQUENCY_WINDOW = 3  # states
# An interval as wide as this cannot tell a change of 10 %, which is what CI is asked for.
_INTERVAL = 0.05
# A quiet machine has 1.02 to 1.15. Above this it is not one latency but several.
_TAIL = 1.25
_REPETITION_SHIFT = 0.07  # between repetitions of an undisturbed run
_REPETITIONS = 4  # of a native benchmark, to see whether the machine stayed as it was
_SLACK = 0.99  # a second is up when the clock says so, inferences are summed up one by one


@dataclass(frozen=True)
class Evidence:
    """All that speaks for or against one result.

    Args:
        latency: Its figures; None where nothing was measured.
        blocks: Its blocks that count, in the order of time; empty for a native benchmark.
        summaries: What a native benchmark said, one per repetition; empty otherwise.
        states: The machine over the whole run.
        cores: Processors of the machine; None where unknown.
        effort: What was asked for.
        steady: Whether latency was steady after the warm-up; None where unknown.
        finished: Whether the run came to its end.
    """

    latency: Latency | None
    blocks: Sequence[Block] = ()
    summaries: Sequence[Summary] = ()
    states: Sequence[State] = ()
    cores: int | None = None
    effort: Effort = FULL
    steady: bool | None = None
    finished: bool = True


def judge(seen: Evidence) -> Validity:
    """Judge one result.

    Args:
        seen: What there is to judge it by.
    """
    if seen.latency is None:
        return Validity("invalid", ("nothing was measured",))
    against = (*_cut_off(seen, seen.latency), *_disturbed(seen))
    doubts = (*_too_few(seen.latency), *_too_noisy(seen, seen.latency))
    if against:
        return Validity("invalid", (*against, *doubts))
    return Validity("semi-valid" if doubts else "valid", doubts)


def is_publishable(devices: Sequence[DeviceRun], effort: Effort) -> bool:
    """Whether every figure is valid and the effort was the full one.

    Args:
        devices: All of them.
        effort: What was asked for.
    """
    full = effort.queries >= FULL.queries and effort.seconds >= FULL.seconds
    results = [result for device in devices for result in device.results]
    return (
        full
        and bool(results)
        and all(device.status == "complete" for device in devices)
        and all(result.validity.status == "valid" for result in results)
    )


def load_limit(cores: int | None) -> float:
    """How many processors other processes may keep busy.

    Args:
        cores: Processors of the machine; None where unknown.
    """
    if cores is None:
        return _LOAD_LEAST
    return min(max(_LOAD_LEAST, _LOAD_SHARE * cores), _LOAD_MOST)


def _cut_off(seen: Evidence, latency: Latency) -> Iterator[str]:
    asked = seen.effort
    enough = latency.queries >= asked.queries and latency.seconds >= _SLACK * asked.seconds
    if not seen.finished and not enough:
        yield (
            f"the run was cut off after {latency.queries:,} inferences and {latency.seconds:.0f} s "
            f"of at least {asked.queries:,} and {asked.seconds:g} s"
        )


def _disturbed(seen: Evidence) -> Iterator[str]:
    spans = list(_spans(seen))
    yield from _loaded(spans, seen.cores)
    yield from _stolen(spans)
    yield from _throttled(spans)
    yield from _slowed(spans)
    medians = np.array([np.median(block.times_ms) for block in seen.blocks])
    shift = level_shift(medians)
    if shift is not None:
        begin = seen.blocks[shift.start].at_s
        last = seen.blocks[shift.stop - 1]
        end = last.at_s + sum(last.times_ms) / 1e3
        zero = seen.blocks[0].at_s
        how = "higher" if shift.ratio > 1 else "lower"
        yield (
            f"latency was {abs(shift.ratio - 1):.0%} {how} from {begin - zero:.0f} s to "
            f"{end - zero:.0f} s than in the rest of the run: something else ran, or the machine "
            "changed its speed"
        )


@dataclass(frozen=True)
class _Span:
    """What a state says of the time since the one before, as far as that was measured in."""

    at_s: float
    seconds: float
    state: State
    rise: int  # of the throttle counter


def _spans(seen: Evidence) -> Iterator[_Span]:
    """The states that tell of the time in which the blocks ran."""
    begin, end = float("-inf"), float("inf")
    if seen.blocks:
        last = seen.blocks[-1]
        begin, end = seen.blocks[0].at_s, last.at_s + sum(last.times_ms) / 1e3
    before: State | None = None
    counter: int | None = None
    for state in sorted(seen.states, key=lambda state: state.at_s):
        since = 0.0 if before is None else before.at_s
        inside = min(state.at_s, end) - max(since, begin)
        rise = 0
        if state.throttled is not None:
            rise = 0 if counter is None else max(0, state.throttled - counter)
            counter = state.throttled
        # What happened in the longer half of the time outside is not this result's.
        if inside > 0 and (2 * inside >= state.at_s - since or rise):
            yield _Span(state.at_s - max(begin, 0.0), inside, state, rise)
        before = state


def _worst(
    spans: Sequence[_Span], value: Callable[[State], float | None]
) -> tuple[float, float, float] | None:
    """The highest mean over any window of a few seconds, and when it began and ended."""
    said = [(span, value(span.state)) for span in spans]
    known = [(span, number) for span, number in said if number is not None]
    best: tuple[float, float, float] | None = None
    for first in range(len(known)):
        seconds = total = 0.0
        for span, number in known[first:]:
            seconds += span.seconds
            total += span.seconds * number
            if seconds >= _WINDOW_S:
                break
        if seconds < _WINDOW_S and first > 0:  # the rest is shorter than a window
            break
        if best is None or total / seconds > best[0]:
            best = (total / seconds, known[first][0].at_s - known[first][0].seconds, span.at_s)
    return best


def _loaded(spans: Sequence[_Span], cores: int | None) -> Iterator[str]:
    limit = load_limit(cores)
    worst = _worst(spans, lambda state: state.other_load)
    if worst is not None and worst[0] > limit:
        load, begin, end = worst
        of = "" if cores is None else f" of {cores}"
        yield (
            f"other processes kept {load:.2f}{of} processors busy from {max(0.0, begin):.0f} s to "
            f"{end:.0f} s of the run (more than {limit:.2f})"
        )


def _stolen(spans: Sequence[_Span]) -> Iterator[str]:
    worst = _worst(spans, lambda state: state.stolen)
    if worst is not None and worst[0] > STOLEN:
        yield (
            f"the hypervisor gave {worst[0]:.2f} processors to other machines from "
            f"{max(0.0, worst[1]):.0f} s to {worst[2]:.0f} s of the run (more than {STOLEN:g})"
        )


def _throttled(spans: Sequence[_Span]) -> Iterator[str]:
    times = sum(span.rise for span in spans)
    if times:
        yield f"the machine slowed itself down for heat, power or a quota {times:,} times"


def _slowed(spans: Sequence[_Span]) -> Iterator[str]:
    # The fastest processor is the one that works; others may rest.
    fastest = [max(span.state.frequency_mhz) for span in spans if span.state.frequency_mhz]
    if len(fastest) < 2 * _FREQUENCY_WINDOW:
        return
    windows = np.lib.stride_tricks.sliding_window_view(np.array(fastest), _FREQUENCY_WINDOW)
    levels = np.median(windows, axis=1)
    lowest = float(levels.min())
    if lowest < (1 - FREQUENCY_FALL) * levels[0]:
        yield (
            f"the processor's frequency fell from {levels[0]:,.0f} to {lowest:,.0f} MHz "
            f"(by more than {FREQUENCY_FALL:.0%})"
        )


def _too_few(latency: Latency) -> Iterator[str]:
    if latency.queries < FULL.queries:
        yield f"{latency.queries:,} inferences, fewer than {FULL.queries:,}"
    if latency.seconds < _SLACK * FULL.seconds:
        yield f"{latency.seconds:.1f} s of inference, less than {FULL.seconds:g} s"


def _too_noisy(seen: Evidence, latency: Latency) -> Iterator[str]:
    low, middle, high = latency.p50_low_ms, latency.p50_ms, latency.p50_high_ms
    if low is not None and middle and high is not None and (high - low) / middle > _INTERVAL:
        yield (
            f"noisy: the interval of p50 is {(high - low) / middle:.0%} of it wide, more than "
            f"{_INTERVAL:.0%}"
        )
    if middle and latency.p90_ms is not None and latency.p90_ms / middle > _TAIL:
        yield f"noisy: p90 is {latency.p90_ms / middle:.2f} times p50, more than {_TAIL:g}"
    if seen.steady is False:
        yield "latency had not become steady when the warm-up was over"
    if seen.summaries and not seen.blocks:
        yield from _native(seen.summaries, latency)


def _native(summaries: Sequence[Summary], latency: Latency) -> Iterator[str]:
    if latency.p50_ms is None or latency.p90_ms is None:
        yield f"{summaries[0].source} gives no percentiles"
    if len(summaries) < _REPETITIONS:
        yield (
            f"{summaries[0].source} gives no single inferences and ran fewer than {_REPETITIONS} "
            "times: whether the machine stayed as it was cannot be seen"
        )
        return
    levels = [
        summary.mean_ms if summary.p50_ms is None else summary.p50_ms for summary in summaries
    ]
    if min(levels) > 0 and max(levels) / min(levels) > 1 + _REPETITION_SHIFT:
        yield (
            f"its {len(summaries)} repetitions differ by {max(levels) / min(levels) - 1:.0%}, more "
            f"than {_REPETITION_SHIFT:.0%}"
        )
