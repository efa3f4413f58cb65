"""What every device has to offer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgedf.runtime.profile.events import Emit
from edgedf.runtime.profile.request import FULL, Effort, Request

__all__ = ["Device", "Job"]


@dataclass(frozen=True)
class Job:
    """What is to be measured, with files on this machine.

    Args:
        models: Model files.
        images: Photographs, at least one.
        threads: Numbers of threads that each model is timed with.
        effort: How long.
    """

    models: tuple[Path, ...]
    images: tuple[Path, ...]
    threads: tuple[int, ...] = (1,)
    effort: Effort = FULL

    def request(self, models: tuple[str, ...], images: tuple[str, ...]) -> Request:
        """The request of a worker that finds the same files at other paths."""
        return Request(models, images, self.threads, self.effort)


class Device(Protocol):
    """A machine that a worker can be started on.

    Attributes:
        name: As the user wrote it: ``host``, ``ssh:pi@raspberrypi``, ``adb:0123456789``.
    """

    name: str

    def run(self, job: Job, emit: Emit) -> None:
        """Measure, and hand on every event as it comes.

        Whatever happens, nothing of ours is left on the device afterwards, and what had been
        measured has been handed on.

        Args:
            job: What to measure.
            emit: Takes the events, in this thread or another one, never two at a time.

        Raises:
            DeviceError: The device cannot be reached, or was lost, is full, refuses us, …
            KeyboardInterrupt: The user stopped it; the device has been cleaned up all the same.
        """
        ...
