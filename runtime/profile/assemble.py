"""From a worker's events to what a document says of a device."""

from __future__ import annotations

from collections.abc import Sequence

from edgedf.errors import DeviceError
from edgedf.runtime.profile.devices.base import Job
from edgedf.runtime.profile.document import DeviceRun, Model
from edgedf.runtime.profile.events import Event

__all__ = ["assemble"]


def assemble(
    job: Job,
    events: Sequence[Event],
    device: str,
    problem: DeviceError | None = None,
    *,
    models: Sequence[Model] | None = None,
) -> DeviceRun:
    """What a device gave."""
    raise NotImplementedError
