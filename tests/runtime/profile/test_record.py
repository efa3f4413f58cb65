import sys
from pathlib import Path

import pytest

from edgedf.errors import OutputError
from edgedf.runtime.profile.devices.base import Job
from edgedf.runtime.profile.document import Model
from edgedf.runtime.profile.events import Block, Event, Finished, Loaded, from_line
from edgedf.runtime.profile.record import Record
from edgedf.runtime.profile.request import QUICK

JOB = Job((Path("a.tflite"),), (Path("photo.jpg"),), (1,), QUICK)
MODEL = Model("a.tflite", "student 1", "tflite", "int8", 10, "ab" * 32)
SAID: tuple[Event, ...] = (Loaded(0, "runtime 1"), Block(0, 0, 1.5, (2.0, 3.0)))


def opened(folder: Path | None, *, job: Job = JOB, model: Model = MODEL, resume: bool) -> Record:
    return Record.open(folder, "ssh:pi@[::1]:22", job, [model], resume=resume)


def test_without_a_folder_events_stay_in_memory() -> None:
    record = opened(None, resume=False)
    for event in (*SAID, Finished()):
        record.add(event)
    assert record.events == [*SAID, Finished()]
    assert record.complete


def test_every_event_is_on_disk_as_soon_as_it_is_there(tmp_path: Path) -> None:
    record = opened(tmp_path / "new", resume=False)
    for number, event in enumerate(SAID, 1):
        record.add(event)
        (path,) = (tmp_path / "new").iterdir()
        lines = path.read_text("utf-8").splitlines()[1:]
        assert [from_line(line) for line in lines] == list(SAID[:number])
    assert path.name == "ssh_pi@_1_22.events.jsonl"
    assert not record.complete


def test_a_complete_record_is_taken_over_and_a_cut_off_one_begun_again(tmp_path: Path) -> None:
    record = opened(tmp_path, resume=False)
    for event in SAID:
        record.add(event)
    assert opened(tmp_path, resume=True).events == []  # which has begun it again
    record = opened(tmp_path, resume=True)
    for event in (*SAID, Finished()):
        record.add(event)
    again = opened(tmp_path, resume=True)
    assert again.complete
    assert again.events == [*SAID, Finished()]
    assert opened(tmp_path, resume=False).events == []


@pytest.mark.parametrize(
    ("job", "model"),
    [
        (Job(JOB.models, JOB.images, (2,), QUICK), MODEL),
        (Job(JOB.models, (Path("other.jpg"),), (1,), QUICK), MODEL),
        (Job(JOB.models, JOB.images, (1,)), MODEL),
        (JOB, Model("a.tflite", "student 1", "tflite", "int8", 10, "cd" * 32)),
    ],
)
def test_another_job_is_not_taken_over(tmp_path: Path, job: Job, model: Model) -> None:
    record = opened(tmp_path, resume=False)
    for event in (*SAID, Finished()):
        record.add(event)
    assert opened(tmp_path, job=job, model=model, resume=True).events == []


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"nonsense\n", b"\x00" * 100])
def test_a_damaged_record_is_begun_again(tmp_path: Path, damage: bytes) -> None:
    record = opened(tmp_path, resume=False)
    record.add(Finished())
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage)
    assert opened(tmp_path, resume=True).events == []
    header = path.read_bytes()
    path.write_bytes(header + damage + b"\n")
    assert opened(tmp_path, resume=True).events == []


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="Cannot write"):
        opened(tmp_path / "file" / "below", resume=False)


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /dev/full")
def test_a_full_disk_is_said() -> None:
    with pytest.raises(OutputError, match="Cannot write"):
        Record((), Path("/dev/full")).add(Finished())
