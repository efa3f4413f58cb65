import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import edgedf.sample
from edgedf import typed_json
from edgedf.errors import ConfigError
from edgedf.formats import formats
from edgedf.runtime.profile.devices.base import Job
from edgedf.runtime.profile.devices.host import WORKER, HostDevice
from edgedf.runtime.profile.events import (
    Block,
    ColdStart,
    Event,
    Failed,
    Finished,
    Loaded,
    Operators,
    PipelineTimes,
    Progressed,
    Started,
    State,
    WarmedUp,
    from_line,
)
from edgedf.runtime.profile.request import Effort, Request
from edgedf.runtime.profile.worker import measure
from tests.runtime.tiny import write_tiny

SMALL = Effort(
    queries=40,
    seconds=0.1,
    warm_up_seconds=0.2,
    cold_starts=1,
    pipeline_queries=3,
    operator_queries=2,
)
FOREVER = Effort(queries=10_000_000, seconds=600.0, cold_starts=0)


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    return [write_tiny(tmp_path, "tflite"), write_tiny(tmp_path, "onnx")]


def job_of(models: list[Path], effort: Effort, *threads: int) -> Job:
    images = tuple(image.path for image in edgedf.sample.images()[:2])
    return Job(tuple(models), images, threads or (1,), effort)


def kinds(events: list[Event], *left_out: type) -> list[str]:
    """Names of the events without repetition, in order."""
    names = [type(e).__name__ for e in events if not isinstance(e, (State, Progressed, *left_out))]
    return [name for at, name in enumerate(names) if at == 0 or names[at - 1] != name]


def test_a_worker_measures_everything_in_order(models: list[Path]) -> None:
    events: list[Event] = []
    HostDevice().run(job_of(models, SMALL, 1, 2), events.append)
    assert [event for event in events if isinstance(event, Failed)] == []
    assert kinds(events) == [
        "Started",
        "Loaded",
        "ColdStart",
        "WarmedUp",
        "Block",
        "PipelineTimes",
        "Operators",
        "Finished",
    ]
    for kind in (Loaded, ColdStart, WarmedUp, PipelineTimes, Operators):
        found = [e.configuration for e in events if isinstance(e, kind)]  # type: ignore[attr-defined]
        assert found == [0, 1, 2, 3]
    blocks = [event for event in events if isinstance(event, Block)]
    # The first round; from the second on, those that have enough are missing.
    assert [block.configuration for block in blocks if block.round == 0] == [0, 1, 2, 3]
    for index in range(4):
        times = [ms for block in blocks if block.configuration == index for ms in block.times_ms]
        assert len(times) >= SMALL.queries
        assert sum(times) >= 1e3 * SMALL.seconds
    states = [event.at_s for event in events if isinstance(event, State)]
    assert len(states) >= 2
    assert states[0] <= blocks[0].at_s <= blocks[-1].at_s <= states[-1]


def test_parts_can_be_left_out_and_a_long_run_added(models: list[Path]) -> None:
    effort = Effort(8, 0.0, 0.1, 0, 0, 0, sustained_seconds=0.3)
    events: list[Event] = []
    images = [str(image.path) for image in edgedf.sample.images()[:1]]
    measure(Request(tuple(map(str, models)), tuple(images), (1,), effort), events.append)
    assert kinds(events) == ["Started", "Loaded", "WarmedUp", "Block", "Finished"]
    long = [e for e in events if isinstance(e, Block) and e.phase == "sustained"]
    assert {block.configuration for block in long} == {0}
    assert sum(sum(block.times_ms) for block in long) >= 300


def test_a_model_that_fails_does_not_stop_the_others(models: list[Path]) -> None:
    models[0].write_bytes(models[0].read_bytes()[:300])
    events: list[Event] = []
    HostDevice().run(job_of(models, SMALL), events.append)
    (failed,) = (event for event in events if isinstance(event, Failed))
    assert (failed.configuration, failed.step) == (0, "load")
    assert "tiny.tflite" in failed.message
    assert {event.configuration for event in events if isinstance(event, Block)} == {1}
    assert isinstance(events[-1], Finished)


