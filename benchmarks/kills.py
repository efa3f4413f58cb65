"""kill -9 at random moments of everything that writes: is anything half-written, lost or left over?

    python -m benchmarks.kills --keep kills/                 # 50 kills a job; goes on where it was
    python -m benchmarks.kills --jobs convert profile --kills 10 --seed 7 --json

Each job runs twice without being disturbed; what is the same both times is what it has to give.
Then it is started and its process group killed after a random share of the time it takes, several
times before it may end; a run that had ended by then does not count. After each kill every file
under a final name has to be whole, and one that the job gives in the end has to have the right
bytes or not be there. After each run that ends, all bytes have to be right, and nothing temporary
may be left: beside the results, in the caches, or in the folder for temporary files. Exit code: 0
all of that holds, 1 it does not.

Needs edgedf[distill].
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import safetensors
import tomllib

import edgedf.sample
from edgedf.artifact import read_artifact
from edgedf.errors import EdgedfError
from edgedf.files import write_text
from edgedf.imaging import decode_image
from edgedf.machine import this_host
from edgedf.runtime.profile.document import from_json
from edgedf.runtime.profile.events import from_line
from tests.distill.pictures import write_dataset
from tests.runtime.tiny import write_tiny

IN_A_ROW = 5  # kills before a run may end
SMALL = ("--workers", "1", "--set", "crops=0", "--set", "renderings=1")
TARGETS = """
import sys
from pathlib import Path
from edgedf.distill.datasets.dataset import read_manifest
from edgedf.distill.records import targets
from edgedf.distill.records.making import TargetSettings
from edgedf.distill.records.plan import evaluation_plan
targets.SHARD = 4
jobs = evaluation_plan(read_manifest(Path(sys.argv[1])).select(), sharp_sets=("sharp",))
targets.compute(jobs, sys.argv[2], TargetSettings(size=64), workers=2)
"""


@dataclass(frozen=True)
class Job:
    """Something that writes.

    Args:
        command: Behind the Python interpreter; run in a folder that holds ``pictures/``, ``few/``
            and ``tiny.tflite``.
        writes: Folders that it makes, removed before the first of a row of kills.
        keeps: Those of them that are removed only every other time.
    """

    command: tuple[str, ...]
    writes: tuple[str, ...]
    keeps: tuple[str, ...]


def _verb(*arguments: str) -> tuple[str, ...]:
    return ("-m", "edgedf.cli", *arguments)


JOBS: Mapping[str, Job] = {
    "convert": Job(
        _verb("convert", "--calibration", "few", "--samples", "32", "--out", "out"),
        ("out",),
        ("out",),
    ),
    "verify": Job(
        _verb(
            *("verify", "tiny.tflite", "--against", "tiny.tflite", "--data", "pictures"),
            *("--html", "out/page.html"),
        ),
        ("out",),
        ("out",),
    ),
    "teach": Job(
        _verb(
            *("distill", "teach", "--data", "pictures", "--out", "out", "--cache", "cache", *SMALL),
            *("--set", "input_size=32", "--set", "teacher.first_block=8", "--steps", "8"),
            *("--set", "teacher.last_block=8", "--set", "teacher.map_channels=8"),
            *("--set", "teacher.map_blocks=1", "--penalty", "0.5", "--set", "loop.batch=2"),
            *("--set", "loop.device=cpu", "--set", "loop.save_every=0"),
        ),
        ("out", "cache"),
        ("cache",),
    ),
    "train": Job(
        _verb(
            *("distill", "train", "--data", "pictures", "--out", "out", "--cache", "cache", *SMALL),
            *("--input-size", "32", "--batch", "6", "--steps", "12", "--set", "student.blocks=11"),
            *("--set", "student.judged_blocks=1", "--set", "student.decoder_channels=8"),
            *("--set", "loop.save_every=0", "--set", "loop.device=cpu"),
        ),
        ("out", "cache"),
        ("cache",),
    ),
    "targets": Job(("-c", TARGETS, "pictures", "cache"), ("cache",), ()),
    "profile": Job(
        _verb(
            *("profile", "tiny.tflite", "--images", "few", "--queries", "40", "--seconds", "0.5"),
            *("--out", "out"),
        ),
        ("out",),
        ("out",),
    ),
}


class Problem(Exception):
    """Something that must not be."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS), metavar="JOB")
    parser.add_argument("--kills", type=int, default=50, help="of each job (default: 50)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="what is done, to go on from")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="kills-") as made:
        folder = (options.keep or Path(made)).absolute()
        found = [
            _Trial(folder, name, options.seed).go(options.kills).summary() for name in options.jobs
        ]
    problems = sum(len(job["problems"]) for job in found)
    document = {
        "host": dataclasses.asdict(this_host()),
        "seed": options.seed,
        "kills": sum(job["kills"] for job in found),
        "problems": problems,
        "jobs": found,
    }
    if options.json:
        print(json.dumps(document, indent=1))
    else:
        _print(document)
    return int(problems > 0)


class _Trial:
    """One job and what has been seen of it, kept as JSON so that it can go on."""

    def __init__(self, folder: Path, name: str, seed: int) -> None:
        self.name, self.job, self.seed = name, JOBS[name], seed
        self.place = folder / f"{name}-{seed}"
        self.temporary = self.place / "tmp"
        self._book = folder / f"{name}-{seed}.json"
        self.seen: dict = {"kills": 0, "ends": 0, "late": 0, "problems": []}  # type: ignore[type-arg]
        if self._book.is_file():
            self.seen = json.loads(self._book.read_text())
        else:
            self._prepare()
        self.wanted = {
            name: (self.place / "wanted" / name).read_bytes() for name in self.seen["same"]
        }

    def _prepare(self) -> None:
        shutil.rmtree(self.place, ignore_errors=True)
        self.temporary.mkdir(parents=True)
        write_dataset(self.place / "pictures", groups=3)
        write_tiny(self.place, "tflite")
        (self.place / "few").mkdir()
        smallest = sorted(edgedf.sample.images(), key=lambda image: image.path.stat().st_size)
        for image in smallest[:48]:
            shutil.copy(image.path, self.place / "few")
        runs, times = [], []
        for _ in range(2):
            self._remove(self.job.writes)
            begun = time.monotonic()
            self._run_to_the_end()
            times.append(time.monotonic() - begun)
            runs.append(self._files())
        if not all(runs):
            raise Problem("it wrote nothing")
        same = sorted(n for n, data in runs[0].items() if runs[1].get(n) == data)
        for name in same:
            target = self.place / "wanted" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(runs[0][name])
        # Tools keep caches of their own there, such as torch.
        self.seen["caches"] = [path.name for path in self.temporary.iterdir()]
        self.seen |= {"seconds": max(times), "same": same}
        self.seen["varying"] = sorted(set(runs[0]) - set(same))

    def go(self, kills: int) -> _Trial:
        while self.seen["kills"] < kills:
            rows = self.seen["kills"] // IN_A_ROW
            anew = [n for n in self.job.writes if rows % 2 == 0 or n not in self.job.keeps]
            self._remove(anew)
            for _ in range(min(IN_A_ROW, kills - self.seen["kills"])):
                while not self._kill(self.seen["kills"] + self.seen["late"]):
                    self.seen["late"] += 1
                    self._remove(anew)  # all is done: the next one would have nothing to do
                self.seen["kills"] += 1
            self._check("the run that followed", self._end)
            self.seen["ends"] += 1
            write_text(self._book, json.dumps(self.seen, indent=1))
            print(
                f"{self.name}: {self.seen['kills']}/{kills} kills, "
                f"{len(self.seen['problems'])} problems",
                file=sys.stderr,
            )
        return self

    def summary(self) -> dict:  # type: ignore[type-arg]
        return {"job": self.name, **self.seen}

    def _kill(self, number: int) -> bool:
        """Start, and kill after a while; whether there was something to kill."""
        share = Random(f"{self.seed} {self.name} {number}").random()
        process = self._start()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(share * self.seen["seconds"])
            process.communicate()
            return False
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        self._check(f"kill {number} after {share:.3f} of the time", self._whole)
        return True

    def _end(self) -> None:
        self._run_to_the_end()
        self._whole()
        found = self._files()
        for name, data in self.wanted.items():
            if found.get(name) != data:
                raise Problem(f"{name} is {'not the same' if name in found else 'not there'}")
        extra = set(found) - set(self.wanted) - set(self.seen["varying"])
        extra = {name for name in extra if "tfevents" not in name}  # named for the time
        left = {path.name for path in self.temporary.iterdir()} - set(self.seen["caches"])
        if extra or left:
            raise Problem(f"left over: {', '.join(sorted((*extra, *left)))}")

    def _whole(self) -> None:
        """Every file under a final name."""
        for name, data in self._files().items():
            if Path(name).name.startswith(".edgedf-part-"):
                continue
            final = self.wanted.get(name)
            # What a run goes on from, or adds to, has other content on the way.
            if final is not None and data != final and self.name not in ("train", "teach"):
                raise Problem(f"{name} is neither absent nor right")
            try:
                _read(self.place / name)
            except (ValueError, EdgedfError, safetensors.SafetensorError) as error:
                raise Problem(f"{name} is not whole: {error}") from error

    def _check(self, when: str, look) -> None:  # type: ignore[no-untyped-def]
        try:
            look()
        except Problem as problem:
            self.seen["problems"].append(f"{when}: {problem}")
            print(f"{self.name}: {when}: {problem}", file=sys.stderr)

    def _start(self) -> subprocess.Popen[bytes]:
        one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        return subprocess.Popen(
            [sys.executable, *self.job.command],
            cwd=self.place,
            env={**os.environ, **one, "TMPDIR": str(self.temporary)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def _run_to_the_end(self) -> None:
        process = self._start()
        _, said = process.communicate()
        if process.returncode not in (0, 1, 2):  # 2: a gate, or a profile, of too few pictures
            raise Problem(f"exit code {process.returncode}: {said.decode()[-2000:]}")
        if b"Error:" in said:
            raise Problem(said.decode()[-2000:])

    def _files(self) -> dict[str, bytes]:
        return {
            path.relative_to(self.place).as_posix(): path.read_bytes()
            for folder in self.job.writes
            for path in sorted((self.place / folder).rglob("*"))
            if path.is_file()
        }

    def _remove(self, folders) -> None:  # type: ignore[no-untyped-def]
        for folder in folders:
            shutil.rmtree(self.place / folder, ignore_errors=True)


def _read(path: Path) -> None:
    """Raise where a file is not whole."""
    data = path.read_bytes()
    match path.suffix:
        case ".safetensors":
            with safetensors.safe_open(str(path), framework="np") as file:
                for name in file.keys():  # noqa: SIM118
                    file.get_tensor(name)
        case ".tflite" | ".onnx":
            read_artifact(path)
        case ".json":
            if path.name == "profile.json":
                from_json(path)
            json.loads(data)
        case ".jsonl":  # a log: its last line may be cut off
            for line in data.decode().split("\n")[1:-1]:
                from_line(line)
        case ".csv":
            rows = list(csv.reader(data.decode().splitlines()))
            if not data.endswith(b"\n") or len({len(row) for row in rows}) != 1:
                raise ValueError("it is cut off")
        case ".toml":
            tomllib.loads(data.decode())
        case ".html":
            if not data.rstrip().endswith(b"</html>"):
                raise ValueError("it is cut off")
        case ".png" | ".jpg":
            decode_image(data)
        case ".md":
            if not data.endswith(b"\n"):
                raise ValueError("it is cut off")


def _print(document: dict) -> None:  # type: ignore[type-arg]
    print(f"{document['kills']} kills, seed {document['seed']}, {document['problems']} problems")
    print(f"{document['host']['cpu']}, {document['host']['cores']} cores\n")
    print("| job | a run, s | kills | too late | runs to the end | problems | varies |")
    print("|---|---|---|---|---|---|---|")
    for job in document["jobs"]:
        cells = (job["job"], f"{job['seconds']:.1f}", job["kills"], job["late"], job["ends"])
        varying = ", ".join(Path(name).name for name in job["varying"]) or "nothing"
        print("|", " | ".join(map(str, (*cells, len(job["problems"]), varying))), "|")


if __name__ == "__main__":
    sys.exit(main())
