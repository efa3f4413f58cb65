"""How far the figures of ``edgedf profile`` can be trusted.

    python benchmarks/profiling.py
    python benchmarks/profiling.py --only overhead repeatability --effort quick

- overhead: median of a profile's worker against a bare loop around the same runtime, model and
  pictures; whole processes take turns. Aim: within 2 %.
- repeatability: the same profile several times; how far the ratio of the two int8 files, which
  take turns, differs between them. Aim: 5 %.
- throttled: busy processes are started halfway through; the result has to be called invalid.
- quick: how long ``edgedf profile --quick`` takes for both int8 files. Aim: 30 s.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

import edgedf
import edgedf.sample
from edgedf.artifact import read_artifact
from edgedf.cli._console import quiet_natives
from edgedf.errors import EdgedfError
from edgedf.files import write_text
from edgedf.formats import REGISTRY as FORMATS
from edgedf.formats.onnx.session import open_session
from edgedf.imaging import preprocess
from edgedf.machine import this_host
from edgedf.runtime.interleaved import ratio_of
from edgedf.runtime.profile.assemble import assemble
from edgedf.runtime.profile.devices.base import Job
from edgedf.runtime.profile.devices.host import HostDevice
from edgedf.runtime.profile.document import DeviceRun
from edgedf.runtime.profile.events import Block, Event
from edgedf.runtime.profile.request import FULL, QUICK, Effort

_EFFORTS = {"full": FULL, "quick": QUICK}
_PICTURES = 16
_BARE_WARM_UP_S = 1.5
_BUSY = "while True: pass"


def main(argv: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["--bare"]:  # this script as the other side of "overhead"
        print(json.dumps(_bare(Path(arguments[1]), float(arguments[2]))))
        return 0
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--only", nargs="+", choices=list(_PARTS), default=list(_PARTS))
    parser.add_argument("--effort", choices=list(_EFFORTS), default="full")
    parser.add_argument("--seconds", type=float, help="of measuring, instead of the effort's")
    parser.add_argument("--times", type=int, default=5, help="profiles that repeat (default: 5)")
    parser.add_argument("--formats", nargs="+", default=FORMATS, choices=FORMATS)
    parser.add_argument("--model-dir", type=Path, help="folder with student_int8.tflite and .onnx")
    parser.add_argument(
        "--keep", type=Path, metavar="FILE", help="parts are kept there and not measured again"
    )
    options = parser.parse_args(arguments)
    if options.times < 2:
        parser.error("--times must be at least 2")
    if "repeatability" in options.only and len(set(options.formats)) < 2:
        parser.error("repeatability is about two formats that take turns")
    effort = _EFFORTS[options.effort]
    if options.seconds is not None:
        effort = replace(effort, queries=8, seconds=options.seconds)
    found: dict[str, Any] = {}
    if options.keep is not None and options.keep.is_file():
        found = json.loads(options.keep.read_text("utf-8"))
    try:
        with tempfile.TemporaryDirectory(prefix="edgedf-benchmark-") as made:
            models = _models(options.model_dir, Path(made), options.formats)
            for name in options.only:
                if name not in found:
                    part = _PARTS[name](models, effort, options.times)
                    found[name] = {"host": asdict(this_host()), **part}
                    if options.keep is not None:
                        write_text(options.keep, json.dumps(found, indent=1))
    except EdgedfError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        show(found)
    return 0


def overhead(models: Sequence[Path], effort: Effort, times: int) -> dict[str, Any]:
    """Median of the worker divided by that of a bare loop."""
    plain = replace(effort, cold_starts=0, pipeline_queries=0, operator_queries=0)
    rows = []
    for model in models:
        pairs = []
        for _ in range(times):
            command = [sys.executable, __file__, "--bare", str(model), str(plain.seconds)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            bare = float(json.loads(done.stdout)["p50_ms"])
            latency = _profiled([model], plain).results[0].latency
            if latency is None or latency.p50_ms is None:
                raise EdgedfError(f"Nothing was measured of {model.name}.")
            pairs.append((bare, latency.p50_ms))
        ratio = ratio_of(np.array(pairs))
        rows.append(
            {
                "model": model.name,
                "bare_p50_ms": [round(bare, 4) for bare, _ in pairs],
                "profile_p50_ms": [round(ours, 4) for _, ours in pairs],
                "ratio": round(ratio.ratio, 4),
                "low": round(ratio.low, 4),
                "high": round(ratio.high, 4),
            }
        )
    return {"models": rows}


def repeatability(models: Sequence[Path], effort: Effort, times: int) -> dict[str, Any]:
    """Spread of the ratio between two files that take turns."""
    plain = replace(effort, cold_starts=0, pipeline_queries=0, operator_queries=0)
    ratios, validity = [], []
    for _ in range(times):
        run = _profiled(models, plain)
        ratios += [round(ratio.ratio, 4) for ratio in run.ratios[:1]]
        validity += [result.validity.status for result in run.results]
    return {
        "models": [model.name for model in models],
        "ratios": ratios,
        "spread": round((max(ratios) - min(ratios)) / float(np.median(ratios)), 4),
        "validity": validity,
    }


def throttled(models: Sequence[Path], effort: Effort, times: int) -> dict[str, Any]:
    """What becomes of a profile that others disturb from its middle on."""
    plain = replace(effort, cold_starts=0, pipeline_queries=0, operator_queries=0)
    cores = this_host().cores or 1
    begun: list[float] = []
    started: list[subprocess.Popen[bytes]] = []
    with contextlib.ExitStack() as busy:

        def watch(event: Event) -> None:
            if not isinstance(event, Block) or event.phase != "measured":
                return
            begun.append(event.at_s)
            if not started and event.at_s - begun[0] >= plain.seconds / 2:
                for _ in range(2 * cores):
                    process = subprocess.Popen([sys.executable, "-c", _BUSY])
                    started.append(process)
                    busy.callback(process.wait)
                    busy.callback(process.kill)

        result = _profiled(models[:1], plain, watch).results[0]
    return {
        "model": models[0].name,
        "busy_processes": len(started),
        "validity": result.validity.status,
        "reasons": list(result.validity.reasons),
    }


def quick(models: Sequence[Path], effort: Effort, times: int) -> dict[str, Any]:
    """Wall-clock time of the command."""
    command = [sys.executable, "-m", "edgedf.cli", "profile", "--quick", *map(str, models)]
    start = time.perf_counter()
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return {"seconds": round(time.perf_counter() - start, 1), "exit_code": done.returncode}


_PARTS: dict[str, Callable[[Sequence[Path], Effort, int], dict[str, Any]]] = {
    "overhead": overhead,
    "repeatability": repeatability,
    "throttled": throttled,
    "quick": quick,
}


def show(found: dict[str, Any]) -> None:
    for name, value in this_host().__dict__.items():
        print(f"{name:>13}  {value}")
    for part, data in found.items():
        print(f"\n{part} (load average before: {data['host']['load_average']})")
        for row in data.get("models", []) if part == "overhead" else []:
            bare, ours = (np.median(row[f"{key}_p50_ms"]) for key in ("bare", "profile"))
            print(
                f"  {row['model']}: bare {bare:.3f} ms, profile {ours:.3f} ms, "
                f"ratio {row['ratio']:.4f} ({row['low']:.4f} to {row['high']:.4f})"
            )
        if part == "repeatability":
            print(f"  ratios {', '.join(f'{ratio:.4f}' for ratio in data['ratios'])}")
            print(f"  spread {data['spread']:.2%}; {', '.join(data['validity'])}")
        if part == "throttled":
            print(f"  {data['busy_processes']} busy processes: {data['validity']}")
            print("".join(f"  {reason}\n" for reason in data["reasons"]), end="")
        if part == "quick":
            print(f"  {data['seconds']} s, exit code {data['exit_code']}")


def _models(folder: Path | None, made: Path, formats: Sequence[str]) -> list[Path]:
    if folder is None:
        folder = made
        with quiet_natives():
            edgedf.convert(out=folder, formats=formats, keep_failing=True)
    return [folder / f"student_int8.{name}" for name in formats]


def _pictures() -> list[Path]:
    return [image.path for image in edgedf.sample.images()[:_PICTURES]]


def _profiled(
    models: Sequence[Path], effort: Effort, watch: Callable[[Event], None] = lambda _: None
) -> DeviceRun:
    job = Job(tuple(models), tuple(_pictures()), (1,), effort)
    events: list[Event] = []

    def emit(event: Event) -> None:
        events.append(event)
        watch(event)

    HostDevice().run(job, emit)
    return assemble(job, events, "host")


def _bare(model: Path, seconds: float) -> dict[str, float]:
    """The shortest loop there is: input in, run, outputs out."""
    artifact = read_artifact(model)
    side = artifact.spec.input.height
    images = [preprocess(path, side)[None] for path in _pictures()]
    run: Callable[[Any], object]
    if artifact.format == "tflite":
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_content=artifact.model, num_threads=1)
        interpreter.allocate_tensors()
        (taken,) = (entry["index"] for entry in interpreter.get_input_details())
        given = [entry["index"] for entry in interpreter.get_output_details()]

        def run(image: Any) -> object:
            interpreter.set_tensor(taken, image)
            interpreter.invoke()
            return [interpreter.get_tensor(index) for index in given]
    else:
        session = open_session(artifact.model)
        (name,) = (entry.name for entry in session.get_inputs())

        def run(image: Any) -> object:
            return session.run(None, {name: image})

    taken_ms: list[float] = []
    for length, times in ((min(_BARE_WARM_UP_S, seconds), []), (seconds, taken_ms)):
        until, turn = time.perf_counter() + length, 0
        while time.perf_counter() < until:
            image = images[turn % len(images)]
            start = time.perf_counter_ns()
            run(image)
            times.append((time.perf_counter_ns() - start) / 1e6)
            turn += 1
    return {"p50_ms": float(np.median(taken_ms)), "queries": len(taken_ms)}


if __name__ == "__main__":
    sys.exit(main())
