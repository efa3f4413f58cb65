"""A real SSH server on loopback that stands for a board: OpenSSH's, with keys of its own.

It runs as the user who runs the tests and lets only that user in. Sessions have an empty home
folder of their own, so nothing of the machine's owner is read or written.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgedf.runtime.profile.devices.ssh import SshDevice

USER = pwd.getpwuid(os.getuid()).pw_name


@dataclass
class Board:
    """A server and what a client needs to reach it.

    Args:
        folder: Of keys and configuration.
        port: Where it listens, on 127.0.0.1.
        server: The listening process.
        home: Home folder of whoever logs in.
    """

    folder: Path
    port: int
    server: subprocess.Popen[bytes]
    home: Path

    @property
    def target(self) -> str:
        return f"{USER}@127.0.0.1:{self.port}"

    def device(self, *more: str, target: str = "", **changes: Any) -> SshDevice:
        """A device that knows the board's host key and has its user's key."""
        known = (f"UserKnownHostsFile={self.folder / 'known_hosts'}", *_OPTIONS)
        own = {"identity": self.folder / "id", "config": Path("/dev/null")}
        settings = {**own, "python": sys.executable, **changes}
        return SshDevice(target or self.target, options=(*more, *known), **settings)

    def sessions(self) -> list[int]:
        """Processes of the server that serve a login."""
        return [pid for pid in _descendants(self.server.pid) if b"sshd" in _name(pid)]

    def workers(self) -> list[int]:
        """Processes that measure, without what watches over them."""
        return [
            pid
            for pid in _of_board(self.home)
            if b"keep.py" not in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]

    def left(self) -> list[str]:
        """What is on the board that was not there before: files, and processes of ours."""
        files = [str(path) for path in self.home.iterdir() if path.name != ".bashrc"]
        return files + [f"process {pid}" for pid in _of_board(self.home)]

    def stop(self) -> None:
        """End the server and every session, not what runs in them."""
        for pid in [*self.sessions(), self.server.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.server.wait()


_OPTIONS = ("GlobalKnownHostsFile=/dev/null", "IdentitiesOnly=yes")


def sshd() -> str:
    """Path of the server; the test is skipped where it or the client is not installed."""
    found = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None or shutil.which("ssh") is None or shutil.which("ssh-keygen") is None:
        pytest.skip("openssh-server and openssh-client are not installed")
    return found


def start_board(folder: Path, home: Path, *, largest: int | None = None) -> Board:
    """Start a server.

    Args:
        folder: For keys and configuration.
        home: Home folder of whoever logs in.
        largest: Bytes of a file that may be written there; None for any number.
    """
    program = sshd()
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # of the server's unprivileged half
    for name in ("id", "host"):
        key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name]
        subprocess.run(key, check=True, timeout=30)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shutil.copy(folder / "id.pub", folder / "authorized_keys")
    public = (folder / "host.pub").read_text()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}")
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {folder / 'host'}\nPidFile none\n"
        f"AuthorizedKeysFile {folder / 'authorized_keys'}\nStrictModes no\nUsePAM no\n"
        f"PasswordAuthentication no\nKbdInteractiveAuthentication no\nAllowUsers {USER}\n"
        f"PermitRootLogin prohibit-password\nSetEnv HOME={home} TMPDIR={home}\nUseDNS no\n"
    )
    log = (folder / "log").open("wb")
    # Not by a function in the child: other tests of this process have threads that a fork breaks.
    limited = [] if largest is None else ["prlimit", f"--fsize={largest}"]
    server = subprocess.Popen(
        [*limited, program, "-D", "-e", "-f", folder / "sshd_config"],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
    )
    log.close()
    board = Board(folder, port, server, home)
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return board
        if server.poll() is not None:
            break
        time.sleep(0.02)
    board.stop()
    pytest.skip(f"sshd does not start here: {(folder / 'log').read_text().strip()[-300:]}")


@contextlib.contextmanager
def running_board(folder: Path, **settings: Any) -> Iterator[Board]:
    """A server with an empty home folder, stopped in the end."""
    home, keys = folder / "home", folder / "sshd"
    home.mkdir(exist_ok=True)
    keys.mkdir(mode=0o700)
    board = start_board(keys, settings.pop("home", home), **settings)
    try:
        yield board
    finally:
        board.stop()
        for pid in _of_board(board.home):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _name(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/comm").read_bytes()
    except OSError:
        return b""


def _descendants(root: int) -> list[int]:
    parents = {int(p.name): _stat(int(p.name)) for p in Path("/proc").iterdir() if p.name.isdigit()}
    found, waiting = [], [root]
    while waiting:
        above = waiting.pop()
        below = [pid for pid, stat in parents.items() if stat and int(stat[1]) == above]
        found += below
        waiting += below
    return found


def _of_board(home: Path) -> list[int]:
    """Processes that were started in our folder there."""
    mark = f"EDGEDF_FOLDER={home}/".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if mark in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
    return found
