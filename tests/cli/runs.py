"""Running the command line: in this process, or in one of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.runtime.pictures import noise, write
from tests.runtime.tiny import write_tiny

# Machines draw help and tables as wide as their terminals; tests do not depend on it.
_DISPLAY = {"COLUMNS": "120", "NO_COLOR": "1", "TERM": "dumb"}
ENVIRONMENT = {**os.environ, **_DISPLAY}
COMMAND = (sys.executable, "-m", "edgedf.cli")


def run(
    *arguments: str | Path,
    cwd: Path,
    environment: Mapping[str, str] | None = None,
    stdout: int | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run ``edgedf`` in a process of its own."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        env={**(environment or os.environ), **_DISPLAY},
        stdout=subprocess.PIPE if stdout is None else stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        check=False,
    )


def shell(line: str, *, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a line as a user would type it, with ``edgedf`` on the path."""
    folder = Path(sys.executable).parent
    assert shutil.which("edgedf", path=str(folder)), "edgedf is not installed beside Python"
    return subprocess.run(
        line,
        shell=True,
        cwd=cwd,
        env={**ENVIRONMENT, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def assert_clear(said: str) -> None:
    """One error with what, expected or next step, and no traceback."""
    assert "Traceback" not in said
    assert said.count("Error: ") == 1, said
    assert "Expected: " in said or "Next step: " in said
    assert "unforeseen" not in said


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the tiny models where ``edgedf convert`` leaves its own."""
    prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("NO_COLOR", "1")
    return tmp_path


def prepare(folder: Path) -> None:
    """Tiny models in ``build/``, ``photo.jpg``, and ``photos/`` with three more."""
    (folder / "build").mkdir()
    for model_format in ("tflite", "onnx"):
        made = write_tiny(folder, model_format)
        made.rename(folder / "build" / f"student_int8.{model_format}")
    write(folder / "photo.jpg", noise(80, 100))
    for index in range(3):
        write(folder / "photos" / "trip" / f"{index}.jpg", noise(64, 90, index, red=index / 2))
