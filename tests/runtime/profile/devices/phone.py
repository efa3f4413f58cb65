"""The device's end of adb, for a loopback port: what ``adb connect 127.0.0.1:PORT`` talks to.

Debian packs adb's client and no daemon, so here is a small one. It speaks the wire protocol of
Android's ``system/core/adb/protocol.txt`` (CNXN, AUTH, OPEN, OKAY, WRTE, CLSE), the services
``shell,v2`` (id, length, bytes: standard input, output, error, exit status) and ``sync:`` (STAT,
SEND, DATA, DONE, RECV, QUIT). Commands run for real, with this machine's shell, in a folder that
stands for the phone's file system; ``getprop`` and ``dumpsys`` are scripts in it. As Android's
daemon it gives each command a session of its own, and closes its standard input when the
connection goes.
"""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import struct
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

_CNXN, _AUTH, _OPEN, _OKAY, _CLSE, _WRTE = (
    int.from_bytes(name, "little")
    for name in (b"CNXN", b"AUTH", b"OPEN", b"OKAY", b"CLSE", b"WRTE")
)
_VERSION, _MOST = 0x01000001, 256 * 1024  # this version needs no checksums
_TOKEN = 1
_STDIN, _STDOUT, _STDERR, _EXIT, _CLOSE_STDIN = range(5)
_MAPPED = ("/data/local/tmp", "/sys/")


@dataclass
class Trouble:
    """What shall go wrong.

    Args:
        unauthorized: The user has not confirmed this computer.
        full_after: Bytes that fit on the phone; None for as many as there are.
        drop_at: Cut the connection when a command with this text has begun to write.
        stay_away: Take no new connection after that.
        on_command: Called with each command before it runs.
        lie: Changes what commands print.
    """

    unauthorized: bool = False
    full_after: int | None = None
    drop_at: str | None = None
    stay_away: bool = False
    on_command: Callable[[str], None] = field(default=lambda command: None)
    lie: Callable[[bytes], bytes] = field(default=lambda printed: printed)


class Phone:
    """A phone that answers on a loopback port until it is closed.

    Args:
        root: Folder that stands for its file system.
        model: Its ``ro.product.model``.
        abi: Its ``ro.product.cpu.abi``.
    """

    def __init__(self, root: Path, *, model: str = "Loopback 1", abi: str = "arm64-v8a") -> None:
        self.root, self.model, self.trouble = root, model, Trouble()
        self.commands: list[str] = []
        self.temporary.mkdir(parents=True)
        self._write_system(abi)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.serial = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._connections: list[_Connection] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def temporary(self) -> Path:
        """What ``/data/local/tmp`` is here."""
        return self.root / "data/local/tmp"

    def here(self, text: str) -> str:
        """A path or a command with the phone's folders in the place where they are here."""
        for mapped in _MAPPED:
            text = text.replace(mapped, f"{self.root}{mapped}")
        return text

    def drop(self) -> None:
        """Cut all connections, as if the cable were pulled."""
        if self.trouble.stay_away:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # ends the waiting accept as well
            self._listener.close()
        for connection in self._connections:
            connection.cut()
        self._connections.clear()

    def close(self) -> None:
        """Switch it off."""
        self.trouble.stay_away = True
        self.drop()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                link, _ = self._listener.accept()
                link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection = _Connection(self, link)
                self._connections.append(connection)
                threading.Thread(target=connection.serve, daemon=True).start()

    def _write_system(self, abi: str) -> None:
        properties = {
            "ro.product.manufacturer": "Example",
            "ro.product.model": self.model,
            "ro.soc.model": "LB1000",
            "ro.build.version.release": "14",
            "ro.build.version.sdk": "34",
            "ro.product.cpu.abi": abi,
            "ro.product.cpu.abilist": f"{abi},armeabi-v7a",
        }
        lines = "\n".join(f"[{name}]: [{value}]" for name, value in properties.items())
        self.script("getprop", f"cat <<'END'\n{lines}\nEND\n")
        self.heat(status=0, degrees=31.5)
        for cpu in (0, 1):
            folder = self.root / f"sys/devices/system/cpu/cpu{cpu}/cpufreq"
            folder.mkdir(parents=True)
            for name, value in (
                ("scaling_governor", "schedutil"),
                ("cpuinfo_max_freq", f"{1_800_000 + 600_000 * cpu}"),
                ("scaling_max_freq", f"{1_800_000 + 600_000 * cpu}"),
                ("scaling_cur_freq", f"{1_200_000 + 300_000 * cpu}"),
            ):
                (folder / name).write_text(value + "\n")

    def heat(self, *, status: int, degrees: float) -> None:
        """What ``dumpsys`` says from now on."""
        thermal = (
            f"IsStatusOverride: false\nThermal Status: {status}\nCached temperatures:\n"
            "\tTemperature{mValue=99.0, mType=3, mName=SKIN, mStatus=0}\n"
            "Current temperatures from HAL:\n"
            f"\tTemperature{{mValue={degrees}, mType=0, mName=CPU, mStatus={status}}}\n"
            "Current cooling devices from HAL:\n"
        )
        battery = "Current Battery Service state:\n  level: 80\n  temperature: 285\n"
        self.script(
            "dumpsys",
            f"case $1 in\nthermalservice) cat <<'END'\n{thermal}END\n;;\n"
            f"battery) cat <<'END'\n{battery}END\n;;\nesac\n",
        )

    def script(self, name: str, text: str) -> None:
        """Write a command of the phone's."""
        path = self.root / "system/bin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_text(f"#!/bin/sh\n{text}")
        new.chmod(0o755)
        new.replace(path)


