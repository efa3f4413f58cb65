"""Boards as they are: Python 3.9 without any package, and the student on an Arm processor.

``tests/servers/install.sh`` brings both Pythons. The Arm one is run by qemu, so what it computes
is compared; how long that takes says nothing.
"""

import io
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgedf
import edgedf.sample
from edgedf.imaging import preprocess
from edgedf.runtime.backends import open_backend
from edgedf.runtime.profile.devices import board
from edgedf.runtime.profile.devices.base import Job
from edgedf.runtime.profile.devices.board_answers import found
from edgedf.runtime.profile.devices.payload import worker_modules
from edgedf.runtime.profile.devices.wheels import Interpreter, fetch
from edgedf.runtime.profile.events import Block, Event, Failed, Finished, Loaded, Started
from edgedf.runtime.profile.request import Effort
from tests.runtime.profile.devices.sshd import running_board
from tests.runtime.tiny import write_tiny

pytestmark = pytest.mark.environments

PYTHONS = Path(__file__).parents[2] / "build" / "pythons"
EFFORT = Effort(
    queries=8,
    seconds=0.1,
    warm_up_seconds=0.1,
    cold_starts=1,
    pipeline_queries=2,
    operator_queries=2,
)


def python_of(name: str) -> Path:
    path = PYTHONS / name / "usr" / "bin" / "python3"
    if not path.is_file():
        pytest.skip(f"no {path}: bash tests/servers/install.sh, as root on Debian, brings it")
    works = subprocess.run([path, "-c", "import ctypes"], capture_output=True, check=False)
    if works.returncode:
        pytest.skip(f"{path} does not run here: {works.stderr.decode().strip()[-200:]}")
    return path


def look(python: Path) -> Interpreter:
    """What the probe says of it."""
    asked = {"folders": ["/tmp"], "modules": {}, "word": "word"}
    done = subprocess.run(
        [python, "-c", board.text("probe.py")],
        input=json.dumps(asked).encode() + b"\n",
        capture_output=True,
        check=True,
    )
    answer = json.loads(done.stdout.splitlines()[-1])
    return found("here", str(python), 0, answer, "").interpreter


def test_a_bare_python_3_9_is_measured(tmp_path: Path) -> None:
    python = python_of("bullseye-amd64")
    models = tuple(write_tiny(tmp_path, model_format) for model_format in ("tflite", "onnx"))
    images = tuple(picture.path for picture in edgedf.sample.images()[:2])
    events: list[Event] = []
    with running_board(tmp_path) as machine:
        device = machine.device(python=str(python))
        device.run(Job(models, images, (1,), EFFORT), events.append)
        assert not machine.left()
    assert isinstance(events[-1], Finished)
    assert not [event for event in events if isinstance(event, Failed)]
    (started,) = (event for event in events if isinstance(event, Started))
    assert started.machine.python.startswith("3.9.")
    runtimes = {event.runtime.partition(" ")[0] for event in events if isinstance(event, Loaded)}
    assert runtimes == {"ai-edge-litert", "onnxruntime"}
    measured = {event.configuration for event in events if isinstance(event, Block)}
    assert measured == {0, 1}


_RUN = """
import sys
import numpy as np
from edgedf.runtime.backends import open_backend
outputs = {}
images = np.load(sys.argv[1])
for path in sys.argv[2:]:
    with open(path, "rb") as stream:
        backend = open_backend(stream.read(), path.rpartition(".")[2])
    for index, image in enumerate(images):
        logit, dense = backend.run(image)
        outputs[f"{path.rpartition('.')[2]} {index} logit"] = np.float64(logit)
        outputs[f"{path.rpartition('.')[2]} {index} map"] = dense
np.savez(sys.stdout.buffer, **outputs)
"""


def lay_out(folder: Path) -> Path:
    """The modules that travel, as they lie on a board."""
    for name, path in worker_modules().items():
        place = folder / name.replace(".", "/")
        target = place / "__init__.py" if path.name == "__init__.py" else place.with_suffix(".py")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    return folder


def test_an_arm_processor_computes_what_this_one_does(tmp_path: Path) -> None:
    if platform.machine() != "x86_64":
        pytest.skip("compares x86-64 with Arm")
    python = python_of("bookworm-arm64")
    interpreter = look(python)
    assert interpreter.architecture == "aarch64"
    wheels = fetch(interpreter, [_same_as_here()], tmp_path)
    for wheel in wheels:
        unpack = [sys.executable, "-m", "zipfile", "-e", wheel, tmp_path / "site"]
        subprocess.run(unpack, check=True)
    edgedf.convert(samples=16, out=tmp_path / "int8", keep_failing=True)
    models = [tmp_path / "int8" / f"student_int8.{name}" for name in ("tflite", "onnx")]
    images = np.stack([preprocess(picture, 256) for picture in edgedf.sample.images()[:3]])
    np.save(tmp_path / "images.npy", images)
    path = os.pathsep.join(map(str, (lay_out(tmp_path / "package"), tmp_path / "site")))
    done = subprocess.run(
        [python, "-c", _RUN, tmp_path / "images.npy", *models],
        env={**os.environ, "PYTHONPATH": path, "ORT_DISABLE_TELEMETRY": "1"},
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    there = np.load(io.BytesIO(done.stdout))
    far: dict[str, float] = {}
    for model in models:
        model_format: Any = model.suffix[1:]
        backend = open_backend(model.read_bytes(), model_format)
        for index, image in enumerate(images):
            logit, dense = backend.run(image)
            for name, here in (("logit", np.float64(logit)), ("map", dense)):
                key = f"{model_format} {index} {name}"
                far[key] = float(np.abs(here - there[key]).max())
    print(far)
    assert len(far) == 12
    # LiteRT is the same version on both.
    assert all(value == 0 for name, value in far.items() if name.startswith("tflite"))
    assert max(far.values()) <= 0.05, far


def _same_as_here() -> tuple[str, ...]:
    """Packages for the other processor. OpenCV is not needed for prepared pictures."""
    # qemu 7.2 crashes on the code that ONNX Runtime 1.28 and newer runs when it is imported.
    return ("numpy>=1.26", f"ai-edge-litert=={version('ai-edge-litert')}", "onnxruntime<1.27")
