"""Profiles as documents, with figures such as a real run gives."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from edgedf.machine import Machine
from edgedf.runtime.profile import document
from edgedf.runtime.profile.events import OperatorTime, State
from edgedf.runtime.profile.request import FULL, QUICK

VALID = document.Validity("valid")

MACHINE = Machine(
    cpu="Intel(R) Xeon(R) Processor @ 2.60GHz",
    architecture="x86_64",
    system="Linux 6.1.0-18-amd64, Debian GNU/Linux 12",
    name="KVM",
    soc="",
    cores=2,
    memory_mb=7976,
    governors=("performance",),
    maximum_mhz=(2600.0, 2600.0),
    python="3.11.2",
    edgedf="0.5.0",
)


def model(file: str = "student_int8.tflite", **changes: Any) -> document.Model:
    suffix = file.rpartition(".")[2]
    made = document.Model(
        file=file,
        model_id="edgedf-student 0.4.0",
        format="onnx" if suffix == "onnx" else "tflite",
        precision="int8",
        size_bytes=1_142_312,
        sha256="5f" * 32,
        auc=0.9013,
        auc_low=0.8872,
        auc_high=0.9144,
        auc_n=1843,
        auc_dataset="edgedf test",
    )
    return dataclasses.replace(made, **changes)


def measured(p50: float, *, seed: int = 0, blocks: int = 60, tail: float = 0.02) -> dict[str, Any]:
    """Latency, histogram and blocks of a result, as fields of it."""
    rng = np.random.default_rng(seed)
    times = p50 * (1 + rng.gamma(2.0, tail, size=(blocks, 24)) - tail)
    times[rng.random(times.shape) < 0.01] *= 1.6
    at = np.linspace(21.0, 82.0, blocks)
    every = times.ravel()
    counts, edges = np.histogram(every, bins=48)
    quantiles = np.percentile(every, [50, 90, 99])
    return {
        "latency": document.Latency(
            queries=every.size,
            seconds=float(every.sum() / 1000),
            mean_ms=float(every.mean()),
            throughput=float(1000 / every.mean()),
            minimum_ms=float(every.min()),
            p50_ms=float(quantiles[0]),
            p50_low_ms=float(quantiles[0] * 0.995),
            p50_high_ms=float(quantiles[0] * 1.006),
            p90_ms=float(quantiles[1]),
            p99_ms=float(quantiles[2]),
            maximum_ms=float(every.max()),
            std_ms=float(every.std()),
        ),
        "distribution": document.Distribution(tuple(map(float, edges)), tuple(map(int, counts))),
        "over_time": tuple(
            document.Moment(float(t), float(np.median(row)), float(np.percentile(row, 90)))
            for t, row in zip(at, times, strict=True)
        ),
    }


def operators(p50: float, *, kinds: int = 14, delegate: str = "XNNPACK") -> document.OperatorShares:
    names = ("CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "RESIZE_BILINEAR", "MEAN", "FULLY_CONNECTED")
    weights = np.array([1 / (index + 1.5) for index in range(kinds)])
    each = tuple(
        OperatorTime(
            f"student/block_{index}/{names[index % len(names)].lower()}",
            names[index % len(names)],
            float(weight / weights.sum() * p50),
            "" if delegate and index == 3 else delegate,
        )
        for index, weight in enumerate(weights)
    )
    return document.OperatorShares(
        source="the runtime's own profiler",
        operators=each,
        in_file=kinds,
        inference_ms=p50 * 1.03,
        plain_ms=p50,
        verdict=f"1 of {kinds} operators left the delegate: RESIZE_BILINEAR",
        delegated=kinds - 1,
        partitions=2,
        left_out=("RESIZE_BILINEAR",),
    )


def pipeline(inference_ms: float) -> document.Pipeline:
    times = {"decode": 9.3, "preprocess": 1.9, "inference": inference_ms, "postprocess": 0.12}
    whole = sum(times.values())
    return document.Pipeline(
        pictures=128,
        megapixels=0.79,
        p50_ms=whole,
        p90_ms=whole * 1.1,
        stages=tuple(
            document.Stage(name, value, value * 1.1, value / whole) for name, value in times.items()
        ),
    )


def result(index: int = 0, threads: int = 1, p50: float = 2.81, **changes: Any) -> document.Result:
    """A complete one."""
    made = document.Result(
        model=index,
        threads=threads,
        validity=VALID,
        runtime="ai-edge-litert 2.3.0",
        warm_up_queries=400,
        steady=True,
        cold_start=document.ColdStartTimes(5, p50 * 4.1, p50 * 1.7, p50 * 5.8),
        memory=document.Memory(model_kib=5312, idle_kib=61_200, peak_kib=66_512),
        pipeline=pipeline(p50),
        operators=operators(p50),
        **measured(p50, seed=index * 8 + threads),
    )
    return dataclasses.replace(made, **changes)


def states(seconds: float = 110.0, *, load_from: float | None = None) -> tuple[State, ...]:
    at = np.arange(0.0, seconds, 0.5)
    return tuple(
        State(
            at_s=float(t),
            other_load=0.9 if load_from is not None and load_from <= t < load_from + 25 else 0.02,
            stolen=0.01,
            frequency_mhz=(2400.0 - t, 2500.0 - t),
            temperature_c={"cpu": 48 + t / 12, "board": 41.0},
            throttled=0 if load_from is None or t < load_from + 10 else 1,
        )
        for t in at
    )


def minutes(count: int = 30) -> document.Sustained:
    return document.Sustained(
        seconds=count * 60.0,
        ratio=1.21,
        ratio_low=1.19,
        ratio_high=1.23,
        minutes=tuple(
            document.Minute(
                at_s=index * 60.0,
                queries=20_000,
                p50_ms=2.8 * (1 + 0.21 * index / max(count - 1, 1)),
                p90_ms=3.1 * (1 + 0.25 * index / max(count - 1, 1)),
                frequency_mhz=2400 - 15.0 * index,
                temperature_c=50 + 0.9 * index,
            )
            for index in range(count)
        ),
    )


def run(*results: document.Result, **changes: Any) -> document.DeviceRun:
    """A device with all there may be; ratios to the first result."""
    ratios = tuple(
        document.Ratio(0, index, ratio, ratio * 0.98, ratio * 1.03, 60)
        for index, other in enumerate(results)
        if index and other.latency and other.latency.p50_ms
        for ratio in (other.latency.p50_ms / (results[0].latency or other.latency).mean_ms,)
    )
    made = document.DeviceRun("host", "complete", MACHINE, results, ratios, states())
    return dataclasses.replace(made, **changes)


def profile(*devices: document.DeviceRun, **changes: Any) -> document.Profile:
    """One of two models with one and two threads on this machine, all valid."""
    results = (result(0, 1, 2.81), result(0, 2, 1.62), result(1, 1, 5.44), result(1, 2, 3.0))
    made = document.Profile(
        created="2026-11-26T19:30:00Z",
        edgedf="0.5.0",
        effort=FULL,
        publishable=True,
        images=97,
        images_from="the sample that comes with edgedf",
        models=(
            model(),
            model(
                "student_fp32.tflite",
                precision="fp32",
                size_bytes=3_212_004,
                auc=0.9031,
                auc_low=0.889,
                auc_high=0.916,
            ),
        ),
        devices=devices or (run(*results),),
    )
    return dataclasses.replace(made, **changes)


def native() -> document.Result:
    """What a native benchmark gives that tells no single inferences."""
    return document.Result(
        model=0,
        threads=4,
        validity=document.Validity("semi-valid", ("benchmark_model gives no percentiles",)),
        runtime="benchmark_model",
        latency=document.Latency(
            queries=412,
            seconds=1.31,
            mean_ms=3.18,
            throughput=314.4,
            minimum_ms=3.02,
            maximum_ms=5.93,
            std_ms=0.21,
        ),
        cold_start=document.ColdStartTimes(1, 11.2, 6.1, 17.3),
        memory=document.Memory(model_kib=6912),
    )


def degenerate() -> document.Profile:
    """Constant latency, a single block, a single minute, no time in any operator."""
    flat = result(
        0,
        latency=document.Latency(1, 0.005, 5.0, 200.0, *[5.0] * 7, 0.0),
        distribution=document.Distribution((5.0, 5.0), (1,)),
        over_time=(document.Moment(3.0, 5.0, 5.0),),
        operators=document.OperatorShares("x", (OperatorTime("a", "ADD", 0.0),), 1, 0.0, 0.0, ""),
        pipeline=document.Pipeline(1, 0.0, 0.0, 0.0, (document.Stage("decode", 0.0, 0.0, 1.0),)),
        sustained=document.Sustained(1.0, 1.0, 1.0, 1.0, (document.Minute(0.0, 1, 5.0, 5.0),)),
    )
    return profile(
        run(flat, states=(State(0.0, 0.0),)),
        effort=QUICK,
        publishable=False,
        models=(model(auc=None, auc_low=None, auc_high=None, size_bytes=0),),
    )
