"""The paper's pipeline against the student in int8: from a JPEG's bytes to a verdict, one thread.

    python benchmarks/headline.py
    python benchmarks/headline.py --work build     keeps what is exported for the next time

The paper's pipeline (see ``paper.py``): decode, defocus map, Xception on 299 x 299, score, all in
float32. It gets its best chance: Xception is exported to ONNX and to TFLite, and the faster runtime
is taken (torch is timed as well, for information). The student's: ``Detector.detect``: decode,
orient, crop, resize, inference, post-processing. They take turns on the same photographs; in each
round the first picture of each, which finds the caches full of the other's weights, does not count.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# Before the libraries that read it are loaded.
os.environ["OMP_NUM_THREADS"] = "1"

import cv2
import numpy as np
from paper import VARIANTS, Judge, Map, dense_map, judges, through
from threadpoolctl import threadpool_limits

import edgedf
import edgedf.sample
from edgedf.cli._console import quiet_natives
from edgedf.errors import EdgedfError
from edgedf.formats import REGISTRY as FORMATS
from edgedf.imaging import load_image
from edgedf.machine import this_host
from edgedf.runtime.detector import Detector
from edgedf.runtime.folder import Failure, find_images
from edgedf.runtime.interleaved import LEAST_ROUNDS, ratio_of

_STUDENT_COUNTED = 6
_FASTEST_OF = 7

Stages = dict[str, float]
"""Milliseconds by name, in order."""


@dataclass(frozen=True)
class Pipeline:
    """What a pipeline took, in milliseconds: medians over the rounds."""

    name: str
    median_ms: float
    p90_ms: float
    stages_ms: Stages
    shares: Stages


@dataclass(frozen=True)
class Against:
    """A pipeline of the paper divided by one of the student: ratio of medians, 95 % interval."""

    paper: str
    student: str
    ratio: float
    low: float
    high: float
    rounds: int


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--rounds", type=int, default=60, help="turns of each (default: 60)")
    parser.add_argument(
        "--images", type=Path, help="folder of photographs (default: the shipped sample)"
    )
    parser.add_argument(
        "--work", type=Path, help="folder for exported and converted models, used again if there"
    )
    parser.add_argument("--variants", nargs="+", default=VARIANTS, choices=VARIANTS)
    parser.add_argument("--formats", nargs="+", default=FORMATS, choices=FORMATS)
    options = parser.parse_args(argv)
    if options.rounds < LEAST_ROUNDS:
        parser.error(f"--rounds must be at least {LEAST_ROUNDS}")
    cv2.setNumThreads(1)
    try:
        with quiet_natives(), threadpool_limits(1), _folder(options.work) as folder:
            document = measured(options, folder)
    except EdgedfError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(document, indent=1))
    else:
        show(document)
    return 0


def measured(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Everything, as a document."""
    pictures = _pictures(options.images)
    networks = judges(folder)
    speeds = _networks_by_turns(networks, dense_map(load_image(pictures[0]), "guided filter"))
    exported = {name: speed for name, speed in speeds.items() if name != "torch"}
    fastest = min(exported, key=exported.__getitem__)
    with contextlib.ExitStack() as opened:
        students = {
            f"student int8, {name}": opened.enter_context(Detector(path, threads=1))
            for name, path in _converted(folder, options.formats).items()
        }
        papers = [f"paper, {variant}" for variant in options.variants]
        runs: dict[str, Callable[[bytes], Stages]] = {
            **{name: _paper(name, networks[fastest]) for name in papers},
            **{name: _student(detector) for name, detector in students.items()},
        }
        counted = {name: _STUDENT_COUNTED if name in students else 1 for name in runs}
        rounds, used = _turns(runs, counted, pictures, options.rounds)
    pipelines = [_summary(name, rows) for name, rows in rounds.items()]
    totals = {name: np.array([sum(row.values()) for row in rows]) for name, rows in rounds.items()}
    ratios = []
    for paper in papers:
        for student in students:
            found = ratio_of(np.stack([totals[student], totals[paper]], axis=1))
            values = (round(value, 2) for value in (found.ratio, found.low, found.high))
            ratios.append(Against(paper, student, *values, found.rounds))
    sizes = [load_image(data).shape for data in pictures]
    return {
        "host": asdict(this_host()),
        "pictures": len(pictures),
        "megapixels": round(float(np.median([h * w / 1e6 for h, w, _ in sizes])), 3),
        "processors_used": round(used, 2),
        "xception_ms": {name: round(value, 1) for name, value in speeds.items()},
        "xception_runtime": fastest,
        "student_runtimes": {name: detector.runtime for name, detector in students.items()},
        "pipelines": [asdict(pipeline) for pipeline in pipelines],
        "ratios": [asdict(ratio) for ratio in ratios],
    }


