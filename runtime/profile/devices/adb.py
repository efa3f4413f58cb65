"""A phone over adb: a native benchmark binary there, or the worker with a Python on the phone."""

from __future__ import annotations

import time
from pathlib import Path

from edgedf.errors import ConfigError, DeviceError
from edgedf.runtime.profile.devices.adb_client import USABLE, Adb, Attached, adb_devices, choose
from edgedf.runtime.profile.devices.adb_errors import Cut, lost
from edgedf.runtime.profile.devices.adb_folder import PhoneFolder
from edgedf.runtime.profile.devices.adb_native import NativeRun
from edgedf.runtime.profile.devices.android import FACTS, abis, machine, sections
from edgedf.runtime.profile.devices.base import Job
from edgedf.runtime.profile.devices.elf import check_runner
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
        """Measure, and hand on every event as it comes.

        Nothing of ours stays on the phone: its own shell removes the folder as soon as we are done
        or the connection breaks.

        Args:
            job: What to measure.
            emit: Takes the events, in this thread.

        Raises:
            ConfigError: There is neither a runner nor a Python, or the runner is no program.
            DeviceError: No adb, no phone, the wrong one; it was lost, is full, refuses us, …
            KeyboardInterrupt: The user stopped it; the phone has been cleaned up all the same.
        """
        if self._runner is None and self._python is None:
            raise ConfigError(
                f"{self.name} needs something to measure with on the phone.",
                expected="a native benchmark built for it, or a Python on it",
                next_step="--runner benchmark_model, or --python PATH",
            )
        begun = time.monotonic()
        adb = Adb(choose(self._serial).serial)
        printed = adb.run(FACTS)
        if printed.status is None:
            raise lost(adb.serial, adb.state(), "it was asked what it is", "")
        facts = sections(printed.output)
        if self._runner is not None:
            check_runner(self._runner, abis(facts))
        folder = PhoneFolder(adb)
        try:
            if self._runner is not None:
                run = NativeRun(adb, folder, self._runner, job, emit, begun)
                run.go(machine(facts))
            else:
                raise NotImplementedError
        except (Cut, DeviceError) as error:
            left = folder.close()
            state = adb.state()
            if isinstance(error, Cut) or left or state != USABLE:
                doing = error.doing if isinstance(error, Cut) else "it was measured"
                raise lost(adb.serial, state, doing, left) from error
            raise
        except BaseException:
            folder.close()
            raise
        left = folder.close()
        if left:
            raise lost(adb.serial, adb.state(), "it was cleaned up", left)
