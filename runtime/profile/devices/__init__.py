"""The ways to start a worker: on this machine, on a board over SSH, on a phone over adb."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgedf.errors import ConfigError
from edgedf.runtime.profile.devices.base import Device, Job

__all__ = ["Device", "Job", "Tools", "open_device"]


@dataclass(frozen=True)
class Tools:
    """What devices are reached and measured with; each kind takes what concerns it.

    Args:
        runner: A native benchmark built for the phone (adb).
        python: The Python to use there (SSH, adb).
        wheels: Folder with the device's wheels; None to download them (SSH, adb).
        identity: Private key (SSH).
    """

    runner: Path | None = None
    python: str | None = None
    wheels: Path | None = None
    identity: Path | None = None


def open_device(name: str, tools: Tools) -> Device:
    """The device that a name stands for. Nothing is contacted yet.

    Args:
        name: ``host``, ``ssh:[USER@]HOST[:PORT]``, ``adb`` or ``adb:SERIAL``.
        tools: What it is reached with.

    Raises:
        ConfigError: The name stands for none, or a tool for it is missing.
    """
    kind, _, rest = name.partition(":")
    if name == "host":
        from edgedf.runtime.profile.devices.host import HostDevice

        return HostDevice()
    if kind == "ssh" and rest:
        from edgedf.runtime.profile.devices.ssh import SshDevice

        return SshDevice(
            rest, python=tools.python or "python3", wheels=tools.wheels, identity=tools.identity
        )
    if kind == "adb" and (rest or name == "adb"):
        from edgedf.runtime.profile.devices.adb import AdbDevice

        return AdbDevice(
            rest or None, runner=tools.runner, python=tools.python, wheels=tools.wheels
        )
    raise ConfigError(
        f"{name!r} is no device.",
        expected="host, ssh:[USER@]HOST[:PORT] or adb[:SERIAL]",
        next_step="adb devices lists phones; ssh HOST shows whether a board answers",
    )
