"""Numbers with their units, as all wording of a profile writes them."""

from __future__ import annotations

import math

from edgedf.reports.section import NONE

__all__ = ["kib", "megabytes", "ms", "number"]


def number(value: float | None) -> str:
    """Three significant digits, ``-`` for None."""
    if value is None:
        return NONE
    if value == 0:
        return "0"
    if not 1e-9 < abs(value) < 1e12:  # no latency, but a document may hold it
        return f"{value:.2e}"
    digits = 2 - math.floor(math.log10(abs(value)))
    # 9.999 has one digit less in front once it is rounded.
    digits = 2 - math.floor(math.log10(abs(round(value, digits))))
    return f"{value:,.{min(max(digits, 0), 6)}f}"


def ms(value: float | None) -> str:
    """Milliseconds with three significant digits, ``-`` for None: ``2.81 ms``."""
    return NONE if value is None else f"{number(value)} ms"


def kib(value: int | None) -> str:
    """KiB as MiB: ``5.3 MiB``; ``-`` for None."""
    return NONE if value is None else f"{value / 1024:,.1f} MiB"


def megabytes(size: int) -> str:
    """Bytes of a file: ``1.142 MB``."""
    return f"{size / 1e6:.3f} MB"
