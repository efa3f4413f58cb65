"""Waiting until a runtime's threads rest.

A runtime's threads go on spinning for the next inference when one is done. ONNX Runtime's do so
for 50 to 75 ms with two threads on an x86 machine: another model with two threads that runs in
that time on two processors takes 1.4 to 2 times as long, for its first six to ten inferences. How
long they spin depends on the processor, so it is not waited for a fixed time but looked at.
"""

from __future__ import annotations

import time

__all__ = ["settle"]

_SLICE_S = 0.004
_QUIET = 0.25  # processors; a spinning thread takes one
_IN_A_ROW = 2  # a spinning thread may have lost its processor to another process for a moment
_LIMIT_S = 0.5  # what never rests is no thread that waits for the next inference


def settle(limit_s: float = _LIMIT_S) -> float:
    """Sleep until this process takes no processor time any more.

    Args:
        limit_s: When to go on all the same.

    Returns:
        Seconds that it took, at least those of two short looks.
    """
    begun = time.monotonic()
    quiet = 0
    while quiet < _IN_A_ROW and time.monotonic() - begun < limit_s:
        used, at = time.process_time(), time.monotonic()
        time.sleep(_SLICE_S)
        share = (time.process_time() - used) / max(time.monotonic() - at, 1e-9)
        quiet = quiet + 1 if share < _QUIET else 0
    return time.monotonic() - begun
