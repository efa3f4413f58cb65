"""A board, or any Linux machine, that is reached over SSH.

There it takes an SSH server, a shell and Python 3.9 or newer; no pip, no internet, no rights beyond
the user's. Everything lies in one private folder, which is removed in the end: by us or, where we
cannot come back, by what we have started there (``board/run.sh``).
"""

from __future__ import annotations

import contextlib
import secrets
import shlex
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from edgedf.artifact import ModelFormat, read_model
from edgedf.errors import DeviceError
from edgedf.files import scratch_folder
from edgedf.runtime.profile.devices import board
from edgedf.runtime.profile.devices.base import Job
from edgedf.runtime.profile.devices.board_answers import (
    Board,
    board_of,
    check_room,
    ended,
    not_received,
)
from edgedf.runtime.profile.devices.host import WORKER
from edgedf.runtime.profile.devices.payload import Payload, gather
from edgedf.runtime.profile.devices.ssh_connection import FAILED, SshConnection, quoted
from edgedf.runtime.profile.devices.ssh_errors import lost
from edgedf.runtime.profile.devices.ssh_target import SshTarget
from edgedf.runtime.profile.devices.stream import end, follow, skip_to
from edgedf.runtime.profile.devices.wheels import MODULES, PACKAGES
from edgedf.runtime.profile.events import Emit, Progressed

__all__ = ["SshDevice"]

_PLACES = ("$HOME", "$TMPDIR", "/var/tmp", "/tmp")
_HEARTBEAT_SECONDS = 10.0
_SILENCE_SECONDS = 60
_RECONNECT_SECONDS = 5


class SshDevice:
    """A machine with an SSH server.

    Args:
        target: ``USER@HOST:PORT``, see :meth:`.SshTarget.parse`; a leading ``ssh:`` does no harm.
        python: The interpreter there, a name or a path; ``~/`` is the home folder there.
        wheels: Folder of this machine with wheels for it, to be used without any network; None for
            the cache and the index that pip is set up for.
        identity: File of the key to log in with; None for those that ssh finds.
        config: Configuration to read in place of ``~/.ssh/config``; None for that.
        options: More options, as ``ssh -o`` takes them.

    Raises:
        ConfigError: The target cannot be read.

    Example:
        >>> SshDevice("pi@raspberrypi").name
        'ssh:pi@raspberrypi'
    """

    def __init__(
        self,
        target: str,
        *,
        python: str = "python3",
        wheels: Path | None = None,
        identity: Path | None = None,
        config: Path | None = None,
        options: Sequence[str] = (),
    ) -> None:
        text = target[len("ssh:") :] if target.startswith("ssh:") else target
        self.name = f"ssh:{text}"
        self._target = SshTarget.parse(text)
        self._where = str(self._target)
        self._python = python
        self._wheels = wheels
        self._identity, self._config, self._options = identity, config, tuple(options)

    def run(self, job: Job, emit: Emit) -> None:
        """See :meth:`edgedf.runtime.profile.devices.base.Device.run`."""
        formats = {read_model(path)[0] for path in job.models}
        with self._connect() as connection, scratch_folder() as wheels:
            machine = self._look(connection, formats)
            payload = gather(job, formats, machine.interpreter, wheels, self._wheels, emit)
            check_room(self._where, machine, payload.taken)
            folder = self._send(connection, machine, payload, emit)
            try:
                self._measure(connection, folder, emit)
            except DeviceError as error:
                if not self._clean(connection, folder) and not connection.is_open:
                    raise lost(self._target, "it measured", left=folder) from error
                raise
            except BaseException:  # Ctrl-C
                self._clean(connection, folder)
                raise
            if not self._clean(connection, folder):
                raise DeviceError(
                    f"All was measured, but the folder {folder} on {self._where} is still there.",
                    expected="a folder that can be removed",
                    next_step=f"remove it by hand: ssh {self._where} rm -r {shlex.quote(folder)}",
                )

    def _connect(self, **changes: int) -> SshConnection:
        return SshConnection(
            self._target,
            identity=self._identity,
            config=self._config,
            options=self._options,
            **changes,
        )

    def _look(self, connection: SshConnection, formats: set[ModelFormat]) -> Board:
        needed = {name: MODULES[name] for name in PACKAGES if PACKAGES[name] in (None, *formats)}
        asked = {"folders": _PLACES, "modules": needed}
        answer = connection.python(self._python, board.text("probe.py"), asked)
        first = answer.answers[0] if answer.answers else None
        return board_of(self._where, self._python, answer.status, first, answer.complaints)

    def _send(
        self,
        connection: SshConnection,
        machine: Board,
        payload: Payload,
        emit: Emit,
    ) -> str:
        """Fill the private folder there, and say where it is."""
        asked = {"parent": machine.parent, "imports": payload.imports, "silence": _SILENCE_SECONDS}
        answer = connection.python(
            self._python,
            board.text("receive.py"),
            asked,
            payload=lambda stream: payload.write_tar(
                stream, lambda done, total: emit(Progressed(f"sent to {self._where}", done, total))
            ),
            seconds=600,  # a slow card, and packages of some hundred MB
            doing="files were sent",
        )
        first, last = (answer.answers[at] if answer.answers else {} for at in (0, -1))
        folder = first.get("folder")
        if last.get("kind") != "" or not isinstance(folder, str):
            raise not_received(self._where, machine, payload.taken, last, answer.complaints)
        return folder

    def _measure(self, connection: SshConnection, folder: str, emit: Emit) -> None:
        word = secrets.token_hex(16)
        script, place = shlex.quote(f"{folder}/board/run.sh"), shlex.quote(folder)
        process = connection.start(
            f"exec sh {script} {place} {quoted(self._python)} {_SILENCE_SECONDS} {word} {WORKER}"
        )
        try:
            with _heartbeat(process):
                skip_to(process.stdout, word.encode())
                follow(process, emit)
        except DeviceError as error:
            end(process)
            if process.returncode == FAILED:
                raise lost(self._target, "it measured") from error
            raise ended(self._where, process.returncode, error) from error
        finally:
            end(process)

    def _clean(self, connection: SshConnection, folder: str) -> bool:
        """End what still runs there and remove the folder; whether it is gone."""
        with contextlib.suppress(DeviceError):
            if connection.is_open and self._clean_through(connection, folder):
                return True
        try:
            with self._connect(connect_seconds=_RECONNECT_SECONDS) as anew:
                return self._clean_through(anew, folder)
        except DeviceError:
            return False

    def _clean_through(self, connection: SshConnection, folder: str) -> bool:
        answer = connection.python(
            self._python, board.text("clean.py"), {"folder": folder}, seconds=30
        )
        return any(gone.get("gone") is True for gone in answer.answers)


@contextlib.contextmanager
def _heartbeat(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Send a byte now and then: where none comes for long, the board takes us for gone."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(_HEARTBEAT_SECONDS):
            with contextlib.suppress(OSError, ValueError):
                if process.stdin is not None:
                    process.stdin.write(b"\n")
                    process.stdin.flush()

    thread = threading.Thread(target=beat, name="edgedf-heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(1)