@pytest.mark.parametrize(
    "request_",
    [
        {},
        {"models": [], "images": ["a"]},
        {"models": ["a"], "images": ["a"], "threads": [0]},
        {"models": ["a"], "images": ["a"], "more": 1},
        [],
    ],
)
def test_a_request_that_cannot_be_used_is_said_in_an_event(
    tmp_path: Path, request_: object
) -> None:
    path = tmp_path / "request.json"
    path.write_text(json.dumps(request_))
    done = subprocess.run(
        [sys.executable, "-m", WORKER, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    event = from_line(done.stdout)
    assert isinstance(event, Failed)
    assert "request" in event.message
    assert "Traceback" not in done.stderr


def test_a_photograph_that_cannot_be_used_ends_the_worker_in_words(models: list[Path]) -> None:
    from edgedf.errors import DeviceError

    job = job_of(models, SMALL)
    events: list[Event] = []
    with pytest.raises(DeviceError):
        HostDevice().run(Job(job.models, (models[0],), (1,), SMALL), events.append)
    assert isinstance(events[-1], Failed)


@contextlib.contextmanager
def running(models: list[Path], *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker in the midst of measuring."""
    job = job_of(models, FOREVER)
    request = job.request(tuple(map(str, models)), tuple(map(str, job.images)))
    path = models[0].parent / "request.json"
    path.write_text(json.dumps(typed_json.encode(request)))
    with subprocess.Popen(
        [sys.executable, "-m", WORKER, str(path), *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        while not isinstance(from_line(process.stdout.readline().decode()), Block):
            pass
        try:
            yield process
        finally:
            process.kill()


def test_the_worker_ends_when_it_is_told_to(models: list[Path]) -> None:
    with running(models) as process:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=10)
    assert process.returncode == 128 + signal.SIGTERM


def test_the_worker_ends_when_nobody_listens(models: list[Path]) -> None:
    with running(models) as process:
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        process.communicate(timeout=10)
    assert process.returncode == 2


def test_the_worker_ends_when_who_started_it_is_gone(models: list[Path]) -> None:
    with running(models, "--until-stdin-closes") as process:
        process.communicate(timeout=10)
    assert process.returncode == 128 + signal.SIGTERM


def test_ctrl_c_stops_this_machines_worker_and_what_came_is_kept(models: list[Path]) -> None:
    events: list[Event] = []

    def emit(event: Event) -> None:
        events.append(event)
        if isinstance(event, Block):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        HostDevice().run(job_of(models, FOREVER), emit)
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Block)
    assert _children_with(WORKER) == []


def _children_with(word: str) -> list[bytes]:
    """Command lines of this process's children, as far as the word is in them."""
    lines = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            line = (folder / "cmdline").read_bytes()
            if int(parent) == os.getpid() and word.encode() in line:
                lines.append(line)
    return lines


def test_a_mistake_of_ours_in_one_step_does_not_cost_the_rest(
    models: list[Path], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(*arguments: object) -> None:
        raise ZeroDivisionError("no operators")

    for entry in formats():
        monkeypatch.setattr(type(entry), "time_operators", broken)
    events: list[Event] = []
    images = (str(edgedf.sample.images()[0].path),)
    effort = Effort(8, 0.0, 0.1, 0, 0, operator_queries=1)
    measure(Request(tuple(map(str, models)), images, (1,), effort), events.append)
    failed = [event for event in events if isinstance(event, Failed)]
    assert [(event.configuration, event.step) for event in failed] == [
        (0, "operators"),
        (1, "operators"),
    ]
    assert "ZeroDivisionError: no operators" in failed[0].message
    assert isinstance(events[-1], Finished)
    assert "Traceback" in capfd.readouterr().err


def test_the_worker_is_not_led_astray_by_where_the_user_is(
    models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('the wrong numpy')")
    monkeypatch.chdir(tmp_path)
    events: list[Event] = []
    HostDevice().run(job_of(models[:1], Effort(8, 0.0, 0.1, 1, 0, 0)), events.append)
    assert [event for event in events if isinstance(event, Failed)] == []
    assert isinstance(events[-1], Finished)


def test_nothing_but_events_reaches_standard_output(models: list[Path]) -> None:
    job = job_of(models, Effort(8, 0.0, 0.1, 0, 0, 0))
    request = job.request(tuple(map(str, models)), tuple(map(str, job.images)))
    path = models[0].parent / "request.json"
    path.write_text(json.dumps(typed_json.encode(request)))
    code = f"""
import os, sys
from edgedf.runtime.profile import worker
real = worker.measure
def chatty(request, emit):
    print("a stray print")
    os.write(1, b"a native's chatter")
    real(request, emit)
worker.measure = chatty
sys.exit(worker.main([{str(path)!r}]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    events = [from_line(line) for line in done.stdout.decode().splitlines()]
    assert isinstance(events[-1], Finished)
    assert b"a native's chatter" in done.stderr


def test_a_worker_wants_one_request() -> None:
    from edgedf.runtime.profile.worker import _request

    with pytest.raises(ConfigError, match="got 0 files"):
        _request([])
