"""How long ``edgedf convert`` takes and how much memory it needs, in a process of its own.

Twice: from the float exports that edgedf carries, and from its checkpoint through torch. The peak
is the largest resident set that the system saw of the process. Other options are handed to ``edgedf
convert``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgedf.machine import this_host
from edgedf.runtime.models import shipped_model

# getrusage counts in bytes there, in KiB elsewhere.
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True)
class Result:
    """One conversion of both formats to int8."""

    source: str
    seconds: float
    cpu_seconds: float
    peak_mb: float
    passed: bool
    stages: dict[str, float]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument(
        "--source",
        choices=["exports", "checkpoint", "both"],
        default="both",
        help="what is converted (default: both)",
    )
    options, others = parser.parse_known_args(argv)
    wanted = ["exports", "checkpoint"] if options.source == "both" else [options.source]
    results = [_measure(source, others) for source in wanted]
    document = {"host": asdict(this_host()), "results": [asdict(result) for result in results]}
    if options.json:
        print(json.dumps(document, indent=1))
    else:
        _print(document)
    return 0 if all(result.passed for result in results) else 1


def _measure(source: str, options: Sequence[str]) -> Result:
    checkpoint = str(shipped_model("tflite").with_suffix(".safetensors"))
    given = [checkpoint] if source == "checkpoint" else []
    command = [sys.executable, "-m", "edgedf.cli", "convert", *given, *options, "--json"]
    with tempfile.TemporaryDirectory(prefix="edgedf-benchmark-") as folder:
        written = Path(folder) / "report.json"
        start = time.perf_counter()
        with written.open("w") as report:
            child = subprocess.Popen([*command, "--out", folder], stdout=report)
            _, status, used = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        data = json.loads(written.read_text()) if child.returncode in (0, 1) else {}
    if not data:
        sys.exit(child.returncode)
    return Result(
        source,
        round(seconds, 2),
        round(used.ru_utime + used.ru_stime, 2),
        round(used.ru_maxrss * _RSS_UNIT / 1e6, 1),
        bool(data["passed"]),
        data["seconds"],
    )


def _print(document: dict[str, Any]) -> None:
    for name, value in document["host"].items():
        print(f"{name:>13}  {value}")
    print("\nsource      seconds  CPU s  peak MB  proof")
    for result in document["results"]:
        proof = "passed" if result["passed"] else "failed"
        print(
            f"{result['source']:<10}  {result['seconds']:7.1f}  {result['cpu_seconds']:5.1f}  "
            f"{result['peak_mb']:7.0f}  {proof}"
        )
        stages = ", ".join(f"{name} {value:.1f}" for name, value in result["stages"].items())
        print(f"            {stages}")


if __name__ == "__main__":
    sys.exit(main())
