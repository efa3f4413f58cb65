"""Phones on the loopback interface, with an adb server of their own."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.runtime.profile.devices.phone import Phone

AddPhone = Callable[..., Phone]


@contextlib.contextmanager
def adb_server(home: Path) -> Iterator[dict[str, str]]:
    """A server on a free port with a home of its own: the user's one is not touched.

    Yields:
        The environment that leads to it.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ours = {
        "ANDROID_ADB_SERVER_PORT": str(port),
        "HOME": str(home),
        "ADB_LOCAL_TRANSPORT_MAX_PORT": "5554",  # no search for emulators
        "ADB_MDNS": "0",
    }
    environment = {**os.environ, **ours}
    subprocess.run(["adb", "start-server"], env=environment, check=True, capture_output=True)
    yield ours
    subprocess.run(["adb", "kill-server"], env=environment, check=False, capture_output=True)


@pytest.fixture(scope="package")
def _adb_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    if shutil.which("adb") is None:
        pytest.skip("there is no adb client here (Debian: apt install adb)")
    with adb_server(tmp_path_factory.mktemp("adb-home")) as ours:
        yield ours


@pytest.fixture
def add_phone(
    _adb_server: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[AddPhone]:
    """Attaches a phone, switched off in the end."""
    for name, value in _adb_server.items():
        monkeypatch.setenv(name, value)
    phones: list[Phone] = []

    def add(*, unauthorized: bool = False, **options: str) -> Phone:
        phone = Phone(tmp_path / f"phone{len(phones)}", **options)
        phone.trouble.unauthorized = unauthorized
        phones.append(phone)
        subprocess.run(["adb", "connect", phone.serial], check=True, capture_output=True)
        return phone

    yield add
    for phone in phones:
        phone.close()
        subprocess.run(["adb", "disconnect", phone.serial], check=False, capture_output=True)


@pytest.fixture
def phone(add_phone: AddPhone) -> Phone:
    """One phone."""
    return add_phone()
