"""Native benchmark programs: what they are told, and what they say.

``benchmark_model``
    TFLite's; its output is made in ``tensorflow/lite/tools/benchmark/benchmark_model.cc`` and
    ``profiling/profile_summary_formatter.cc``. Versions before 2.17 give no percentiles. LiteRT's
    ``benchmark_litert_model`` (C++) is built on it: the same flags, another summary.
``litert-benchmark``
    What the Python package ``ai-edge-litert`` installs.

All of them feed random numbers, and give no single inferences.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any, Literal

from edgedf.errors import DeviceError
from edgedf.runtime.profile.events import Summary

__all__ = ["RunnerKind", "Work", "arguments", "kind_of", "parse_summary", "unheeded"]

RunnerKind = Literal["benchmark_model", "litert-benchmark"]

_MAX_SECONDS = 600.0  # a repetition ends then, whatever it was asked for
_WARM_UP_RUNS, _WARM_UP_SECONDS = 5, 0.5


@dataclass(frozen=True)
class Work:
    """What one repetition has to do.

    Args:
        runs: Inferences that count, at least.
        seconds: Time that they take, at least; ``litert-benchmark`` knows no such limit.
        threads: For the runtime's operators.
    """

    runs: int
    seconds: float
    threads: int


def kind_of(help_text: str) -> RunnerKind:
    """Which program it is, by what it says when it is asked for help.

    Raises:
        DeviceError: None of those that are understood here.
    """
    if "--result_json" in help_text and "--model" in help_text:
        return "litert-benchmark"
    if re.search(r"--graph\b", help_text) and "num_runs" in help_text:
        return "benchmark_model"
    start = " ".join(help_text.split())[:160]
    raise DeviceError(
        "The runner is no benchmark that is understood here; asked for --help, it said: "
        f"{start!r}.",
        expected="TFLite's benchmark_model, LiteRT's benchmark_litert_model or litert-benchmark",
        next_step="run it by hand with --help on the device",
    )


def arguments(
    kind: RunnerKind, model: str, work: Work, *, result: str, operators: bool
) -> list[str]:
    """What comes behind the program's name.

    Args:
        kind: Which program.
        model: Path of the model on the device.
        work: How long.
        result: Path on the device where ``litert-benchmark`` writes its result.
        operators: Whether operators are timed; only ``benchmark_model`` can.
    """
    if kind == "litert-benchmark":
        return [
            f"--model={model}",
            f"--num_threads={work.threads}",
            f"--num_runs={work.runs}",
            f"--warmup_runs={_WARM_UP_RUNS}",
            f"--result_json={result}",
        ]
    return [
        f"--graph={model}",
        f"--num_threads={work.threads}",
        f"--num_runs={work.runs}",
        f"--min_secs={work.seconds:g}",
        f"--max_secs={_MAX_SECONDS:g}",
        f"--warmup_runs={_WARM_UP_RUNS}",
        f"--warmup_min_secs={_WARM_UP_SECONDS:g}",
        "--use_xnnpack=true",
        *(["--enable_op_profiling=true"] if operators else []),
    ]


def unheeded(output: str) -> tuple[str, ...]:
    """Names of flags that ``benchmark_model`` says it does not know."""
    flags = re.search(r"Unconsumed cmdline flags:(.*)", output)
    return tuple(re.findall(r"--([\w-]+)", flags[1])) if flags else ()


def parse_summary(
    kind: RunnerKind, output: str, result: str, *, configuration: int, source: str
) -> Summary:
    """The figures of a repetition.

    Args:
        kind: Which program.
        output: What it wrote, standard output and standard error together.
        result: Text of the file that ``litert-benchmark`` wrote; empty where there is none.
        configuration: Index of what was measured.
        source: Name of the program, for the event.

    Raises:
        DeviceError: There are none in it, or they make no sense.
    """
    try:
        stated = _of_json(result) if kind == "litert-benchmark" and result.strip() else None
        figures = stated or _of_counts(output) or _of_results(output)
        if figures is None:
            raise ValueError("there is no figure in it")
        queries, mean_ms = int(figures.pop("queries")), figures.pop("mean_ms")
        for value in (mean_ms, *figures.values()):
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{value} is no figure")
        if queries < 1 or mean_ms <= 0:
            raise ValueError(f"{queries} inferences of {mean_ms:g} ms")
        kib = figures.pop("model_kib", None)
        return Summary(
            configuration=configuration,
            source=source,
            queries=queries,
            seconds=queries * mean_ms / 1000,
            mean_ms=mean_ms,
            model_kib=None if kib is None else round(kib),
            **figures,
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        last = " ".join(" ".join(output.splitlines()[-3:]).split())[-200:]
        raise DeviceError(
            f"What {source} wrote is not understood ({error}). It ended with: {last!r}.",
            expected="the output of benchmark_model or litert-benchmark",
            next_step="run it by hand on the device and see what it says",
        ) from error


_NUMBER = r"([-+.\w]+)"
_PAIR = re.compile(rf"(\w+)={_NUMBER}")


def _of_counts(output: str) -> dict[str, float] | None:
    """Of lines ``count=50 first=… curr=… min=… max=… avg=… std=… [p5=… median=… p95=…]``.

    The first one is the warm-up's. With one inference there is ``count=1 curr=…`` alone.
    Everything is in microseconds.
    """
    lines: list[dict[str, str]] = [
        dict(_PAIR.findall(line[line.index("count=") :]))
        for line in output.splitlines()
        if re.search(r"(?:^|[\s:])count=\d+ (?:first|curr)=", line)
        and "Timings (microseconds)" not in line
    ]
    if len(lines) < 2:
        return None  # it ended in its warm-up
    warm_up, last = lines[0], lines[-1]
    only = last["curr"]
    names = {
        "minimum_ms": "min",
        "maximum_ms": "max",
        "std_ms": "std",
        "p50_ms": "median",
        "p95_ms": "p95",
    }
    figures = {ours: float(last[theirs]) / 1000 for ours, theirs in names.items() if theirs in last}
    figures["queries"] = float(last["count"])
    figures["mean_ms"] = float(last.get("avg", only)) / 1000
    figures["first_run_ms"] = float(warm_up.get("first", warm_up["curr"])) / 1000
    timings = re.search(rf"Init: {_NUMBER}, First inference: {_NUMBER}", output)
    if timings:
        figures["load_ms"] = float(timings.group(1)) / 1000
        figures["first_run_ms"] = float(timings.group(2)) / 1000
    else:
        _add_load(figures, output)
    _add_memory(figures, output)
    return figures


def _of_results(output: str) -> dict[str, float] | None:
    """Of the lines below ``BENCHMARK RESULTS``, such as ``Inference (avg): 19.78 ms (20 runs)``."""
    mean = re.search(rf"Inference \(avg\):\s+{_NUMBER} ms \((\d+) runs\)", output)
    if mean is None:
        return None
    figures = {"mean_ms": float(mean[1]), "queries": float(mean[2])}
    names = {
        "minimum_ms": r"Inference \(min\)",
        "maximum_ms": r"Inference \(max\)",
        "std_ms": r"Inference \(std\)",
        "p50_ms": r"Inference \(median\)",
        "p95_ms": r"Inference \(p95\)",
        "first_run_ms": r"Warmup \(first\)",
    }
    for ours, theirs in names.items():
        value = re.search(rf"{theirs}:\s+{_NUMBER}", output)
        if value:
            figures[ours] = float(value[1])
    _add_load(figures, output)
    _add_memory(figures, output)
    return figures


def _add_load(figures: dict[str, float], output: str) -> None:
    load = re.search(rf"Model initialization:\s+{_NUMBER} ms", output)
    if load:
        figures["load_ms"] = float(load[1])


def _add_memory(figures: dict[str, float], output: str) -> None:
    """Resident memory that was added since the program's start, in MB of 1024 KiB."""
    tflite = re.search(
        r"(?:Memory footprint delta from the start of the tool|Peak memory footprint) \(MB\): "
        rf"init={_NUMBER} overall={_NUMBER}",
        output,
    )
    litert = re.search(rf"Overall footprint:\s+{_NUMBER} MB", output)
    if tflite:
        figures["model_kib"] = float(tflite[2]) * 1024
    elif litert:
        figures["model_kib"] = float(litert[1]) * 1024


def _of_json(text: str) -> dict[str, float]:
    """Of ``litert-benchmark --result_json``."""
    data: Any = json.loads(text)
    latency = data["latency"]
    names = {
        "queries": "num_runs",
        "mean_ms": "avg_ms",
        "minimum_ms": "min_ms",
        "maximum_ms": "max_ms",
        "std_ms": "std_ms",
        "p50_ms": "median_ms",
        "p95_ms": "p95_ms",
        "load_ms": "init_ms",
        "first_run_ms": "warmup_first_ms",
    }
    return {ours: float(latency[theirs]) for ours, theirs in names.items()}
