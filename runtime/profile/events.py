"""What a worker says while it measures: one event, one line of JSON.

``configuration`` is always an index into :attr:`~edgedf.runtime.profile.request.Request`'s
``configurations``; ``at_s`` seconds since the worker started, on its own monotonic clock.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Union

from edgedf import typed_json
from edgedf.errors import DeviceError, EdgedfError
from edgedf.formats.timed import Operators, OperatorTime
from edgedf.int8_kernels import Int8Kernels
from edgedf.machine import Machine

__all__ = [
    "EVENT_SCHEMA_VERSION",
    "Block",
    "ColdStart",
    "Emit",
    "Event",
    "Failed",
    "Finished",
    "Loaded",
    "OperatorTime",
    "Operators",
    "PipelineTimes",
    "Progressed",
    "Started",
    "State",
    "Summary",
    "WarmedUp",
    "from_line",
    "to_line",
]

EVENT_SCHEMA_VERSION = 1

Phase = Literal["measured", "sustained"]


@dataclass(frozen=True)
class Started:
    """The first event.

    Args:
        machine: Where the worker runs.
        schema_version: Of the events.
    """

    machine: Machine
    schema_version: int = EVENT_SCHEMA_VERSION


@dataclass(frozen=True)
class Progressed:
    """How far a step is; for people only.

    Args:
        step: Its name.
        done: How much of it is done.
        total: How much there is.
    """

    step: str
    done: int
    total: int


@dataclass(frozen=True)
class Loaded:
    """A model is in memory, ready to be timed.

    Args:
        configuration: Which.
        runtime: Package and version, such as ``ai-edge-litert 2.3.0``.
        int8_kernels: How that runtime multiplies int8 there; None for a model that computes in
            float.
    """

    configuration: int
    runtime: str
    int8_kernels: Int8Kernels | None = None


@dataclass(frozen=True)
class ColdStart:
    """A fresh process has loaded a model and run it once.

    Args:
        configuration: Which.
        load_ms: From reading the file to a model that is ready, the runtime's import left out.
        first_run_ms: The first inference.
        idle_kib: Resident memory of the process just before it read the model: interpreter,
            libraries, the runtime.
        peak_kib: Its highest after a few inferences; what the model takes is the difference.
    """

    configuration: int
    load_ms: float
    first_run_ms: float
    idle_kib: int
    peak_kib: int


@dataclass(frozen=True)
class WarmedUp:
    """A configuration ran until its latency was steady, or until time was up.

    Args:
        configuration: Which.
        queries: Inferences that it took.
        seconds: Time that it took.
        steady: Whether it became steady.
    """

    configuration: int
    queries: int
    seconds: float
    steady: bool


@dataclass(frozen=True)
class Block:
    """Inferences of one configuration without a pause between them.

    The configurations take turns, a block each; a *round* is a block of every one of them. The
    first inferences of a block, which find the caches full of another model, are not among these.

    Args:
        configuration: Which.
        round: Number of the round, from 0; counted anew in each phase.
        at_s: When it began.
        times_ms: Latency of each inference.
        phase: ``measured``, or ``sustained`` for the long run afterwards.
    """

    configuration: int
    round: int
    at_s: float
    times_ms: tuple[float, ...]
    phase: Phase = "measured"


@dataclass(frozen=True)
class State:
    """The machine at one moment, or since the last such event. None where it does not say.

    Args:
        at_s: When.
        other_load: Processors that *other* processes kept busy since the last state, 0 to the
            number of processors.
        stolen: Processors that a hypervisor gave to other machines since then.
        frequency_mhz: Of each processor; empty where unknown.
        temperature_c: By sensor.
        throttled: How often the machine has slowed itself down for heat or power since it
            started; only a rise says something.
    """

    at_s: float
    other_load: float | None = None
    stolen: float | None = None
    frequency_mhz: tuple[float, ...] = ()
    temperature_c: dict[str, float] = field(default_factory=dict)
    throttled: int | None = None


@dataclass(frozen=True)
class PipelineTimes:
    """Pictures taken all the way from a file to a verdict; entry i of each tuple is picture i.

    Args:
        configuration: Which.
        decode_ms: From the bytes of the file to pixels.
        preprocess_ms: Orientation, crop, resize.
        inference_ms: The model.
        postprocess_ms: From its outputs to a detection.
        megapixels: Size of each picture.
    """

    configuration: int
    decode_ms: tuple[float, ...]
    preprocess_ms: tuple[float, ...]
    inference_ms: tuple[float, ...]
    postprocess_ms: tuple[float, ...]
    megapixels: tuple[float, ...]


@dataclass(frozen=True)
class Summary:
    """Figures of a native benchmark that does not give single inferences. None: it does not say.

    Args:
        configuration: Which.
        source: Name of the program.
        queries: Inferences that count.
        seconds: What they took together.
        minimum_ms: In milliseconds, as all that follow.
        maximum_ms: The slowest.
        mean_ms: Mean.
        std_ms: Standard deviation.
        p50_ms: Median.
        p90_ms: 90th percentile.
        p95_ms: 95th percentile.
        p99_ms: 99th percentile.
        load_ms: Initialization.
        first_run_ms: The first inference.
        model_kib: Memory that the model takes.
    """

    configuration: int
    source: str
    queries: int
    seconds: float
    mean_ms: float
    minimum_ms: float | None = None
    maximum_ms: float | None = None
    std_ms: float | None = None
    p50_ms: float | None = None
    p90_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    load_ms: float | None = None
    first_run_ms: float | None = None
    model_kib: int | None = None


@dataclass(frozen=True)
class Failed:
    """Something could not be measured; the worker goes on with the rest.

    Args:
        message: What was wrong.
        expected: What would have been right.
        next_step: What to do now.
        configuration: Of which; None for all.
        step: Which part of the work, such as ``operators``.
    """

    message: str
    expected: str = ""
    next_step: str = ""
    configuration: int | None = None
    step: str = ""

    @classmethod
    def of(cls, error: EdgedfError, configuration: int | None = None, step: str = "") -> Failed:
        """What an error says."""
        return cls(error.message, error.expected, error.next_step, configuration, step)


@dataclass(frozen=True)
class Finished:
    """The last event; without it a run was cut off."""


Event = Union[
    Started,
    Progressed,
    Loaded,
    ColdStart,
    WarmedUp,
    Block,
    State,
    PipelineTimes,
    Operators,
    Summary,
    Failed,
    Finished,
]

Emit = Callable[[Event], None]
"""Takes an event, where it occurs."""

_KINDS: dict[str, type] = {kind.__name__: kind for kind in Event.__args__}  # type: ignore[attr-defined]


def to_line(event: Event) -> str:
    """An event as one line of JSON, without the line's end."""
    return json.dumps({"event": type(event).__name__, **typed_json.encode(event)})


def from_line(line: str) -> Event:
    """The event that a line holds.

    Raises:
        DeviceError: It holds none: it is no JSON, or breaks the schema.
    """
    try:
        data: Any = json.loads(line)
        kind = _KINDS[data.pop("event")]
        event: Event = typed_json.decode(kind, data)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise DeviceError(
            f"The worker wrote something that is no event: {line[:80]!r}.",
            expected="a line of JSON with a known event",
            next_step="see that nothing else writes to the worker's standard output there",
        ) from error
    return event
