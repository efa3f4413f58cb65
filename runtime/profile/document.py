"""What a profile is as a document: JSON with a schema version, made from a worker's events.

The whole schema is one module, however long: whoever reads a document looks in one place.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgedf import typed_json
from edgedf.errors import DataError
from edgedf.int8_kernels import Int8Kernels
from edgedf.machine import Machine
from edgedf.reports.section import counted
from edgedf.runtime.profile.events import OperatorTime, State
from edgedf.runtime.profile.request import Effort

__all__ = [
    "PROFILE_SCHEMA_VERSION",
    "ColdStartTimes",
    "Considered",
    "DeviceRun",
    "Distribution",
    "Latency",
    "Memory",
    "Minute",
    "Model",
    "ModelAccuracy",
    "Moment",
    "OperatorShares",
    "Pipeline",
    "Problem",
    "Profile",
    "Ratio",
    "Recommendation",
    "Result",
    "Stage",
    "Sustained",
    "Validity",
    "ValidityStatus",
    "from_json",
    "name_of",
    "profile_schema",
    "to_json",
]

PROFILE_SCHEMA_VERSION = 1
_MAX_BYTES = 64 << 20

ValidityStatus = Literal["valid", "semi-valid", "invalid"]
RunStatus = Literal["complete", "partial", "failed"]


@dataclass(frozen=True)
class Model:
    """A model file that was timed.

    Args:
        file: Its name, without the folder.
        model_id: Name and version from its spec.
        format: ``tflite`` or ``onnx``.
        precision: From its spec.
        size_bytes: Of the file.
        sha256: Of the file.
        auc: Accuracy that its spec states, with 95 % interval and number of pictures; None where
            it states none.
        auc_low: Lower end.
        auc_high: Upper end.
        auc_n: Pictures.
        auc_dataset: On which.
    """

    file: str
    model_id: str
    format: str
    precision: str
    size_bytes: int
    sha256: str
    auc: float | None = None
    auc_low: float | None = None
    auc_high: float | None = None
    auc_n: int | None = None
    auc_dataset: str = ""


@dataclass(frozen=True)
class Validity:
    """Whether a figure may be believed.

    Args:
        status: ``valid``: may be published; ``semi-valid``: too few, too noisy; ``invalid``: the
            machine was throttled or did something else.
        reasons: In words, empty for a valid one.
    """

    status: ValidityStatus
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Latency:
    """Latency of single inferences in milliseconds. None: a native benchmark does not say.

    Args:
        queries: Inferences that count.
        seconds: What they took together.
        mean_ms: Mean.
        throughput: Inferences a second, one after the other: queries / seconds.
        minimum_ms: The fastest.
        p50_ms: Median.
        p50_low_ms: Lower end of its 95 % interval, by a bootstrap over blocks.
        p50_high_ms: Upper end.
        p90_ms: 90th percentile.
        p99_ms: 99th percentile.
        maximum_ms: The slowest.
        std_ms: Standard deviation.
        p90_low_ms: Lower end of the 95 % interval of the 90th percentile.
        p90_high_ms: Upper end.
    """

    queries: int
    seconds: float
    mean_ms: float
    throughput: float
    minimum_ms: float | None = None
    p50_ms: float | None = None
    p50_low_ms: float | None = None
    p50_high_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None
    maximum_ms: float | None = None
    std_ms: float | None = None
    p90_low_ms: float | None = None
    p90_high_ms: float | None = None


@dataclass(frozen=True)
class Distribution:
    """Histogram of latency.

    Args:
        edges_ms: Of the bins, ascending, one more than counts.
        counts: Inferences in each; those outside are counted in the outermost.
    """

    edges_ms: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Moment:
    """Latency in one block.

    Args:
        at_s: Seconds since the worker started.
        p50_ms: Median of the block.
        p90_ms: Its 90th percentile.
    """

    at_s: float
    p50_ms: float
    p90_ms: float


@dataclass(frozen=True)
class ColdStartTimes:
    """From nothing to a first answer, in fresh processes; medians.

    Args:
        processes: How many.
        load_ms: From reading the file to a model that is ready.
        first_run_ms: The first inference.
        total_ms: Both.
    """

    processes: int
    load_ms: float
    first_run_ms: float
    total_ms: float


@dataclass(frozen=True)
class Memory:
    """Resident memory, the largest of all cold starts.

    Args:
        model_kib: Peak over the interpreter's own: what the model and its runtime's buffers take.
        idle_kib: The process before it read the model; None where a native benchmark measured.
        peak_kib: Its peak; None likewise.
    """

    model_kib: int
    idle_kib: int | None = None
    peak_kib: int | None = None


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline.

    Args:
        name: ``decode``, ``preprocess``, ``inference`` or ``postprocess``.
        p50_ms: Median.
        p90_ms: 90th percentile.
        share: Of the mean of the whole pipeline, 0 to 1; those of all stages add up to 1.
    """

    name: str
    p50_ms: float
    p90_ms: float
    share: float


