import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import edgedf.sample
from edgedf.errors import ArtifactError, ConfigError, DeviceError
from edgedf.machine import Machine
from edgedf.runtime.profile.devices.base import Job
from edgedf.runtime.profile.events import (
    Block,
    Emit,
    Event,
    Finished,
    Loaded,
    Progressed,
    Started,
    WarmedUp,
)
from edgedf.runtime.profile.record import Record
from edgedf.runtime.profile.request import Effort
from edgedf.runtime.profile.session import profile
from tests.runtime.tiny import write_tiny

MACHINE = Machine("a processor", "aarch64", "Linux 6")
SAID: tuple[Event, ...] = (
    Started(MACHINE),
    Loaded(0, "runtime 1"),
    WarmedUp(0, 10, 0.1, True),
    *(Block(0, n, 1.0 + n, (2.0, 2.1, 2.0)) for n in range(8)),
    Finished(),
)


class Scripted:
    """A device that says what it was told to, then fails if it was told to."""

    def __init__(
        self,
        name: str,
        events: Sequence[Event] = SAID,
        error: BaseException | None = None,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        self.name, self._events, self._error, self._before = name, events, error, before
        self.times = 0

    def run(self, job: Job, emit: Emit) -> None:
        self.times += 1
        self._before()
        for event in self._events:
            emit(event)
        if self._error is not None:
            raise self._error


@pytest.fixture
def job(tmp_path: Path) -> Job:
    model = write_tiny(tmp_path, "onnx")
    images = tuple(image.path for image in edgedf.sample.images()[:2])
    return Job((model,), images, (1,), Effort(queries=24, seconds=0.01))


def test_a_device_becomes_part_of_the_document(job: Job) -> None:
    made, interrupted = profile(job, [Scripted("ssh:a")], images_from="the sample")
    assert not interrupted
    (run,) = made.devices
    assert (run.device, run.status, run.machine) == ("ssh:a", "complete", MACHINE)
    (result,) = run.results
    assert result.latency is not None
    assert result.latency.queries == 24
    assert (made.images, made.images_from) == (2, "the sample")
    assert made.models[0].file == job.models[0].name
    assert not made.publishable  # of so few queries


def test_a_device_that_is_lost_keeps_what_it_gave_and_the_others_go_on(job: Job) -> None:
    lost = Scripted("ssh:lost", SAID[:-3], DeviceError("The connection is gone."))
    never = Scripted("ssh:never", (), DeviceError("Nobody answers.", next_step="switch it on"))
    made, interrupted = profile(job, [lost, Scripted("ssh:fine"), never], images_from="the sample")
    assert not interrupted
    assert [run.status for run in made.devices] == ["partial", "complete", "failed"]
    partial, _, failed = made.devices
    assert partial.problem is not None
    assert partial.problem.message == "The connection is gone."
    assert partial.results[0].latency is not None
    assert partial.results[0].latency.queries == 18
    assert partial.results[0].validity.status == "invalid"
    assert failed.problem is not None
    assert failed.problem.next_step == "switch it on"
    assert failed.machine is None


def test_this_machine_is_measured_after_the_others_and_they_together(job: Job) -> None:
    meet = threading.Barrier(2, timeout=10)
    order: list[str] = []

    def together(name: str) -> Callable[[], None]:
        def wait() -> None:
            meet.wait()
            order.append(name)

        return wait

    devices = [
        Scripted("host", before=lambda: order.append("host")),
        Scripted("ssh:a", before=together("a")),
        Scripted("ssh:b", before=together("b")),
    ]
    made, _ = profile(job, devices, images_from="the sample")
    assert order[-1] == "host"
    assert sorted(order[:-1]) == ["a", "b"]
    assert [run.device for run in made.devices] == ["host", "ssh:a", "ssh:b"]


@pytest.mark.parametrize("others", [0, 1])
def test_ctrl_c_keeps_what_there_is(job: Job, others: int) -> None:
    stopped = Scripted("ssh:a", SAID[:6], KeyboardInterrupt())
    devices = [stopped, *(Scripted(f"ssh:{n}") for n in range(others)), Scripted("host")]
    made, interrupted = profile(job, devices, images_from="the sample")
    assert interrupted
    first, last = made.devices[0], made.devices[-1]
    assert first.status == "partial"
    assert first.problem is not None
    assert "interrupted" in first.problem.message
    assert last.status == "failed"  # its turn never came


def test_progress_is_told_by_device_where_there_are_several(job: Job) -> None:
    told: list[tuple[str, int, int]] = []
    step = Progressed("inferences", 1, 2)
    one = Scripted("ssh:a", (SAID[0], step, *SAID[1:]))
    two = Scripted("ssh:b", (SAID[0], step, *SAID[1:]))

    def progress(step: str, done: int, total: int) -> None:
        told.append((step, done, total))

    profile(job, [one], images_from="", progress=progress)
    assert told == [("inferences", 1, 2)]
    profile(job, [one, two], images_from="", progress=progress)
    assert sorted(told[1:]) == [("ssh:a: inferences", 1, 2), ("ssh:b: inferences", 1, 2)]


def test_complete_devices_are_not_measured_again(job: Job, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    fine, lost = Scripted("ssh:fine"), Scripted("ssh:lost", SAID[:4], DeviceError("Gone."))
    first, _ = profile(job, [fine, lost], images_from="", folder=folder)
    lost = Scripted("ssh:lost")
    second, _ = profile(job, [fine, lost], images_from="", folder=folder, resume=True)
    assert (fine.times, lost.times) == (1, 1)
    assert second.devices[0] == first.devices[0]
    assert [run.status for run in second.devices] == ["complete", "complete"]
    profile(job, [fine], images_from="", folder=folder)
    assert fine.times == 2
    assert Record.open(folder, "ssh:fine", job, second.models, resume=True).complete


def test_mistakes_are_said_before_anything_is_measured(job: Job, tmp_path: Path) -> None:
    device = Scripted("host")
    with pytest.raises(ConfigError, match="named twice"):
        profile(job, [device, Scripted("host")], images_from="")
    with pytest.raises(ConfigError, match="nothing to resume"):
        profile(job, [device], images_from="", resume=True)
    (tmp_path / "other.onnx").write_bytes(b"not a model")
    wrong = Job((tmp_path / "other.onnx",), job.images)
    with pytest.raises(ArtifactError, match=r"other\.onnx"):
        profile(wrong, [device], images_from="")
    assert device.times == 0
