"""The scripts that run on a board, run here."""

import io
import json
import os
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from edgedf.errors import DeviceError
from edgedf.runtime.profile.devices import board
from edgedf.runtime.profile.devices.board_answers import (
    Board,
    board_of,
    ended,
    not_received,
    parsed,
)
from edgedf.runtime.profile.devices.wheels import Interpreter

SCRIPTS = Path(board.__file__).parent
MACHINE = Board(Interpreter((3, 11, 2), "aarch64", "glibc", "2.36", {}), "/home/pi", 1_000_000)


def archive_of(**entries: bytes | tarfile.TarInfo) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in entries.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def receive(parent: Path, archive: bytes) -> list[dict[str, Any]]:
    asked = {"parent": str(parent), "imports": [], "silence": 10, "word": "word"}
    done = subprocess.run(
        [sys.executable, "-I", SCRIPTS / "receive.py"],
        input=json.dumps(asked).encode() + b"\n" + archive,
        capture_output=True,
        timeout=30,
        check=False,
    )
    lines = done.stdout.decode().splitlines()
    return [json.loads(lines[at + 1]) for at, line in enumerate(lines) if line == "word"]


def wheel_of(**entries: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return stream.getvalue()


def test_a_folder_is_filled_and_private(tmp_path: Path) -> None:
    wheel = wheel_of(**{
        "p/__init__.py": b"1",
        "p-1.data/purelib/q.py": b"2",
        "p-1.data/scripts/run": b"3",
    })  # fmt: skip
    first, last = receive(
        tmp_path, archive_of(**{"a/b": b"x", "wheels/p-1-py3-none-any.whl": wheel, "complete": b""})
    )
    folder = Path(first["folder"])
    assert last["kind"] == "" and folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "a/b").read_bytes() == b"x"
    assert sorted(p.name for p in (folder / "site").iterdir()) == ["p", "q.py"]
    assert not list(folder.glob("wheels/*"))


@pytest.mark.parametrize(
    "archive",
    [
        archive_of(**{"../out": b"x", "complete": b""}),
        archive_of(**{"/tmp/edgedf-out": b"x", "complete": b""}),
        archive_of(**{"w.whl": wheel_of(**{"../../out": b"x"}), "complete": b""}),
        archive_of(**{"w.whl": wheel_of(**{"p.data/purelib/../../../out": b"x"}), "complete": b""}),
        archive_of(**{"w.whl": b"no zip", "complete": b""}),
        archive_of(whole=b"x" * 20_000)[:9_000],
        archive_of(no_end=b"x"),
        b"no archive",
        b"",
    ],
    ids=["up", "absolute", "wheel-up", "wheel-data", "no-zip", "cut", "no-end", "junk", "nothing"],
)
def test_a_bad_archive_leaves_nothing(tmp_path: Path, archive: bytes) -> None:
    (home := tmp_path / "home").mkdir()
    last = receive(home, archive)[-1]
    assert last["kind"] == "archive" and last["problem"]
    assert list(tmp_path.iterdir()) == [home] and not list(home.iterdir())
    assert not Path("/tmp/edgedf-out").exists()
    error = not_received("pi@pi", MACHINE, 10, last, "")
    assert isinstance(error, DeviceError) and last["problem"] in error.message


def test_a_link_in_an_archive_is_refused(tmp_path: Path) -> None:
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc"
    last = receive(tmp_path, archive_of(link=link, **{"link/x": b"x", "complete": b""}))[-1]
    assert last["kind"] == "archive" and not list(tmp_path.iterdir())


def keep(tmp_path: Path, silence: str, *command: str) -> subprocess.Popen[bytes]:
    folder = tmp_path / ".edgedf-test"
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, SCRIPTS / "keep.py", folder, silence, *command],
        stdin=subprocess.PIPE,
        env={**os.environ, "EDGEDF_FOLDER": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
    )


def test_a_worker_ends_with_its_own_status(tmp_path: Path) -> None:
    process = keep(tmp_path, "30", "sh", "-c", "exit 7")
    assert process.wait(10) == 7
    process.communicate()
    process = keep(tmp_path, "30", "sh", "-c", "kill -9 $$")
    assert process.wait(10) == 128 + 9
    process.communicate()


@pytest.mark.parametrize("network", ["closed", "silent"])
def test_a_worker_that_nobody_listens_to_ends(tmp_path: Path, network: str) -> None:
    # Its own child survives the worker unless it is looked for.
    process = keep(tmp_path, "0.6", "sh", "-c", "sleep 543 & sleep 543")
    assert process.stdin is not None
    time.sleep(0.3)
    assert process.poll() is None
    if network == "closed":
        process.stdin.close()
    assert process.wait(10) == 128 + 1
    process.stdin.close()
    mark = f"EDGEDF_FOLDER={tmp_path}".encode()
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            assert mark not in entry.read_bytes()
        except OSError:
            continue


def test_cleaning_removes_no_other_folder(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPTS / "clean.py", tmp_path], capture_output=True, check=False
    )
    assert done.returncode == 1 and tmp_path.is_dir()


def probe(**changes: Any) -> dict[str, Any]:
    return {
        "implementation": "CPython", "version": [3, 11, 2], "abiflags": "", "system": "Linux",
        "architecture": "aarch64", "libc": "glibc", "libc_version": "2.36",
        "folder": "/home/pi", "free": 10, "modules": {}, **changes,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (probe(version=[3, 8, 10]), "has CPython 3.8.10"),
        (probe(implementation="PyPy"), "has PyPy 3.11.2"),
        (probe(system="Darwin"), "runs Darwin"),
        (probe(folder=""), "no folder to work in"),
        (None, "is not there"),
        ({}, "its answer is not understood: implementation is missing"),
        (probe(version="3.11"), "its answer is not understood: version is str"),
        (probe(free=[1]), "its answer is not understood: free is list"),
        (probe(modules={"numpy": 2}), "its answer is not understood: modules.numpy is int"),
    ],
)
def test_a_board_that_does_not_do_is_refused(answer: dict[str, Any] | None, words: str) -> None:
    with pytest.raises(DeviceError, match=words) as caught:
        board_of("pi@pi", "python3", 127 if answer is None else 0, answer, "")
    assert caught.value.expected and caught.value.next_step


def test_a_board_that_does_is_understood() -> None:
    machine = board_of("pi@pi", "python3", 0, probe(modules={"numpy": "2.1", "other": "1"}), "")
    assert machine.interpreter.name == "Python 3.11, aarch64, glibc 2.36"
    assert machine.interpreter.modules == {"numpy": "2.1"}


@pytest.mark.parametrize("line", ["", "{", "[]", "[" * 100_000, '{"free": 1e'])
def test_a_line_that_is_no_answer(line: str) -> None:
    assert parsed(line) is None


def test_a_full_board_that_does_not_say_how_full() -> None:
    machine = board_of("pi@pi", "python3", 0, probe(), "")
    error = not_received("pi@pi", machine, 5_000_000, {"kind": "full", "free": "none"}, "")
    assert "pi@pi is full: 5.0 MB are needed" in error.message


def test_a_signal_is_named() -> None:
    reason = DeviceError("The worker ended too early.")
    assert "SIGKILL" in ended("pi@pi", 137, reason).message
    assert "memory" in ended("pi@pi", 137, reason).next_step
    assert ended("pi@pi", 2, reason) is reason
