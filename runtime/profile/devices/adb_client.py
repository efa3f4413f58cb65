"""Debian's, Homebrew's or the SDK's ``adb``, called as a program."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Attached", "adb_devices"]


@dataclass(frozen=True)
class Attached:
    """A phone that adb lists.

    Args:
        serial: Its serial number, or its address.
        state: ``device`` when it can be used; ``unauthorized``, ``offline``, …
        model: As the phone calls itself; empty where it does not say.
    """

    serial: str
    state: str
    model: str = ""


def adb_devices() -> tuple[Attached, ...]:
    """What is attached, usable or not.

    Raises:
        DeviceError: There is no adb client, or it does not answer.
    """
    raise NotImplementedError
