"""What the machine that this runs on is: its cores, its processor, its memory, its system.

No latency means anything without it. Facts come from Linux's ``/proc`` and ``/sys`` where they are
there; those of a phone are read from the same files, which adb prints.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgedf import __version__

__all__ = [
    "Host",
    "Machine",
    "Processor",
    "available_cores",
    "int8_dot_product",
    "number_in",
    "processor_name",
    "text_in",
    "this_host",
    "this_machine",
    "this_processor",
]

# Flags by which Linux names instructions that add four products of bytes to 32 bits: VNNI of
# x86-64; FEAT_DotProd of Arm (v8.2, and all since v8.4).
_DOT_PRODUCTS = frozenset({"avx512_vnni", "avx_vnni", "asimddp"})

# Arm's own processors by the part number that /proc/cpuinfo gives, which has no names there
# (Arm, Technical Reference Manuals: MIDR_EL1). Of another implementer numbers mean others.
_ARM_PARTS = {
    0xC07: "Cortex-A7",
    0xC08: "Cortex-A8",
    0xC0F: "Cortex-A15",
    0xD03: "Cortex-A53",
    0xD04: "Cortex-A35",
    0xD05: "Cortex-A55",
    0xD07: "Cortex-A57",
    0xD08: "Cortex-A72",
    0xD09: "Cortex-A73",
    0xD0A: "Cortex-A75",
    0xD0B: "Cortex-A76",
    0xD0C: "Neoverse-N1",
    0xD0D: "Cortex-A77",
    0xD40: "Neoverse-V1",
    0xD41: "Cortex-A78",
    0xD42: "Cortex-A78AE",
    0xD44: "Cortex-X1",
    0xD46: "Cortex-A510",
    0xD47: "Cortex-A710",
    0xD48: "Cortex-X2",
    0xD49: "Neoverse-N2",
    0xD4D: "Cortex-A715",
    0xD4E: "Cortex-X3",
}
_ARM = 0x41


@dataclass(frozen=True)
class Processor:
    """A processor.

    Args:
        name: As the system gives it.
        int8_dot_product: Whether it has dot-product instructions for int8 (x86-64: VNNI, Arm:
            FEAT_DotProd); None where the system does not say.
    """

    name: str
    int8_dot_product: bool | None


@dataclass(frozen=True)
class Host:
    """A machine and what runs on it.

    Args:
        cpu: Name of the processor.
        cores: How many logical ones there are; None where the system does not say.
        load_average: Processes that were waiting to run over the last minute, on average; None
            where the system does not say. Well above 0 means that something else was running.
        system: Operating system and its version.
        python: Version of Python.
        edgedf: Version of edgedf.
        int8_dot_product: Whether the processor has dot-product instructions for int8.
    """

    cpu: str
    cores: int | None
    load_average: float | None
    system: str
    python: str
    edgedf: str
    int8_dot_product: bool | None = None


@dataclass(frozen=True)
class Machine:
    """What is measured on. A field is empty or None where the system does not say.

    Args:
        name: Of the board or phone, such as ``Raspberry Pi 5 Model B Rev 1.0``.
        cpu: Name of the processor.
        soc: System on a chip, such as ``SM8550``.
        cores: Logical processors that the worker may use.
        architecture: As ``uname -m`` says: ``x86_64``, ``aarch64``, …
        memory_mb: Physical memory.
        system: Operating system and kernel; of a phone the Android version.
        governors: Of the processors' frequencies, each once.
        maximum_mhz: Highest frequency of each processor.
        python: Version of Python, empty for a native runner.
        edgedf: Version of edgedf that measured, empty for a native runner.
        int8_dot_product: Whether its processors have dot-product instructions for int8 (VNNI on
            x86-64, FEAT_DotProd on Arm).
    """

    cpu: str
    architecture: str
    system: str
    name: str = ""
    soc: str = ""
    cores: int | None = None
    memory_mb: int | None = None
    governors: tuple[str, ...] = ()
    maximum_mhz: tuple[float, ...] = ()
    python: str = ""
    edgedf: str = ""
    int8_dot_product: bool | None = None


def available_cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def this_processor(root: Path = Path("/")) -> Processor:
    """The processor that this runs on.

    An emulator such as qemu may show the flags of the machine below it.

    Args:
        root: Of the file system with ``proc``.
    """
    info = text_in(root / "proc/cpuinfo")
    has = int8_dot_product(info)
    if has is None and platform.system() == "Darwin" and platform.machine() == "arm64":
        has = True  # every processor of Apple's that macOS runs on
    return Processor(processor_name(info) or platform.processor() or platform.machine(), has)


def this_host() -> Host:
    """The machine that this runs on, as it is now."""
    processor = this_processor()
    return Host(
        cpu=processor.name,
        cores=os.cpu_count(),
        load_average=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        system=platform.platform(),
        python=platform.python_version(),
        edgedf=__version__,
        int8_dot_product=processor.int8_dot_product,
    )


def this_machine(root: Path = Path("/")) -> Machine:
    """The machine that this runs on, with what only has to be known where latency is measured.

    Args:
        root: Of the file system with ``proc`` and ``sys``.
    """
    processor = this_processor(root)
    folders = sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq"))
    maxima = [number_in(folder / "cpuinfo_max_freq") for folder in folders]
    governors = [text_in(folder / "scaling_governor") for folder in folders]
    memory = re.search(r"MemTotal:\s*(\d+) kB", text_in(root / "proc/meminfo"))
    compatible = text_in(root / "proc/device-tree/compatible").split("\0")
    return Machine(
        cpu=processor.name,
        architecture=platform.machine(),
        system=platform.platform(),
        name=text_in(root / "proc/device-tree/model")
        or text_in(root / "sys/class/dmi/id/product_name"),
        soc=compatible[-1].partition(",")[2],  # the least specific one: "brcm,bcm2712"
        cores=available_cores(),
        memory_mb=int(memory[1]) // 1024 if memory else None,
        governors=tuple(sorted({governor for governor in governors if governor})),
        maximum_mhz=tuple(khz / 1e3 for khz in maxima if khz is not None),
        python=platform.python_version(),
        edgedf=__version__,
        int8_dot_product=processor.int8_dot_product,
    )


def int8_dot_product(cpu_info: str) -> bool | None:
    """Whether ``/proc/cpuinfo`` names dot-product instructions for int8.

    Args:
        cpu_info: Its content; with several kinds of cores, all of them must have the instructions.

    Returns:
        None where it lists no flags.
    """
    lists = re.findall(r"^(?:flags|Features)\s*:(.*)$", cpu_info, re.MULTILINE)
    return all(_DOT_PRODUCTS & set(flags.split()) for flags in lists) if lists else None


def processor_name(cpu_info: str) -> str:
    """Name of the processor in ``/proc/cpuinfo``; of an Arm such as ``4 × Cortex-A55, 2 × …``.

    Args:
        cpu_info: Its content.

    Returns:
        The name; empty where it has none.
    """
    names = list(_arm_parts(cpu_info))
    if names:
        counts = {name: names.count(name) for name in dict.fromkeys(names)}
        return ", ".join(f"{count} × {name}" for name, count in counts.items())
    named = re.search(r"(?:model name|Hardware|Processor)\s*: (.+)", cpu_info)
    return named[1].strip() if named else ""


def _arm_parts(info: str) -> Iterator[str]:
    for processor in re.split(r"\n\s*\n", info):
        maker = re.search(r"CPU implementer\s*:\s*(0x[0-9a-fA-F]+)", processor)
        part = re.search(r"CPU part\s*:\s*(0x[0-9a-fA-F]+)", processor)
        if maker and part:
            number = int(part[1], 16)
            own = int(maker[1], 16) == _ARM
            yield _ARM_PARTS.get(number, f"part {part[1]}") if own else f"{maker[1]}/{part[1]}"


def text_in(path: Path) -> str:
    """What a file of ``/proc`` or ``/sys`` says, without padding; empty where it says nothing."""
    try:
        return path.read_bytes()[: 1 << 20].decode("utf-8", "replace").strip("\0 \t\n")
    except OSError:
        return ""


def number_in(path: Path) -> int | None:
    """The whole number that a file of ``/proc`` or ``/sys`` holds, decimal or ``0x``; else None."""
    text = text_in(path)
    try:
        return int(text, 0)
    except ValueError:
        return None
