"""What can go wrong with a phone, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence

from edgedf.errors import DeviceError

__all__ = [
    "Cut",
    "full",
    "lost",
    "no_client",
    "no_phone",
    "not_pushed",
    "refused",
    "several",
    "silent",
]

_READY = "a phone that adb devices lists as device"
_BROKEN = (
    "offline",
    "not found",
    "closed",
    "protocol fault",
    "connection reset",
    "broken pipe",
    "no devices",
    "read from device",
    "unauthorized",
)


class Cut(Exception):
    """The connection broke; turned into a DeviceError once the phone has been looked at again.

    Args:
        doing: What was going on.
    """

    def __init__(self, doing: str) -> None:
        super().__init__(doing)
        self.doing = doing


def no_client() -> DeviceError:
    """There is no adb here."""
    return DeviceError(
        "There is no adb on this machine.",
        expected="the Android Debug Bridge client on the PATH",
        next_step="apt install adb (Debian, Ubuntu), brew install android-platform-tools (macOS), "
        "or the SDK's platform-tools",
    )


def silent(complaints: str) -> DeviceError:
    """The client is there, its server is not."""
    last = complaints.strip().splitlines()[-1:] or ["it said nothing"]
    return DeviceError(
        f"adb does not answer: {last[0].strip()}.",
        expected="adb devices lists what is attached",
        next_step="adb kill-server, then adb devices",
    )


def no_phone(serial: str | None, others: Sequence[str]) -> DeviceError:
    """Nothing is attached, or something else."""
    there = f"attached: {', '.join(others)}" if others else "nothing is attached"
    return DeviceError(
        f"adb knows no phone {serial}; {there}." if serial else "adb knows no phone.",
        expected=_READY,
        next_step="plug it in and allow USB debugging in its developer options"
        if not others
        else "name one of those: adb:SERIAL",
    )


def several(phones: Sequence[str]) -> DeviceError:
    """More than one, and none was named."""
    return DeviceError(
        f"{len(phones)} phones are attached: {', '.join(phones)}.",
        expected="one phone, or the serial of one",
        next_step="name it: adb:SERIAL; --device may be repeated",
    )


def refused(serial: str, state: str) -> DeviceError:
    """It is attached but cannot be used."""
    if state in {"unauthorized", "authorizing", "still authorizing"}:
        return DeviceError(
            f"The phone {serial} does not let us in yet: it is {state}.",
            expected=_READY,
            next_step="unlock it and confirm the question whether this computer may debug it; if "
            "none comes: revoke USB debugging authorisations there and plug it in again",
        )
    if state == "offline":
        return DeviceError(
            f"The phone {serial} is offline: adb sees it, but it does not answer.",
            expected=_READY,
            next_step="unplug it and plug it in again, or adb reconnect offline",
        )
    if state == "no permissions":
        return DeviceError(
            f"This user may not open the phone {serial} on the USB bus.",
            expected=_READY,
            next_step="install the udev rules (Debian: apt install "
            "android-sdk-platform-tools-common), and be in the group plugdev",
        )
    return DeviceError(
        f"The phone {serial} cannot be used as it is: {state or 'it does not answer'}.",
        expected=_READY,
        next_step="start Android there, and allow USB debugging",
    )


def full(serial: str, needed: int, free: int | None) -> DeviceError:
    """The phone has no space left."""
    there = "" if free is None else f", and has {_mb(free)} free"
    return DeviceError(
        f"The phone {serial} is full: what is copied there takes {_mb(needed)}{there}.",
        expected=f"{_mb(needed)} of free space in /data/local/tmp",
        next_step="free some space on it, or profile fewer models at a time",
    )


def not_pushed(serial: str, output: str, needed: int, free: int | None) -> Exception:
    """Why copying failed: the phone is full, it is gone, or another reason.

    Args:
        serial: Which phone.
        output: What adb said.
        needed: Bytes that all files take.
        free: Bytes that are free there; None if unknown.
    """
    if "no space left" in output.lower():
        return full(serial, needed, free)
    if any(part in output.lower() for part in _BROKEN):
        return Cut("files were copied to it")
    last = (output.splitlines() or [""])[-1].removeprefix("adb: error: ").strip().rstrip(".")
    return DeviceError(
        f"Copying to the phone {serial} failed: {last}.",
        expected="a folder in /data/local/tmp that adb push can write to",
        next_step="try it by hand: adb push FILE /data/local/tmp",
    )


def lost(serial: str, state: str, doing: str, left: str) -> DeviceError:
    """The connection to a phone broke.

    Args:
        serial: To which phone.
        state: What adb says of it now; ``device``: it is back.
        doing: What was going on.
        left: Folder that could not be seen to be gone; empty where it is.
    """
    now = "it is attached again" if state == "device" else f"it is {state or 'silent'} now"
    if not left:
        after = "nothing is left on it"
    else:
        after = (
            f"it did not come back, so {left} could not be seen to go (the phone removes it as "
            "soon as it notices)"
        )
    return DeviceError(
        f"The connection to the phone {serial} was lost while {doing} "
        f"({now}); what had been measured was kept, {after}.",
        expected="a cable or a network that holds until the end",
        next_step="plug it in and run it again"
        + (f"; should it still be there: adb -s {serial} shell rm -rf {left}" if left else ""),
    )


def _mb(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