@dataclass(frozen=True)
class Pipeline:
    """From a photograph's bytes to a verdict.

    Args:
        pictures: How many were taken through it.
        megapixels: Median size of them.
        p50_ms: Median of the whole.
        p90_ms: Its 90th percentile.
        stages: In order.
    """

    pictures: int
    megapixels: float
    p50_ms: float
    p90_ms: float
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class OperatorShares:
    """Where the time of an inference goes.

    Args:
        source: How it was measured.
        operators: In order of execution.
        in_file: Operators that the file has.
        inference_ms: Mean of whole inferences meanwhile.
        plain_ms: Mean of inferences whose operators are not timed.
        verdict: One line on what no delegate executes.
        delegated: How many operators of the file a delegate executes; None without delegates.
        partitions: In how many partitions.
        left_out: Kinds of those that none took.
    """

    source: str
    operators: tuple[OperatorTime, ...]
    in_file: int
    inference_ms: float
    plain_ms: float
    verdict: str
    delegated: int | None = None
    partitions: int | None = None
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Minute:
    """One minute of a sustained run, or what there was of it.

    Args:
        at_s: Its start, seconds since the sustained run began.
        queries: Inferences.
        p50_ms: Median.
        p90_ms: 90th percentile.
        frequency_mhz: Mean over processors and time; None where the system does not say.
        temperature_c: Highest of any sensor; None likewise.
    """

    at_s: float
    queries: int
    p50_ms: float
    p90_ms: float
    frequency_mhz: float | None = None
    temperature_c: float | None = None


@dataclass(frozen=True)
class Sustained:
    """Inference without a pause.

    Args:
        seconds: How long.
        ratio: Median of the last minute divided by that of the first.
        ratio_low: Lower end of its 95 % interval.
        ratio_high: Upper end.
        minutes: All of them.
    """

    seconds: float
    ratio: float
    ratio_low: float
    ratio_high: float
    minutes: tuple[Minute, ...]


@dataclass(frozen=True)
class Problem:
    """What could not be measured, and why.

    Args:
        message: What was wrong.
        expected: What would have been right.
        next_step: What to do now.
        step: Which part of the work.
    """

    message: str
    expected: str = ""
    next_step: str = ""
    step: str = ""


@dataclass(frozen=True)
class Result:
    """One model with one number of threads on one device.

    Args:
        model: Index into the profile's models.
        threads: Threads of the runtime.
        validity: Whether the figures may be believed.
        runtime: Package and version; of a native benchmark its name.
        int8_kernels: How the runtime multiplies int8 on that device; None for a model that computes
            in float, and where unknown.
        latency: None where nothing was measured.
        distribution: Histogram; None without single inferences.
        over_time: Block by block; empty without single inferences.
        warm_up_queries: Inferences before those that count; None where unknown.
        steady: Whether latency was steady after them.
        cold_start: None where it was not measured.
        memory: None where it was not measured.
        pipeline: None where it was not measured.
        operators: None where they were not measured.
        sustained: None where it was not asked for.
        problems: What could not be measured.
    """

    model: int
    threads: int
    validity: Validity
    runtime: str = ""
    int8_kernels: Int8Kernels | None = None
    latency: Latency | None = None
    distribution: Distribution | None = None
    over_time: tuple[Moment, ...] = ()
    warm_up_queries: int | None = None
    steady: bool | None = None
    cold_start: ColdStartTimes | None = None
    memory: Memory | None = None
    pipeline: Pipeline | None = None
    operators: OperatorShares | None = None
    sustained: Sustained | None = None
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class Ratio:
    """How long one result takes as a multiple of another on the same device, measured by turns.

    Args:
        first: Index into the device's results.
        second: Likewise.
        ratio: Median of the second divided by that of the first; below 1 the second is faster.
        low: Lower end of its 95 % interval, by a bootstrap over rounds.
        high: Upper end.
        rounds: Rounds in which both were measured.
    """

    first: int
    second: int
    ratio: float
    low: float
    high: float
    rounds: int


@dataclass(frozen=True)
class ModelAccuracy:
    """Whether a file is accurate enough to be shipped.

    Args:
        standing: ``within``: it loses no more than the limits allow against its float model;
            ``over``: it loses more; ``unknown``.
        reason: Why, in words, with the figures that there are.
        next_step: What would tell; empty unless unknown.
    """

    standing: Literal["within", "over", "unknown"]
    reason: str
    next_step: str = ""


