"""The ``adb`` client, called as a program: ``-s SERIAL`` and what it has to do, never a shell."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from edgedf.errors import DeviceError
from edgedf.runtime.profile.devices.adb_errors import no_client, no_phone, refused, several, silent

__all__ = ["USABLE", "Adb", "Attached", "Printed", "adb_devices", "choose", "finish"]

USABLE = "device"
"""State of a phone that works."""

# How the last line of a script starts; the exit status follows. The client's own is no help: it
# says 0 when the connection was cut.
_END = "@@end"
_ANSWER_SECONDS = 30.0  # the first call starts the server
_PUSH_SECONDS = 900.0
_MOST_OUTPUT = 16 << 20


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


@dataclass(frozen=True)
class Printed:
    """What a script on the phone wrote.

    Args:
        output: Its standard output.
        complaints: Its standard error, and the client's own.
        status: Exit status of the script; None where it was cut off.
    """

    output: str
    complaints: str
    status: int | None


def adb_devices() -> tuple[Attached, ...]:
    """What is attached, usable or not.

    Raises:
        DeviceError: There is no adb client, or it does not answer.
    """
    status, output, complaints = _call([_program(), "devices", "-l"], _ANSWER_SECONDS)
    if status != 0:
        raise silent(complaints)
    phones = []
    for line in output.partition("List of devices attached")[2].splitlines():
        words = re.match(r"(\S+)\s+(no permissions|\S+)(.*)", line)
        if words:
            model = re.search(r"\bmodel:(\S+)", words[3])
            phones.append(Attached(words[1], words[2], model[1].replace("_", " ") if model else ""))
    return tuple(phones)


def choose(serial: str | None) -> Attached:
    """The phone that is meant.

    Args:
        serial: As ``adb devices`` lists it; None for the only one.

    Raises:
        DeviceError: It is not attached, cannot be used, or None was said and there are several.
    """
    attached = adb_devices()
    chosen = [phone for phone in attached if serial is None or phone.serial == serial]
    if serial is None and len(chosen) > 1:
        usable = [phone for phone in chosen if phone.state == USABLE]
        if len(usable) != 1:
            raise several([f"{phone.serial} ({phone.state})" for phone in chosen])
        chosen = usable
    if not chosen:
        raise no_phone(serial, [phone.serial for phone in attached])
    if chosen[0].state != USABLE:
        raise refused(chosen[0].serial, chosen[0].state)
    return chosen[0]


class Adb:
    """One phone that the adb client reaches.

    Args:
        serial: As ``adb devices`` lists it.

    Raises:
        DeviceError: There is no adb client.
    """

    def __init__(self, serial: str) -> None:
        self.serial = serial
        self._command = [_program(), "-s", serial]

    def state(self) -> str:
        """``device`` when it can be used, else what adb says instead; empty: no answer."""
        try:
            status, output, complaints = _call([*self._command, "get-state"], _ANSWER_SECONDS)
        except DeviceError:
            return ""
        if status == 0:
            return output.strip()
        reason = re.search(r"device (unauthorized|offline|still authorizing)", complaints)
        return reason[1] if reason else "gone"

    def run(self, script: str, *, seconds: float = _ANSWER_SECONDS) -> Printed:
        """Run a script with the phone's shell, to its end or until the connection breaks.

        Args:
            script: Its text; quote what comes from elsewhere.
            seconds: How long it may take.

        Raises:
            DeviceError: Time is up, or it writes without end.
        """
        whole = f"({script}\n)\nstatus=$?\necho\necho {_END} $status"
        status, output, complaints = _call([*self._command, "shell", whole], seconds)
        body, mark, code = output.rpartition(f"{_END} ")
        if not mark or not code.strip().isdigit():
            return Printed(output, complaints or f"adb ended with {status}", None)
        return Printed(body, complaints, int(code))

    def start(self, script: str) -> subprocess.Popen[bytes]:
        """Start a script; its three streams are pipes. End it with :func:`finish`."""
        return _start([*self._command, "shell", script], stdin=subprocess.PIPE)

    def push(self, file: Path, target: str) -> str | None:
        """Copy a file to a path on the phone.

        Returns:
            None, or what adb said when it could not.

        Raises:
            DeviceError: Time is up.
        """
        command = [*self._command, "push", str(file.absolute()), target]  # no name starts with -
        status, output, complaints = _call(command, _PUSH_SECONDS)
        return None if status == 0 else (complaints + output).strip() or f"adb ended with {status}"


def finish(process: subprocess.Popen[bytes], seconds: float) -> str:
    """Close a script's input and give it time to end; then the client is ended.

    Returns:
        What it still wrote.
    """
    collected: list[bytes] = []
    stdout = process.stdout
    reader = threading.Thread(target=lambda: collected.append(_read(stdout)), daemon=True)
    reader.start()
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    reader.join(1)
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.close()
    return b"".join(collected).decode("utf-8", "replace")


def _program() -> str:
    program = shutil.which("adb")
    if program is None:
        raise no_client()
    return program


def _start(command: Sequence[str], stdin: int) -> subprocess.Popen[bytes]:
    # A session of its own: Ctrl-C is for us, and not for the client that cleans up afterwards or
    # for a server that it starts.
    return subprocess.Popen(
        command,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def _call(command: Sequence[str], seconds: float) -> tuple[int, str, str]:
    """Run the client to its end: exit status, standard output, standard error."""
    process = _start(command, subprocess.DEVNULL)
    streams = [process.stdout, process.stderr]
    texts: list[bytes] = [b"", b""]

    def collect(which: int) -> None:
        texts[which] = _read(streams[which])
        if len(texts[which]) >= _MOST_OUTPUT:
            process.kill()

    readers = [threading.Thread(target=collect, args=(which,), daemon=True) for which in (0, 1)]
    for reader in readers:
        reader.start()
    try:
        status = process.wait(seconds)
    except subprocess.TimeoutExpired as error:
        raise DeviceError(
            f"adb did not finish within {seconds:g} s: adb {' '.join(command[3:4])}.",
            expected="a phone that answers",
            next_step="unplug it and plug it in again, or adb kill-server",
        ) from error
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        for reader, stream in zip(readers, streams):
            # A server that the first call started may hold the pipes: what there is will do.
            reader.join(2)
            if stream is not None and not reader.is_alive():
                stream.close()
    if max(map(len, texts)) >= _MOST_OUTPUT:
        raise DeviceError(
            f"The phone wrote more than {_MOST_OUTPUT >> 20} MiB and was cut off.",
            expected="the few lines of a benchmark",
            next_step="see that --runner is a benchmark program",
        )
    output, complaints = (text.decode("utf-8", "replace").replace("\r\n", "\n") for text in texts)
    return status, output, complaints


def _read(stream: IO[bytes] | None) -> bytes:
    if stream is None:
        return b""
    with contextlib.suppress(OSError, ValueError):
        return stream.read(_MOST_OUTPUT)
    return b""