def show(document: dict[str, Any]) -> None:
    for name, value in document["host"].items():
        print(f"{name:>13}  {value}")
    print(f"{'pictures':>13}  {document['pictures']}, median {document['megapixels']} megapixels")
    print(f"{'threads':>13}  one; processors used: {document['processors_used']:.2f}")
    speeds = ", ".join(f"{name} {value:.0f} ms" for name, value in document["xception_ms"].items())
    print(f"{'Xception':>13}  {speeds}; random weights")
    print("\npipeline                     median       p90  stages, median and share")
    for entry in document["pipelines"]:
        stages = ", ".join(
            f"{name} {value:.2f} ms ({entry['shares'][name]:.0%})"
            for name, value in entry["stages_ms"].items()
        )
        print(f"{entry['name']:<25} {entry['median_ms']:7.1f} ms {entry['p90_ms']:7.1f}  {stages}")
    print(f"\nratio of medians (95 %), Xception in {document['xception_runtime']}")
    for entry in document["ratios"]:
        print(
            f"{entry['paper']:<25} / {entry['student']:<20} "
            f"{entry['ratio']:7.1f}  ({entry['low']:.1f} to {entry['high']:.1f})"
        )


@contextlib.contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="edgedf-benchmark-") as made:
        yield Path(made)


def _pictures(folder: Path | None) -> list[bytes]:
    if folder is None:
        return [image.path.read_bytes() for image in edgedf.sample.images()]
    found = []
    for path in find_images(str(folder)):
        if isinstance(path, Failure):
            raise path.error
        found.append(Path(path).read_bytes())
    return found


def _converted(folder: Path, formats: Sequence[str]) -> dict[str, Path]:
    """The int8 student in each format; latency does not depend on how accurate it is."""
    paths = {name: folder / f"student_int8.{name}" for name in formats}
    missing = [name for name, path in paths.items() if not path.is_file()]
    if missing:
        edgedf.convert(out=folder, formats=missing, keep_failing=True)
    return paths


def _networks_by_turns(networks: dict[str, Judge], dense: Map) -> dict[str, float]:
    """Median milliseconds of Xception in each runtime; the first of each turn does not count."""
    times: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(_FASTEST_OF):
        for name, judge in networks.items():
            judge(dense)
            start = time.perf_counter_ns()
            judge(dense)
            times[name].append((time.perf_counter_ns() - start) / 1e6)
    return {name: float(np.median(found)) for name, found in times.items()}


def _paper(name: str, judge: Judge) -> Callable[[bytes], Stages]:
    variant = name.partition(", ")[2]
    return lambda data: through(data, variant, judge)


def _student(detector: Detector) -> Callable[[bytes], Stages]:
    def run(data: bytes) -> Stages:
        start = time.perf_counter_ns()
        timings = detector.detect(data).timings
        whole = (time.perf_counter_ns() - start) / 1e6
        return {**timings, "postprocess": whole - sum(timings.values())}

    return run


def _turns(
    runs: dict[str, Callable[[bytes], Stages]],
    counted: dict[str, int],
    pictures: Sequence[bytes],
    rounds: int,
) -> tuple[dict[str, list[Stages]], float]:
    """By turns, the same picture in all of a round: medians of each round; processors used."""
    for run in runs.values():
        run(pictures[0])
    found: dict[str, list[Stages]] = {name: [] for name in runs}
    start, used = time.perf_counter(), time.process_time()
    for number in range(rounds):
        data = pictures[number % len(pictures)]
        for name, run in runs.items():
            run(data)
            rows = [run(data) for _ in range(counted[name])]
            found[name].append({key: float(np.median([r[key] for r in rows])) for key in rows[0]})
        if sys.stderr.isatty():
            print(f"\rround {number + 1} of {rounds}", end="", file=sys.stderr)
    return found, (time.process_time() - used) / (time.perf_counter() - start)


def _summary(name: str, rounds: Sequence[Stages]) -> Pipeline:
    totals = np.array([sum(stages.values()) for stages in rounds])
    means = {key: float(np.mean([stages[key] for stages in rounds])) for key in rounds[0]}
    return Pipeline(
        name,
        round(float(np.median(totals)), 3),
        round(float(np.percentile(totals, 90)), 3),
        {key: round(float(np.median([stages[key] for stages in rounds])), 3) for key in means},
        {key: round(value / sum(means.values()), 4) for key, value in means.items()},
    )


if __name__ == "__main__":
    sys.exit(main())
