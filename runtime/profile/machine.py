"""What a machine is, as far as its system says."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from pathlib import Path

import edgedf
from edgedf.cores import available_cores
from edgedf.runtime.host import this_host
from edgedf.runtime.profile.events import Machine

__all__ = ["arm_processors", "number_in", "text_in", "this_machine"]

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


def this_machine(root: Path = Path("/")) -> Machine:
    """The machine that this runs on.

    Args:
        root: Of the file system with ``proc`` and ``sys``.
    """
    host = this_host()
    folders = sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq"))
    maxima = [number_in(folder / "cpuinfo_max_freq") for folder in folders]
    governors = [text_in(folder / "scaling_governor") for folder in folders]
    memory = re.search(r"MemTotal:\s*(\d+) kB", text_in(root / "proc/meminfo"))
    return Machine(
        cpu=arm_processors(text_in(root / "proc/cpuinfo")) or host.cpu,
        architecture=platform.machine(),
        system=host.system,
        name=text_in(root / "proc/device-tree/model")
        or text_in(root / "sys/class/dmi/id/product_name"),
        soc=_soc(text_in(root / "proc/device-tree/compatible")),
        cores=available_cores(),
        memory_mb=int(memory[1]) // 1024 if memory else None,
        governors=tuple(sorted({governor for governor in governors if governor})),
        maximum_mhz=tuple(khz / 1e3 for khz in maxima if khz is not None),
        python=host.python,
        edgedf=edgedf.__version__,
        int8_dot_product=host.int8_dot_product,
    )


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


def _soc(compatible: str) -> str:
    """``bcm2712`` where the last, least specific entry is ``brcm,bcm2712``."""
    return compatible.split("\0")[-1].partition(",")[2]


def arm_processors(info: str) -> str:
    """Processors by name, such as ``4 × Cortex-A55, 2 × Cortex-A78``.

    Args:
        info: Content of ``/proc/cpuinfo``.

    Returns:
        The names; empty for other processors than Arm.
    """
    names = list(_arm_parts(info))
    counts = {name: names.count(name) for name in dict.fromkeys(names)}
    return ", ".join(f"{count} × {name}" for name, count in counts.items())


def _arm_parts(info: str) -> Iterator[str]:
    for processor in re.split(r"\n\s*\n", info):
        maker = re.search(r"CPU implementer\s*:\s*(0x[0-9a-fA-F]+)", processor)
        part = re.search(r"CPU part\s*:\s*(0x[0-9a-fA-F]+)", processor)
        if maker and part:
            number = int(part[1], 16)
            own = int(maker[1], 16) == _ARM
            yield _ARM_PARTS.get(number, f"part {part[1]}") if own else f"{maker[1]}/{part[1]}"
