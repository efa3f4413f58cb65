"""What machine a figure was measured on: no latency means anything without it."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

import edgedf

__all__ = ["Host", "this_host"]

_CPU_INFO = Path("/proc/cpuinfo")


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
    """

    cpu: str
    cores: int | None
    load_average: float | None
    system: str
    python: str
    edgedf: str


def this_host() -> Host:
    """The machine that this runs on, as it is now."""
    try:
        named = re.search(r"model name\s*:\s*(.+)", _CPU_INFO.read_text())
    except OSError:
        named = None
    return Host(
        cpu=named[1] if named else platform.processor() or platform.machine(),
        cores=os.cpu_count(),
        load_average=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        system=platform.platform(),
        python=platform.python_version(),
        edgedf=edgedf.__version__,
    )
