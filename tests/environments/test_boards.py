"""Boards as they are: Python 3.9 without any package. ``tests/servers/install.sh`` brings it."""

from pathlib import Path

import pytest

import edgedf.sample
from edgedf.runtime.profile.devices.base import Job
from edgedf.runtime.profile.events import Block, Event, Failed, Finished, Loaded, Started
from edgedf.runtime.profile.request import Effort
from tests.runtime.profile.devices.sshd import running_board
from tests.runtime.tiny import write_tiny
from tests.servers.pythons import python_of

pytestmark = pytest.mark.environments

EFFORT = Effort(
    queries=8,
    seconds=0.1,
    warm_up_seconds=0.1,
    cold_starts=1,
    pipeline_queries=2,
    operator_queries=2,
)


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
