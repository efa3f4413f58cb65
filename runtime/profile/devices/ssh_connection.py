"""One login to a machine through the OpenSSH client, shared by all that is run there.

The first ssh process logs in and holds the connection; the others go through it by way of a socket
(``ControlMaster`` in ssh_config(5)) in a folder that only this user can enter. That first process
runs ``cat`` over there and reads from us: were this program killed, cat would see the end of its
input and the connection would close. It has a session of its own, so a Ctrl-C reaches us and not
the connection that is needed for cleaning up.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from edgedf.errors import DeviceError
from edgedf.files import scratch_folder
from edgedf.runtime.profile.devices.board_answers import parsed
from edgedf.runtime.profile.devices.ssh_errors import login_error, lost, no_client
from edgedf.runtime.profile.devices.ssh_target import SshTarget
from edgedf.runtime.profile.devices.stream import end, skip_to

__all__ = ["FAILED", "Answer", "SshConnection", "quoted"]

FAILED = 255
"""Exit status of ssh itself, such as for a lost connection; any other one is the command's."""

_CONNECT_SECONDS = 10
_ALIVE_SECONDS = 5
_ALIVE_TRIES = 3
_MOST_SAID = 1 << 20
_LONGEST_SOCKET = 80  # sun_path has 108 bytes, and ssh appends 17 to the name for a moment

# Whatever the user's own configuration says: no question, no terminal, no forwarding, and messages.
_OPTIONS = (
    "BatchMode=yes",
    "ClearAllForwardings=yes",
    "EscapeChar=none",
    "ForwardAgent=no",
    "ForwardX11=no",
    "LogLevel=INFO",
    "PermitLocalCommand=no",
    "RemoteCommand=none",
    "RequestTTY=no",
)

# Reads a script's length, then the script, from standard input and runs it; what follows there is
# for the script. In one line without a single quote or an exclamation mark: every login shell
# passes that on as it is.
_BOOTSTRAP = (
    "import sys; i = getattr(sys.stdin, 'buffer', sys.stdin); "
    "exec(compile(i.read(int(i.readline())), '<edgedf>', 'exec'))"
).replace("'", '"')


def _python_command(python: str) -> str:
    """Command line for a login shell that runs the script which follows on standard input.

    Args:
        python: The interpreter there, a name or a path.
    """
    return f"{quoted(python)} -c '{_BOOTSTRAP}'"


def quoted(path: str) -> str:
    """A path for a login shell, which puts the home folder in place of a leading ``~/``."""
    return "~/" + shlex.quote(path[2:]) if path.startswith("~/") else shlex.quote(path)


@dataclass(frozen=True)
class Answer:
    """What a script gave back.

    Args:
        status: Its exit status.
        answers: Its lines of JSON, decoded.
        complaints: What it wrote to its standard error.
    """

    status: int
    answers: tuple[dict[str, Any], ...]
    complaints: str


def _nothing(stream: IO[bytes]) -> None:
    """Write no payload."""


