"""What machine a figure was measured on: no latency means anything without it."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass

import edgedf
from edgedf.runtime.processor import this_processor

__all__ = ["Host", "this_host"]


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
        int8_dot_product: Whether the processor has dot-product instructions for int8, see
            :mod:`edgedf.runtime.processor`.
    """

    cpu: str
    cores: int | None
    load_average: float | None
    system: str
    python: str
    edgedf: str
    int8_dot_product: bool | None = None


def this_host() -> Host:
    """The machine that this runs on, as it is now."""
    processor = this_processor()
    return Host(
        cpu=processor.name,
        cores=os.cpu_count(),
        load_average=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        system=platform.platform(),
        python=platform.python_version(),
        edgedf=edgedf.__version__,
        int8_dot_product=processor.int8_dot_product,
    )
