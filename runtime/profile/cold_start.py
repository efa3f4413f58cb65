"""A cold start: a process of its own loads a model and runs it once.

Run as a module it is that process: PATH THREADS HEIGHT WIDTH, a prepared picture's bytes on
standard input, one line of JSON on standard output.
"""

from __future__ import annotations

import contextlib
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from edgedf.artifact import read_artifact, read_model
from edgedf.errors import DeviceError, EdgedfError
from edgedf.formats import format_named, open_backend
from edgedf.machine import text_in
from edgedf.runtime.profile.events import ColdStart
from edgedf.typed_json import encode

__all__ = ["cold_start"]

_MODULE = "edgedf.runtime.profile.cold_start"
_TIMEOUT_S = 300.0
_RUNS = 4  # buffers may grow with the second inference, not later
_STATUS = Path("/proc/self/status")
_RESET_PEAK = "5"  # written to clear_refs: proc(5)


def cold_start(configuration: int, path: Path, threads: int, image: np.ndarray) -> ColdStart:
    """Start a process that loads a model and runs it.

    Args:
        configuration: Index of the configuration, for the event.
        path: The model file.
        threads: For the runtime's operators.
        image: uint8 RGB, (height, width, 3), of the model's size.

    Raises:
        DeviceError: The process fails.
    """
    height, width, _ = image.shape
    arguments = [str(path), str(threads), str(height), str(width)]
    try:
        done = subprocess.run(
            [sys.executable, "-m", _MODULE, *arguments],
            input=image.tobytes(),
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=True,
        )
        # Natives may have written to standard output before.
        times = json.loads(done.stdout.splitlines()[-1])
        return ColdStart(configuration, **times)
    except subprocess.CalledProcessError as error:
        lines = error.stderr.decode("utf-8", "replace").strip().splitlines()
        reason = lines[-1] if lines else f"exit status {error.returncode}"
    except (OSError, subprocess.TimeoutExpired, ValueError, TypeError, IndexError) as error:
        reason = str(error)
    raise DeviceError(
        f"A process that loads the model anew failed: {reason[:300]}.",
        expected="memory for one more copy of the model",
        next_step="close what else runs there, then run it again",
    )


def main() -> int:
    """Load a model and run it once, in this process."""
    path, threads, height, width = sys.argv[1], *map(int, sys.argv[2:5])
    data = sys.stdin.buffer.read()
    image = np.frombuffer(data, np.uint8).reshape(height, width, 3)
    format_named(read_model(path)[0]).import_runtime()
    idle = _resident()
    _reset_peak()
    start = time.perf_counter_ns()
    artifact = read_artifact(path)
    backend = open_backend(artifact.model, artifact.format, threads=threads)
    loaded = time.perf_counter_ns()
    backend.run(image)
    ran = time.perf_counter_ns()
    for _ in range(_RUNS - 1):
        backend.run(image)
    event = ColdStart(0, (loaded - start) / 1e6, (ran - loaded) / 1e6, idle, _peak())
    document = encode(event)
    del document["configuration"]
    print(json.dumps(document))
    return 0


def _resident() -> int:
    return _status("VmRSS") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _peak() -> int:
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _reset_peak() -> None:
    """So that the imports' own peak is not taken for the model's. Not every system allows it."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text(_RESET_PEAK)


def _status(field: str) -> int | None:
    """A size in KiB from ``/proc/self/status``."""
    for line in text_in(_STATUS).splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0])
    return None


if __name__ == "__main__":
    try:
        sys.exit(main())
    except EdgedfError as error:
        sys.exit(error.message)
