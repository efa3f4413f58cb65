"""The Pythons that ``install.sh`` brings."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from edgedf.runtime.profile.devices import board
from edgedf.runtime.profile.devices.board_answers import board_of
from edgedf.runtime.profile.devices.wheels import Interpreter

PYTHONS = Path(__file__).parents[2] / "build" / "pythons"


def python_of(name: str) -> Path:
    """One of them; the test is skipped where it is not there or does not run."""
    path = PYTHONS / name / "usr" / "bin" / "python3"
    if not path.is_file():
        pytest.skip(f"no {path}: bash tests/servers/install.sh, as root on Debian, brings it")
    works = subprocess.run([path, "-c", "import ctypes"], capture_output=True, check=False)
    if works.returncode:
        pytest.skip(f"{path} does not run here: {works.stderr.decode().strip()[-200:]}")
    return path


def interpreter_of(python: Path) -> Interpreter:
    """What the probe of boards says of it."""
    asked = {"folders": ["/tmp"], "modules": {}, "word": "word"}
    done = subprocess.run(
        [python, "-c", board.text("probe.py")],
        input=json.dumps(asked).encode() + b"\n",
        capture_output=True,
        check=True,
    )
    answer = json.loads(done.stdout.splitlines()[-1])
    return board_of("here", str(python), 0, answer, "").interpreter