class _Connection:
    """One transport: everything that a host and the phone say to each other."""

    def __init__(self, phone: Phone, link: socket.socket) -> None:
        self.phone, self._link = phone, link
        self._lock = threading.Lock()
        self._streams: dict[int, _Stream] = {}

    def serve(self) -> None:
        with contextlib.suppress(OSError, EOFError):
            while True:
                command, first, second, size, _, _ = struct.unpack("<6I", self._take(24))
                self._handle(command, first, second, self._take(size))
        self.cut()

    def cut(self) -> None:
        with contextlib.suppress(OSError):
            self._link.shutdown(socket.SHUT_RDWR)
        self._link.close()
        for stream in list(self._streams.values()):
            stream.end()

    def send(self, command: int, first: int, second: int, data: bytes = b"") -> None:
        header = struct.pack("<6I", command, first, second, len(data), 0, command ^ 0xFFFFFFFF)
        with self._lock:
            self._link.sendall(header + data)

    def _take(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self._link.recv(size - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def _handle(self, command: int, first: int, second: int, data: bytes) -> None:
        if command in (_CNXN, _AUTH):
            if self.phone.trouble.unauthorized:
                # For a signature there is another token: nobody here has confirmed that key.
                if command == _CNXN or first == 2:
                    self.send(_AUTH, _TOKEN, 0, os.urandom(20))
                return
            banner = (
                f"device::ro.product.name=loopback;ro.product.model={self.phone.model};"
                "ro.product.device=loopback;features=shell_v2,cmd"
            )
            self.send(_CNXN, _VERSION, _MOST, banner.encode())
        elif command == _OPEN:
            stream = _Stream(self, len(self._streams) + 1, first)
            self._streams[stream.ours] = stream
            service = data.rstrip(b"\0").decode()
            self.send(_OKAY, stream.ours, stream.theirs)
            threading.Thread(target=_serve, args=(stream, service), daemon=True).start()
        elif second in self._streams:
            stream = self._streams[second]
            if command == _OKAY:
                stream.ready.set()
            elif command == _WRTE:
                stream.inbox.put(data)
                self.send(_OKAY, stream.ours, stream.theirs)
            elif command == _CLSE:
                stream.end()


class _Stream:
    """One service that a host has opened."""

    def __init__(self, connection: _Connection, ours: int, theirs: int) -> None:
        self.connection, self.ours, self.theirs = connection, ours, theirs
        self.inbox: queue.Queue[bytes | None] = queue.Queue()
        self.ready = threading.Event()
        self.ended = threading.Event()
        self._lock = threading.Lock()
        self._rest = b""
        self.ready.set()

    def end(self) -> None:
        self.ended.set()
        self.ready.set()
        self.inbox.put(None)

    def take(self, size: int) -> bytes:
        while len(self._rest) < size:
            part = self.inbox.get()
            if part is None:
                raise EOFError
            self._rest += part
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken

    def write(self, data: bytes) -> None:
        """Send one WRTE and wait for its OKAY, as the protocol asks for."""
        with self._lock:
            self.ready.wait()
            if self.ended.is_set():
                raise EOFError
            self.ready.clear()
            self.connection.send(_WRTE, self.ours, self.theirs, data)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.ready.wait(5)
            self.connection.send(_CLSE, self.ours, self.theirs)


def _serve(stream: _Stream, service: str) -> None:
    name, _, argument = service.partition(":")
    with contextlib.suppress(EOFError, OSError):
        if name.split(",")[0] == "shell" and "v2" in name:
            _shell(stream, argument)
        elif name == "sync":
            _sync(stream)
        stream.close()


def _shell(stream: _Stream, command: str) -> None:
    phone = stream.connection.phone
    phone.commands.append(command)
    phone.trouble.on_command(command)
    process = subprocess.Popen(
        ["/bin/sh", "-c", phone.here(command)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PATH": f"{phone.root}/system/bin:{os.environ['PATH']}"},
        start_new_session=True,
    )
    assert process.stdin is not None

    def forward(source: IO[bytes], kind: int) -> None:
        with source, contextlib.suppress(EOFError, OSError):
            while part := os.read(source.fileno(), 16384):
                part = phone.trouble.lie(part)
                stream.write(struct.pack("<BI", kind, len(part)) + part)
                if phone.trouble.drop_at and phone.trouble.drop_at in command:
                    phone.trouble.drop_at = None
                    phone.drop()

    assert process.stdout is not None and process.stderr is not None
    pumps = [
        threading.Thread(target=forward, args=(source, kind), daemon=True)
        for source, kind in ((process.stdout, _STDOUT), (process.stderr, _STDERR))
    ]
    for pump in pumps:
        pump.start()

    def feed() -> None:
        assert process.stdin is not None
        with contextlib.suppress(EOFError, OSError):
            while True:
                kind, size = struct.unpack("<BI", stream.take(5))
                data = stream.take(size)
                if kind == _STDIN:
                    process.stdin.write(data)
                    process.stdin.flush()
                elif kind == _CLOSE_STDIN:
                    process.stdin.close()
        with contextlib.suppress(OSError):
            process.stdin.close()

    threading.Thread(target=feed, daemon=True).start()
    for pump in pumps:
        pump.join()
    stream.write(struct.pack("<BIB", _EXIT, 1, process.wait() & 0xFF))


def _sync(stream: _Stream) -> None:
    phone = stream.connection.phone
    while True:
        request, size = struct.unpack("<4sI", stream.take(8))
        if request == b"QUIT":
            return
        argument = stream.take(size).decode()
        if request == b"STAT":
            found = (0, 0, 0)
            with contextlib.suppress(OSError):
                status = os.lstat(phone.here(argument))
                found = (status.st_mode, status.st_size, int(status.st_mtime))
            stream.write(b"STAT" + struct.pack("<3I", *found))
        elif request == b"SEND":
            _receive(stream, *argument.rsplit(",", 1))
        elif request == b"RECV":
            _give(stream, argument)
        else:
            _fail(stream, f"unknown request {request!r}")


def _receive(stream: _Stream, path: str, mode: str) -> None:
    phone, trouble = stream.connection.phone, None
    target = Path(phone.here(path))
    try:
        file = target.open("wb")
    except OSError as error:
        file, trouble = None, f"couldn't create file: {error.strerror}"
    while True:
        kind, size = struct.unpack("<4sI", stream.take(8))
        if kind == b"DONE":
            break
        data = stream.take(size)
        room = phone.trouble.full_after
        if room is not None:
            phone.trouble.full_after = max(0, room - len(data))
            if len(data) > room:
                trouble = trouble or "write failed: No space left on device"
        if file is not None and trouble is None:
            file.write(data)
    if file is not None:
        file.close()
        target.chmod(int(mode) & 0o777)
    if trouble is None:
        stream.write(b"OKAY" + struct.pack("<I", 0))
    else:
        target.unlink(missing_ok=True)
        _fail(stream, trouble)


def _give(stream: _Stream, path: str) -> None:
    try:
        data = Path(stream.connection.phone.here(path)).read_bytes()
    except OSError as error:
        _fail(stream, str(error.strerror))
        return
    for start in range(0, len(data), 65536):
        part = data[start : start + 65536]
        stream.write(b"DATA" + struct.pack("<I", len(part)) + part)
    stream.write(b"DONE" + struct.pack("<I", 0))


def _fail(stream: _Stream, message: str) -> None:
    stream.write(b"FAIL" + struct.pack("<I", len(message)) + message.encode())
