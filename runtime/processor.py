"""What a processor is called, and whether it has instructions that make int8 quick."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Processor", "int8_dot_product", "this_processor"]

_CPU_INFO = Path("/proc/cpuinfo")

# Flags by which Linux names instructions that add four products of bytes to 32 bits: VNNI of
# x86-64; FEAT_DotProd of Arm (v8.2, and all since v8.4).
_DOT_PRODUCTS = frozenset({"avx512_vnni", "avx_vnni", "asimddp"})


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


def this_processor() -> Processor:
    """The one that this runs on.

    An emulator such as qemu may show the flags of the machine below it.
    """
    try:
        info = _CPU_INFO.read_text(errors="replace")
    except OSError:
        info = ""
    named = re.search(r"model name\s*:\s*(.+)", info)
    has = int8_dot_product(info)
    if has is None and platform.system() == "Darwin" and platform.machine() == "arm64":
        has = True  # every processor of Apple's that macOS runs on
    return Processor(named[1] if named else platform.processor() or platform.machine(), has)


def int8_dot_product(cpu_info: str) -> bool | None:
    """Whether ``/proc/cpuinfo`` names dot-product instructions for int8.

    Args:
        cpu_info: Its content; with several kinds of cores, all of them must have the instructions.

    Returns:
        None where it lists no flags.
    """
    lists = re.findall(r"^(?:flags|Features)\s*:(.*)$", cpu_info, re.MULTILINE)
    return all(_DOT_PRODUCTS & set(flags.split()) for flags in lists) if lists else None
