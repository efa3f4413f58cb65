"""How much faster int8, or another precision, is than float, in both runtimes, on this machine.

Float and the other take turns (A B A B …) on the same real images, so that whatever else the
machine does slows both down alike (:mod:`edgedf.runtime.interleaved`). Without --model-dir the
shipped student is converted first.

A second table holds the two formats of the converted student against each other, with the blocks
and rounds of ``edgedf profile``: ONNX Runtime's threads go on spinning for a moment after a run,
which would be in the way of a model that comes right after it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

import edgedf
import edgedf.sample
from edgedf.artifact import read_artifact
from edgedf.cli._console import quiet_natives
from edgedf.errors import EdgedfError
from edgedf.formats import REGISTRY as FORMATS
from edgedf.formats import open_backend
from edgedf.imaging import preprocess
from edgedf.machine import this_host
from edgedf.runtime.interleaved import LEAST_ROUNDS, Speed, over, take_turns
from edgedf.runtime.models import shipped_model
from edgedf.runtime.profile.ratios import ratio_between, rounds_of
from edgedf.runtime.profile.sampling import Timed, block_length, rounds, warm_up
from edgedf.runtime.profile.statistics import latency

_WARM_UP_S = 0.5
_LEAST_BLOCKS = 2
_QUERIES_PER_ROUND = 4


@dataclass(frozen=True)
class Result:
    """Float against another precision in one runtime.

    ``ratio`` is the median of the other divided by that of float; ``ratio_low`` and ``ratio_high``
    are its 95 % interval.
    """

    runtime: str
    version: str
    threads: int
    rounds: int
    precision: str
    fp32: Speed
    converted: Speed
    ratio: float
    ratio_low: float
    ratio_high: float


@dataclass(frozen=True)
class Formats:
    """ONNX against TFLite, both in the same precision.

    ``ratio`` is the median of ONNX divided by that of TFLite, with its 95 % interval.
    """

    threads: int
    precision: str
    tflite_p50_ms: float
    tflite_p90_ms: float
    onnx_p50_ms: float
    onnx_p90_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--model-dir", type=Path, help="folder with student_NAME.tflite and .onnx")
    parser.add_argument(
        "--precision", metavar="NAME", default="int8", help="of edgedf convert (default: int8)"
    )
    parser.add_argument(
        "--formats", nargs="+", default=FORMATS, choices=FORMATS, help="default: both"
    )
    parser.add_argument("--rounds", type=int, default=300, help="turns per model (default: 300)")
    parser.add_argument(
        "--threads", type=int, nargs="+", default=[1, 2], help="numbers of threads (default: 1 2)"
    )
    parser.add_argument(
        "--processor",
        metavar="NAME",
        help="of tests/processors/machines.py: this one with instructions hidden (such as avx2)",
    )
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="time that the thread had the processor, for a machine that does other work; only "
        "with --threads 1",
    )
    options = parser.parse_args(argv)
    if options.cpu_time and options.threads != [1]:
        parser.error("--cpu-time knows of one thread alone: --threads 1")
    if options.processor is not None:
        return _on(options.processor, list(sys.argv[1:] if argv is None else argv))
    if options.rounds < LEAST_ROUNDS or min(options.threads) < 1:
        parser.error("--rounds must be at least 2 and --threads at least 1")
    try:
        with quiet_natives(), _converted(options) as folder:
            results = [
                _measure(folder, options, model_format, threads)
                for threads in options.threads
                for model_format in options.formats
            ]
            against = [
                _formats(folder, options.precision, threads, options.rounds)
                for threads in (
                    options.threads
                    if len(set(options.formats)) > 1 and not options.cpu_time
                    else []
                )
            ]
    except EdgedfError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    document = {
        "host": asdict(this_host()),
        "results": [asdict(result) for result in results],
        "formats": [asdict(found) for found in against],
    }
    if options.json:
        print(json.dumps(document, indent=1))
    else:
        _print(document)
    return 0


@contextlib.contextmanager
def _converted(options: argparse.Namespace) -> Iterator[Path]:
    if options.model_dir is not None:
        yield options.model_dir
        return
    with tempfile.TemporaryDirectory(prefix="edgedf-benchmark-") as made:
        # Latency does not depend on whether the figures are within their tolerances.
        edgedf.convert(
            recipe=edgedf.Recipe(options.precision),
            formats=options.formats,
            out=made,
            keep_failing=True,
        )
        yield Path(made)


def _on(name: str, arguments: list[str]) -> int:
    """The same in a process that does not see all instructions of this processor."""
    import pytest

    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.processors.machines import PROCESSORS, start

    problem = f"there is none; expected: {', '.join(PROCESSORS)}"
    if name in PROCESSORS:
        try:
            machine = start(name)
            problem = "it is emulated, which says nothing of its latency" * machine.emulated
        except pytest.skip.Exception as error:
            problem = str(error)
    if problem:
        print(f"Error: processor {name}: {problem}", file=sys.stderr)
        return 2
    before = ("", *arguments)
    rest = [
        argument
        for last, argument in zip(before, arguments, strict=False)
        if last != "--processor" and not argument.startswith("--processor")
    ]
    command = [*machine.command, __file__, *rest]
    return subprocess.run(
        command, env={**os.environ, **machine.environment}, check=False
    ).returncode


def _measure(folder: Path, options: argparse.Namespace, model_format: Any, threads: int) -> Result:
    precision, rounds = options.precision, options.rounds
    artifacts = [
        read_artifact(path)
        for path in (shipped_model(model_format), folder / f"student_{precision}.{model_format}")
    ]
    pair = [open_backend(a.model, a.format, threads=threads) for a in artifacts]
    side = artifacts[0].spec.input.height
    images = [preprocess(image.path, side) for image in edgedf.sample.images()[:16]]
    full, small = (over(images, backend.run) for backend in pair)
    clock = time.thread_time_ns if options.cpu_time else time.perf_counter_ns
    found = take_turns(full, small, rounds=rounds, clock=clock)
    return Result(
        runtime=pair[0].name,
        version=pair[0].version,
        threads=threads,
        rounds=rounds,
        precision=precision,
        fp32=_rounded(found.first),
        converted=_rounded(found.second),
        ratio=round(found.ratio, 4),
        ratio_low=round(found.low, 4),
        ratio_high=round(found.high, 4),
    )


def _formats(folder: Path, precision: str, threads: int, queries: int) -> Formats:
    subjects, lengths = [], []
    with contextlib.ExitStack() as opened:
        for index, model_format in enumerate(("tflite", "onnx")):
            artifact = read_artifact(folder / f"student_{precision}.{model_format}")
            backend = open_backend(artifact.model, artifact.format, threads=threads)
            opened.callback(backend.close)
            side = artifact.spec.input.height
            images = [preprocess(image.path, side) for image in edgedf.sample.images()[:16]]
            subjects.append(Timed(index, backend.run, images))
            lengths.append(block_length(warm_up(subjects[-1], _WARM_UP_S)[1]))
        least = max(_QUERIES_PER_ROUND * queries, _LEAST_BLOCKS * max(lengths))
        blocks = list(
            rounds(subjects, lengths, queries=least, seconds=0.0, started=time.monotonic())
        )
    sides = [[block for block in blocks if block.configuration == index] for index in (0, 1)]
    tflite, onnx = (latency(side) for side in sides)
    found = ratio_between(0, 1, {index: rounds_of(side) for index, side in enumerate(sides)})
    if tflite is None or onnx is None or found is None:
        raise EdgedfError("Too little was measured to compare the formats.")
    figures = (tflite.p50_ms, tflite.p90_ms, onnx.p50_ms, onnx.p90_ms)
    return Formats(
        threads,
        precision,
        *(round(value or 0.0, 3) for value in figures),
        *(round(value, 4) for value in (found.ratio, found.low, found.high)),
    )


def _rounded(speed: Speed) -> Speed:
    return Speed(*(round(value, 3) for value in astuple(speed)))


def _print(document: dict[str, Any]) -> None:
    for name, value in document["host"].items():
        print(f"{name:>13}  {value}")
    print("\nFloat against", document["results"][0]["precision"])
    print("runtime                 threads  fp32 median  p90          median  p90     ratio  95 %")
    for result in document["results"]:
        fp32, other = result["fp32"], result["converted"]
        print(
            f"{result['runtime']} {result['version']:<{22 - len(result['runtime'])}} "
            f"{result['threads']:>7}  {fp32['median_ms']:8.2f} ms  {fp32['p90_ms']:6.2f}  "
            f"{other['median_ms']:8.2f} ms  {other['p90_ms']:6.2f}  {result['ratio']:.3f}  "
            f"{result['ratio_low']:.3f} to {result['ratio_high']:.3f}"
        )
    if document["formats"]:
        print(f"\nONNX against TFLite, {document['results'][0]['precision']}")
        print("threads    tflite p50  p90            onnx p50  p90     onnx / tflite, 95 %")
    for found in document["formats"]:
        tflite, onnx = (
            f"{found[f'{name}_p50_ms']:8.2f} ms  {found[f'{name}_p90_ms']:6.2f}"
            for name in ("tflite", "onnx")
        )
        interval = f"{found['ratio_low']:.3f} to {found['ratio_high']:.3f}"
        print(f"{found['threads']:>7}  {tflite}    {onnx}  {found['ratio']:.3f}  {interval}")


if __name__ == "__main__":
    sys.exit(main())