@dataclass(frozen=True)
class Considered:
    """A file among those of which one is recommended.

    Args:
        model: Index into the profile's models.
        accuracy: Whether it is accurate enough.
        finding: What became of it, in words.
    """

    model: int
    accuracy: ModelAccuracy
    finding: str


@dataclass(frozen=True)
class Recommendation:
    """Which file to ship for one device and number of threads.

    Args:
        threads: Threads of the runtime.
        model: Index into the profile's models; None where one cannot tell.
        reason: Why, or why one cannot tell, in words.
        considered: All files, in the profile's order.
        accuracy_from: What their accuracy was judged by, in words.
        next_step: What would tell; empty where a file is recommended.
    """

    threads: int
    model: int | None
    reason: str
    considered: tuple[Considered, ...]
    accuracy_from: str
    next_step: str = ""


@dataclass(frozen=True)
class DeviceRun:
    """The results of one device, and what is known of it.

    Args:
        device: As the user wrote it.
        status: ``complete``; ``partial``: cut off, what there is was kept; ``failed``: nothing.
        machine: None where it was never reached.
        results: A result per model and number of threads.
        ratios: Of every result to the first one, and between those of as many threads.
        states: The machine over time, thinned out to a few hundred.
        problem: Why it is not complete.
        recommendations: One per number of threads, where they were asked for.
    """

    device: str
    status: RunStatus
    machine: Machine | None = None
    results: tuple[Result, ...] = ()
    ratios: tuple[Ratio, ...] = ()
    states: tuple[State, ...] = ()
    problem: Problem | None = None
    recommendations: tuple[Recommendation, ...] = ()


@dataclass(frozen=True)
class Profile:
    """The whole document.

    Args:
        created: UTC, ISO 8601.
        edgedf: Version that made it.
        effort: What was asked for.
        publishable: Whether every figure is valid and the effort was the full one.
        images: How many photographs were shown.
        images_from: Where they come from, in words.
        models: What was timed.
        devices: Where, with all results.
        schema_version: Of the document.
    """

    created: str
    edgedf: str
    effort: Effort
    publishable: bool
    images: int
    images_from: str
    models: tuple[Model, ...]
    devices: tuple[DeviceRun, ...]
    schema_version: int = PROFILE_SCHEMA_VERSION


def name_of(profile: Profile, result: Result) -> str:
    """``student_int8.tflite, 1 thread``."""
    return f"{profile.models[result.model].file}, {counted(result.threads, 'thread')}"


def to_json(profile: Profile) -> str:
    """The document as JSON text."""
    return json.dumps(typed_json.encode(profile), indent=1) + "\n"


def from_json(path: str | Path) -> Profile:
    """Read a document back.

    Raises:
        DataError: The file is not there, is too large, is no profile, or is from a newer edgedf.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise ValueError(f"it has {size} bytes, more than {_MAX_BYTES}")
        data: Any = json.loads(path.read_bytes())
        version = data.get("schema_version") if isinstance(data, dict) else None
        if isinstance(version, int) and version > PROFILE_SCHEMA_VERSION:
            raise ValueError(f"its schema version {version} is from a newer edgedf")
        profile = typed_json.decode(Profile, data)
        _check_indices(profile)
        return profile
    except OSError as error:
        raise _no_profile(path, error.strerror or str(error)) from error
    except (ValueError, RecursionError) as error:
        raise _no_profile(path, str(error)) from error


def _check_indices(profile: Profile) -> None:
    """Raise ValueError where something points to a model or a result that is not there."""
    for run in profile.devices:
        named = [result.model for result in run.results]
        for recommended in run.recommendations:
            named += [part.model for part in recommended.considered]
            named += [] if recommended.model is None else [recommended.model]
        compared = [index for ratio in run.ratios for index in (ratio.first, ratio.second)]
        for what, indices, count in (
            ("model", named, len(profile.models)),
            ("result", compared, len(run.results)),
        ):
            bad = [index for index in indices if not 0 <= index < count]
            if bad:
                raise ValueError(f"it names {what} {bad[0]} of {count} on {run.device}")


def profile_schema() -> dict[str, Any]:
    """JSON Schema of the document."""
    return typed_json.json_schema(
        Profile,
        title="edgedf profile",
        identifier=f"urn:edgedf:profile:{PROFILE_SCHEMA_VERSION}",
    )


def _no_profile(path: Path, reason: str) -> DataError:
    return DataError(
        f"{path} is no profile that can be read: {reason}.",
        expected="a file that edgedf profile --out wrote, this version or an older one",
        next_step="make it again: edgedf profile MODEL --out FOLDER",
    )
