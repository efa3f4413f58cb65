"""A phone over adb: a native benchmark binary there, or the worker with a Python on the phone."""

from __future__ import annotations

from pathlib import Path

from edgedf.runtime.profile.devices.adb_client import Attached, adb_devices
from edgedf.runtime.profile.devices.base import Job
from edgedf.runtime.profile.events import Emit

__all__ = ["AdbDevice", "Attached", "adb_devices"]


class AdbDevice:
    """A phone that the ``adb`` client reaches.

    Args:
        serial: As ``adb devices`` lists it; None for the one that is attached.
        runner: A native benchmark built for the phone: TFLite's ``benchmark_model`` or LiteRT's.
        python: A Python on the phone that adb's shell may run; used where ``runner`` is None.
        wheels: Folder with wheels for that Python; None for what is installed there.
    """

    def __init__(
        self,
        serial: str | None = None,
        *,
        runner: Path | None = None,
        python: str | None = None,
        wheels: Path | None = None,
    ) -> None:
        self._serial, self._runner, self._python, self._wheels = serial, runner, python, wheels
        self.name = f"adb:{serial}" if serial else "adb"

    def run(self, job: Job, emit: Emit) -> None:
        """Measure, and hand on every event as it comes; see :class:`~.base.Device`."""
        raise NotImplementedError