class SshConnection:
    """A connection, open from construction to :meth:`close`.

    Args:
        target: Where to log in.
        identity: File of the key to log in with; None for those that ssh finds.
        config: Configuration to read in place of ``~/.ssh/config``; None for that.
        options: More options as ``ssh -o`` takes them; they come before ours but for those that
            must be as they are.
        connect_seconds: How long to wait for an answer.

    Raises:
        DeviceError: No ssh here, or no login there.
    """

    def __init__(
        self,
        target: SshTarget,
        *,
        identity: Path | None = None,
        config: Path | None = None,
        options: Sequence[str] = (),
        connect_seconds: int = _CONNECT_SECONDS,
    ) -> None:
        self.target = target
        ssh = shutil.which("ssh")
        if ssh is None:
            raise no_client()
        self._stack = contextlib.ExitStack()
        self._folder = self._stack.enter_context(_short_folder())
        alive = (
            f"ConnectTimeout={connect_seconds}",
            f"ServerAliveInterval={_ALIVE_SECONDS}",
            f"ServerAliveCountMax={_ALIVE_TRIES}",
        )
        socket = str(self._folder / "socket").replace("%", "%%")
        chosen = [f'ControlPath="{socket}"', *_OPTIONS, *options, *alive]
        self._command = [
            ssh,
            *(["-F", str(config)] if config else []),
            *(["-i", str(identity)] if identity else []),
            *(part for option in chosen for part in ("-o", option)),
        ]
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close)
        try:
            self._master = self._start("exec cat", "ControlMaster=yes", stderr=self._complaints)
            self._wait_for_login()
        except BaseException:
            self.close()
            raise

    def start(self, command: str, *, stderr: Any = subprocess.PIPE) -> subprocess.Popen[bytes]:
        """Run a command there; all three streams are pipes.

        Args:
            command: For the login shell there: quote what comes from elsewhere.
            stderr: As :class:`subprocess.Popen` has it.
        """
        return self._start(command, "ControlMaster=no", stderr=stderr)

    def python(
        self,
        python: str,
        script: str,
        asked: dict[str, Any],
        *,
        payload: Callable[[IO[bytes]], None] = _nothing,
        seconds: float = 120.0,
        doing: str = "the machine was looked at",
    ) -> Answer:
        """Run a Python script there to its end.

        Args:
            python: The interpreter there.
            script: Its text. It reads a line of JSON, and may answer with lines of JSON, each after
                a line that has only ``word``.
            asked: That first line; ``word`` is added.
            payload: Writes what comes after it.
            seconds: How long the script may take once all has gone.
            doing: What a lost connection interrupted, in words.

        Returns:
            What came back.

        Raises:
            DeviceError: The connection was lost, or time is up.
        """
        word = secrets.token_hex(16)
        head = script.encode()
        line = json.dumps({**asked, "word": word}).encode() + b"\n"
        with tempfile.TemporaryFile() as complaints:
            process = self.start(_python_command(python), stderr=complaints)
            assert process.stdin is not None and process.stdout is not None
            collected = _Collector(process.stdout)
            try:
                # A reader that is gone shows in its status.
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.write(b"%d\n" % len(head) + head + line)
                    payload(process.stdin)
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()
                status = process.wait(seconds)
            except subprocess.TimeoutExpired as error:
                raise lost(self.target, doing) from error
            finally:
                end(process)
            if status == FAILED:
                raise lost(self.target, doing)
            complaints.seek(0)
            complaint = complaints.read(_MOST_SAID).decode("utf-8", "replace")
        lines = collected.result().decode("utf-8", "replace").splitlines()
        answers = [parsed(lines[at + 1]) for at, line in enumerate(lines[:-1]) if line == word]
        return Answer(status, tuple(answer for answer in answers if answer is not None), complaint)

    @property
    def is_open(self) -> bool:
        """Whether the connection still stands."""
        return self._master.poll() is None

    def close(self) -> None:
        """Log out. Closing twice is harmless."""
        master = getattr(self, "_master", None)
        if master is not None:
            end(master)
        self._complaints.close()
        self._stack.close()

    def __enter__(self) -> SshConnection:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _start(self, command: str, master: str, *, stderr: Any) -> subprocess.Popen[bytes]:
        control = ["-o", master, "-o", "ControlPersist=no"]
        return subprocess.Popen(
            [self._command[0], *control, *self._command[1:], *self.target.arguments, command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={**os.environ, "LC_ALL": "C"},
            start_new_session=True,
        )

    def _wait_for_login(self) -> None:
        """Say something and wait for the echo: by then we are in, and a shell works there."""
        word = secrets.token_hex(16).encode() + b"\n"
        assert self._master.stdin is not None and self._master.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._master.stdin.write(word)
            self._master.stdin.flush()
        if skip_to(self._master.stdout, word):
            return
        end(self._master, seconds=10)
        status = self._master.returncode
        self._complaints.seek(0)
        complaint = self._complaints.read(_MOST_SAID).decode("utf-8", "replace")
        if status == FAILED:
            raise login_error(self.target, complaint)
        raise DeviceError(
            f"{self.target} lets us in but runs no commands.",
            expected="a login with a shell",
            next_step=f"see what it answers to: ssh {self.target} true",
        )


class _Collector:
    """Reads a stream to its end in a thread, so that the other side never waits for us.

    One that does not end is closed, which ends what writes to it.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._content = b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._content = self._stream.read(_MOST_SAID)
            if len(self._content) == _MOST_SAID:
                self._stream.close()

    def result(self) -> bytes:
        self._thread.join(5)
        return self._content


def _short_folder() -> contextlib.AbstractContextManager[Path]:
    """A private folder whose path is short enough for a socket."""
    longest = len(os.fsencode(tempfile.gettempdir())) + len("/edgedf-scratch-12345678/socket")
    return scratch_folder("/tmp" if longest > _LONGEST_SOCKET and Path("/tmp").is_dir() else None)
