import csv
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgedf.distill.training.logbook import EVENTS, METRICS, Logbook
from edgedf.errors import MissingExtra, OutputError

ROWS = (
    {"step": 1, "map": 0.5},
    {"step": 2, "map": 0.25, "score": 0.75},
    {"step": 3, "map": 0.125},
)


def told(folder: Path) -> list[tuple[int, dict[str, float]]]:
    """What TensorBoard would read, in order."""
    from tensorboardX.proto.event_pb2 import Event

    (path,) = (folder / EVENTS).iterdir()
    assert path.name.startswith("events.out.tfevents.")
    events = []
    for record in records(path.read_bytes()):
        event = Event.FromString(record)
        if event.HasField("summary"):
            events.append((event.step, {v.tag: v.simple_value for v in event.summary.value}))
    return events


def records(data: bytes) -> Iterator[bytes]:
    """TFRecord: length, its checksum, content, its checksum."""
    while data:
        length = int.from_bytes(data[:8], "little")
        yield data[12 : 12 + length]
        data = data[16 + length :]


def noted(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / METRICS).read_text("utf-8").splitlines()))


def test_rows_are_in_the_table_and_in_the_event_file(tmp_path: Path) -> None:
    book = Logbook(tmp_path)
    book.add(ROWS[0])
    assert not list(tmp_path.iterdir())
    book.save()
    assert told(tmp_path) == [(1, {"map": 0.5})]
    book.add(ROWS[1])
    book.add(ROWS[2])
    book.save()
    book.close()
    assert book.rows == ROWS
    assert noted(tmp_path) == [
        {"step": "1", "map": "0.5", "score": ""},
        {"step": "2", "map": "0.25", "score": "0.75"},
        {"step": "3", "map": "0.125", "score": ""},
    ]
    assert told(tmp_path) == [
        (1, {"map": 0.5}),
        (2, {"map": 0.25, "score": 0.75}),
        (3, {"map": 0.125}),
    ]


def test_a_run_that_goes_on_notes_nothing_twice(tmp_path: Path) -> None:
    """The killed session had noted three steps; its saved state knows of two."""
    first = Logbook(tmp_path)
    for row in ROWS:
        first.add(row)
    first.save()
    first.close()
    second = Logbook(tmp_path, [{"step": 1.0, "map": 0.5}, ROWS[1]])
    second.add({"step": 3, "map": 0.0625})
    second.save()
    second.save()
    second.close()
    assert [row["step"] for row in noted(tmp_path)] == ["1", "2", "3"]
    assert [(step, values["map"]) for step, values in told(tmp_path)] == [
        (1, 0.5),
        (2, 0.25),
        (3, 0.0625),
    ]


def test_a_full_disk_is_an_error_and_closing_after_it_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = Logbook(tmp_path)
    book.add(ROWS[0])
    book.save()

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tensorboardX.record_writer.os.fsync", full)
    monkeypatch.setattr("edgedf.distill.training.logbook.write_text", lambda path, text: path)
    with pytest.raises(OutputError, match=r"tensorboard: No space left"):
        book.save()
    book.close()
    book.close()


def test_a_file_in_the_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / EVENTS).write_text("")
    book = Logbook(tmp_path)
    with pytest.raises(OutputError, match="tensorboard"):
        book.save()


def test_without_the_package_the_command_that_brings_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(MissingExtra, match="TensorBoard"):
        Logbook(tmp_path)
