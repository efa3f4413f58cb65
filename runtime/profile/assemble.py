"""From a worker's events to what a document says of a device.

Nothing here asks for a whole run. What a lost connection left is kept, and marked: the device's
run is ``partial``, and results that had not got what was asked for are invalid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from edgedf.errors import EdgedfError
from edgedf.machine import Machine
from edgedf.runtime.profile.devices.base import Job
from edgedf.runtime.profile.document import (
    ColdStartTimes,
    DeviceRun,
    Memory,
    OperatorShares,
    Pipeline,
    Problem,
    Ratio,
    Result,
    RunStatus,
    Stage,
)
from edgedf.runtime.profile.events import (
    Block,
    ColdStart,
    Event,
    Failed,
    Finished,
    Loaded,
    Operators,
    PipelineTimes,
    Started,
    State,
    Summary,
    WarmedUp,
)
from edgedf.runtime.profile.minutes import sustained
from edgedf.runtime.profile.operator_verdict import delegation_verdict
from edgedf.runtime.profile.ratios import pairs, ratio_between, rounds_of, rounds_of_summaries
from edgedf.runtime.profile.request import Configuration
from edgedf.runtime.profile.statistics import (
    distribution,
    latency,
    latency_of_summaries,
    over_time,
    pooled,
)
from edgedf.runtime.profile.validity import Evidence, judge

__all__ = ["assemble", "thinned"]

E = TypeVar("E", bound=Event)

_MOST_STATES = 300


def assemble(
    job: Job,
    events: Sequence[Event],
    device: str,
    problem: EdgedfError | None = None,
) -> DeviceRun:
    """Make the results of a device from its events.

    Args:
        job: What was to be measured.
        events: All that came, in order; a run that was cut off lacks the last ones.
        device: As the user wrote it.
        problem: What ended it early.

    Returns:
        A result per model and number of threads, in the order of the request. Those of which
        nothing came have no latency and are invalid.
    """
    configurations = job.request(tuple(map(str, job.models)), ()).configurations
    machine = next((event.machine for event in events if isinstance(event, Started)), None)
    finished = any(isinstance(event, Finished) for event in events)
    results = tuple(
        _result(job, index, configuration, events, machine, finished)
        for index, configuration in enumerate(configurations)
    )
    measured = any(result.latency is not None for result in results)
    status: RunStatus = "complete" if finished and problem is None else "partial"
    if not measured:
        status = "failed"
    return DeviceRun(
        device=device,
        status=status,
        machine=machine,
        results=results if measured or machine is not None else (),
        ratios=_ratios(configurations, results, events),
        states=thinned([event for event in events if isinstance(event, State)]),
        problem=_problem(status, events, problem),
    )


def thinned(states: Sequence[State]) -> tuple[State, ...]:
    """A few hundred states: neighbours together, so that no load is lost between two of them.

    Args:
        states: In the order of time.
    """
    step = max(1, math.ceil(len(states) / _MOST_STATES))
    if step == 1:
        return tuple(states)
    kept = []
    before = 0.0
    for start in range(0, len(states), step):
        part = states[start : start + step]
        seconds = np.diff([before, *(state.at_s for state in part)])
        before = part[-1].at_s
        kept.append(_merged(part, np.maximum(seconds, 1e-9)))
    return tuple(kept)


def _merged(states: Sequence[State], seconds: np.ndarray) -> State:
    def mean(values: Sequence[float | None]) -> float | None:
        known = [(value, s) for value, s in zip(values, seconds, strict=True) if value is not None]
        if not known:
            return None
        return float(sum(value * s for value, s in known) / sum(s for _, s in known))

    last = states[-1]
    width = max(len(state.frequency_mhz) for state in states)
    full = [state.frequency_mhz for state in states if len(state.frequency_mhz) == width]
    temperatures: dict[str, float] = {}
    for state in states:
        for sensor, value in state.temperature_c.items():
            temperatures[sensor] = max(value, temperatures.get(sensor, value))
    counters = [state.throttled for state in states if state.throttled is not None]
    return replace(
        last,
        other_load=mean([state.other_load for state in states]),
        stolen=mean([state.stolen for state in states]),
        frequency_mhz=tuple(float(value) for value in np.mean(full, axis=0)) if width else (),
        temperature_c=temperatures,
        throttled=max(counters, default=None),
    )


def _result(
    job: Job,
    index: int,
    configuration: Configuration,
    events: Sequence[Event],
    machine: Machine | None,
    finished: bool,
) -> Result:
    def own(kind: type[E]) -> list[E]:
        return [
            event
            for event in events
            if isinstance(event, kind) and getattr(event, "configuration", None) in (None, index)
        ]

    blocks = [block for block in own(Block) if block.times_ms]
    measured = [block for block in blocks if block.phase == "measured"]
    summaries = own(Summary)
    states = own(State)
    figures = latency(measured) or latency_of_summaries(summaries)
    warm = own(WarmedUp)
    steady = warm[-1].steady if warm else None
    evidence = Evidence(
        latency=figures,
        blocks=measured,
        summaries=summaries,
        states=states,
        cores=None if machine is None else machine.cores,
        effort=job.effort,
        steady=steady,
        finished=finished,
    )
    loaded = own(Loaded)
    runtimes = [event.runtime for event in loaded] + [event.source for event in summaries]
    pipelines, operators = own(PipelineTimes), own(Operators)
    long = [block for block in blocks if block.phase == "sustained"]
    return Result(
        model=configuration.model,
        threads=configuration.threads,
        validity=judge(evidence),
        runtime=runtimes[0] if runtimes else "",
        int8_kernels=loaded[0].int8_kernels if loaded else None,
        latency=figures,
        distribution=distribution(pooled(measured)),
        over_time=over_time(measured),
        warm_up_queries=warm[-1].queries if warm else None,
        steady=steady,
        cold_start=_cold_start(own(ColdStart), summaries),
        memory=_memory(own(ColdStart), summaries),
        pipeline=_pipeline(pipelines[-1]) if pipelines else None,
        operators=_operators(operators[-1]) if operators else None,
        sustained=sustained(long, states),
        problems=tuple(
            Problem(failed.message, failed.expected, failed.next_step, failed.step)
            for failed in own(Failed)
        ),
    )


def _ratios(
    configurations: Sequence[Configuration], results: Sequence[Result], events: Sequence[Event]
) -> tuple[Ratio, ...]:
    blocks: list[list[Block]] = [[] for _ in results]
    summaries: list[list[Summary]] = [[] for _ in results]
    for event in events:
        if isinstance(event, (Block, Summary)) and 0 <= event.configuration < len(results):
            if isinstance(event, Summary):
                summaries[event.configuration].append(event)
            elif event.phase == "measured":
                blocks[event.configuration].append(event)
    times = {
        index: rounds_of(blocks[index]) or rounds_of_summaries(summaries[index])
        for index in range(len(results))
    }
    measured = [index for index in range(len(results)) if times[index]]
    ratios = (
        ratio_between(first, second, times) for first, second in pairs(configurations, measured)
    )
    return tuple(ratio for ratio in ratios if ratio is not None)


def _problem(
    status: RunStatus, events: Sequence[Event], problem: EdgedfError | None
) -> Problem | None:
    if problem is not None:
        return Problem(problem.message, problem.expected, problem.next_step)
    if status == "complete":
        return None
    failed = [event for event in events if isinstance(event, Failed)]
    if status == "failed" and failed:
        first = failed[0]
        return Problem(first.message, first.expected, first.next_step, first.step)
    return Problem(
        "The run ended before everything was measured.",
        next_step="run it again; what had been measured is kept",
    )


def _cold_start(starts: Sequence[ColdStart], summaries: Sequence[Summary]) -> ColdStartTimes | None:
    times = [(start.load_ms, start.first_run_ms) for start in starts]
    if not times:
        times = [
            (summary.load_ms, summary.first_run_ms)
            for summary in summaries
            if summary.load_ms is not None and summary.first_run_ms is not None
        ]
    if not times:
        return None
    load, first = np.median(np.array(times, np.float64), axis=0)
    total = np.median(np.sum(times, axis=1))
    return ColdStartTimes(len(times), float(load), float(first), float(total))


def _memory(starts: Sequence[ColdStart], summaries: Sequence[Summary]) -> Memory | None:
    if starts:
        largest = max(starts, key=lambda start: start.peak_kib - start.idle_kib)
        model = max(0, largest.peak_kib - largest.idle_kib)
        return Memory(model, largest.idle_kib, largest.peak_kib)
    sizes = [summary.model_kib for summary in summaries if summary.model_kib is not None]
    return Memory(max(sizes)) if sizes else None


def _pipeline(times: PipelineTimes) -> Pipeline | None:
    steps = {
        "decode": times.decode_ms,
        "preprocess": times.preprocess_ms,
        "inference": times.inference_ms,
        "postprocess": times.postprocess_ms,
    }
    pictures = min(len(values) for values in steps.values())
    if not pictures:
        return None
    table = np.array([values[:pictures] for values in steps.values()], np.float64)
    whole = table.sum(0)
    mean = float(whole.mean())
    if not mean > 0:  # a clock too coarse
        return None
    shares = table.mean(1) / mean
    p50, p90 = np.percentile(table, [50, 90], axis=1)
    middle, ninety = np.percentile(whole, [50, 90])
    return Pipeline(
        pictures=pictures,
        megapixels=float(np.median(times.megapixels)) if times.megapixels else 0.0,
        p50_ms=float(middle),
        p90_ms=float(ninety),
        stages=tuple(
            Stage(name, float(p50[at]), float(p90[at]), float(shares[at]))
            for at, name in enumerate(steps)
        ),
    )


def _operators(operators: Operators) -> OperatorShares:
    return OperatorShares(
        source=operators.source,
        operators=operators.operators,
        in_file=operators.in_file,
        inference_ms=operators.inference_ms,
        plain_ms=operators.plain_ms,
        verdict=delegation_verdict(operators),
        delegated=operators.delegated,
        partitions=operators.partitions,
        left_out=operators.left_out,
    )
