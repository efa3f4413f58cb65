"""The events of a device, kept on disk while they come."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from edgedf import typed_json
from edgedf.errors import DeviceError, OutputError
from edgedf.runtime.profile.devices.base import Job
from edgedf.runtime.profile.document import Model
from edgedf.runtime.profile.events import Event, Finished, from_line, to_line

__all__ = ["Record"]

_MAX_BYTES = 256 << 20  # eight hours at 5 ms an inference take a quarter of it


class Record:
    """What a device has said so far.

    Args:
        events: Those of an earlier run that is complete.
        path: File that new ones are appended to; None to keep them in memory alone.

    Attributes:
        events: All events, in order.
    """

    def __init__(self, events: Sequence[Event] = (), path: Path | None = None) -> None:
        self.events: list[Event] = list(events)
        self._path = path

    @property
    def complete(self) -> bool:
        """Whether the last event is there."""
        return bool(self.events) and isinstance(self.events[-1], Finished)

    @classmethod
    def open(
        cls, folder: Path | None, device: str, job: Job, models: Sequence[Model], *, resume: bool
    ) -> Record:
        """Begin a record, or take over a complete one.

        Args:
            folder: Where it is; None for memory alone.
            device: Name of the device, which names the file.
            job: What is measured.
            models: The job's models as they are now.
            resume: Take over what is there if it is complete and of the same job.

        Raises:
            OutputError: The folder cannot be made or written.
        """
        if folder is None:
            return cls()
        path = folder / f"{re.sub(r'[^A-Za-z0-9.@_-]+', '_', device)}.events.jsonl"
        header = _header(device, job, models)
        if resume:
            kept = _read(path, header)
            if kept and isinstance(kept[-1], Finished):
                return cls(kept)
        record = cls((), path)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _cannot_write(folder, error) from error
        record._write(header, "w")
        return record

    def add(self, event: Event) -> None:
        """Keep an event.

        Raises:
            OutputError: The disk is full.
        """
        self.events.append(event)
        self._write(to_line(event), "a")

    def _write(self, line: str, mode: Literal["a", "w"]) -> None:
        if self._path is None:
            return
        try:
            # Opened anew each time: a record has no end that it could be closed at.
            with self._path.open(mode, encoding="utf-8") as stream:
                stream.write(line + "\n")
        except OSError as error:
            raise _cannot_write(self._path, error) from error


def _cannot_write(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"Cannot write {path}: {error.strerror}.",
        expected="a folder that can be made and written, with free space",
        next_step="free some space or name another folder with --out, then run it again",
    )


def _header(device: str, job: Job, models: Sequence[Model]) -> str:
    """What has to be the same for events to be taken over."""
    return json.dumps(
        {
            "device": device,
            "models": [model.sha256 for model in models],
            "images": [image.name for image in job.images],
            "threads": job.threads,
            "effort": typed_json.encode(job.effort),
        }
    )


def _read(path: Path, header: str) -> list[Event]:
    """The events of an earlier run of the same job; none where it is not there or another one."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            return []
        first, *lines = path.read_text("utf-8").splitlines()
        return [from_line(line) for line in lines] if first == header else []
    except (OSError, ValueError, DeviceError):
        return []
