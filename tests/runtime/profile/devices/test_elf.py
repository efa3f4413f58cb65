from __future__ import annotations

from pathlib import Path

import pytest

from edgedf.errors import ConfigError, DeviceError
from edgedf.runtime.profile.devices.elf import built_for, check_runner


def elf(machine: int, *, wide: bool = True, order: str = "little") -> bytes:
    """The start of an ELF file, as elf(5) has it."""
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1 if order == "little" else 2, 1]) + bytes(9)
    return ident + (2).to_bytes(2, order) + machine.to_bytes(2, order) + bytes(44)


@pytest.mark.parametrize(
    ("content", "abi"),
    [
        (elf(183), "arm64-v8a"),
        (elf(40, wide=False), "armeabi-v7a"),
        (elf(62), "x86_64"),
        (elf(3, wide=False), "x86"),
        (elf(243), "riscv64"),
    ],
)
def test_built_for(tmp_path: Path, content: bytes, abi: str) -> None:
    runner = tmp_path / "runner"
    runner.write_bytes(content)
    assert built_for(runner) == abi
    check_runner(runner, ["first", abi])
    with pytest.raises(DeviceError, match=f"is built for {abi}; the phone runs mips"):
        check_runner(runner, ["mips"])


def test_unknown_processor(tmp_path: Path) -> None:
    runner = tmp_path / "runner"
    runner.write_bytes(elf(22, order="big"))
    with pytest.raises(DeviceError, match="built for ELF machine 22; the phone runs unknown"):
        check_runner(runner, [])


def test_script_passes(tmp_path: Path) -> None:
    runner = tmp_path / "runner"
    runner.write_text("#!/bin/sh\n")
    assert built_for(runner) is None
    check_runner(runner, ["arm64-v8a"])


@pytest.mark.parametrize("content", [None, b"", b"MZ not a program", b"\x7fELF", b"\x7fELF" * 9])
def test_no_program(tmp_path: Path, content: bytes | None) -> None:
    runner = tmp_path / "runner"
    if content is not None:
        runner.write_bytes(content)
    with pytest.raises(
        (ConfigError, DeviceError), match=r"The runner \S+ (cannot be used|is built)"
    ):
        check_runner(runner, ["arm64-v8a"])


def test_folder_is_no_program(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be used"):
        check_runner(tmp_path, ["arm64-v8a"])


def test_far_too_large(tmp_path: Path) -> None:
    runner = tmp_path / "runner"
    with runner.open("wb") as stream:
        stream.write(elf(183))
        stream.truncate((512 << 20) + 1)
    with pytest.raises(ConfigError, match="has 536870913 bytes"):
        check_runner(runner, ["arm64-v8a"])
