"""Whether a program is built for a phone: read from the first bytes of the file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgedf.errors import ConfigError, DeviceError

__all__ = ["check_runner"]

_MAX_BYTES = 512 << 20
_MACHINES = {3: "x86", 40: "armeabi-v7a", 62: "x86_64", 183: "arm64-v8a"}  # e_machine, elf.h
_RISCV = 243


def check_runner(path: Path, abis: Sequence[str]) -> int:
    """See that a file is a program that the phone can run.

    A script (``#!``) passes: what it needs is seen when it runs.

    Args:
        path: The program.
        abis: Binary interfaces of the phone.

    Returns:
        Its size in bytes.

    Raises:
        ConfigError: It is not there, empty, far too large, or no program.
        DeviceError: It is built for another processor.
    """
    try:
        size = path.stat().st_size if path.is_file() else -1
        with path.open("rb") as stream:
            head = stream.read(20)
    except OSError as error:
        raise _no_program(path, error.strerror or str(error)) from error
    if not 0 < size <= _MAX_BYTES:
        raise _no_program(path, f"it has {size} bytes" if size >= 0 else "it is no file")
    if head[:2] == b"#!":
        return size
    abi = _abi(head)
    if abi is None:
        raise _no_program(path, "it is neither an ELF file nor a script")
    if abi not in abis:
        raise DeviceError(
            f"The runner {path} is built for {abi}; the phone runs {', '.join(abis) or 'unknown'}.",
            expected=f"a program for {abis[0] if abis else 'the phone'}",
            next_step="take the build of benchmark_model for that processor, android_aarch64 for "
            "arm64-v8a",
        )
    return size


def _abi(head: bytes) -> str | None:
    if len(head) < 20 or head[:4] != b"\x7fELF":
        return None
    order = "little" if head[5] == 1 else "big"
    machine = int.from_bytes(head[18:20], "little" if order == "little" else "big")
    if machine == _RISCV:
        return "riscv64"
    return _MACHINES.get(machine, f"ELF machine {machine}")


def _no_program(path: Path, reason: str) -> ConfigError:
    return ConfigError(
        f"The runner {path} cannot be used: {reason}.",
        expected="a benchmark program that is built for the phone",
        next_step="name it with --runner",
    )
