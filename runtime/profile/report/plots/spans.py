"""When the machine was slowed down or did something else."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

from edgedf.runtime.profile.document import DeviceRun
from edgedf.runtime.profile.validity import FREQUENCY_FALL, STOLEN, load_limit

__all__ = ["Span", "disturbed"]


@dataclass(frozen=True)
class Span:
    """Time in which a figure cannot be believed.

    Args:
        start_s: Seconds since the worker started.
        end_s: Likewise.
        why: What the machine did.
    """

    start_s: float
    end_s: float
    why: Literal["throttled", "loaded"]


def disturbed(run: DeviceRun, until: tuple[float, float]) -> tuple[Span, ...]:
    """When the machine was slowed down or did something else, by the limits of a valid result.

    Those tell whether a result is valid; here they only tell where to look.

    Args:
        run: The device.
        until: Begin and end of the time that counts: the frequency at its begin is the usual one.

    Returns:
        Spans of that time in order, each as long as it can be.
    """
    limit = load_limit(None if run.machine is None else run.machine.cores)
    fastest = [
        max(state.frequency_mhz)
        for state in run.states
        if state.frequency_mhz and until[0] <= state.at_s <= until[1]
    ]
    slow = (1 - FREQUENCY_FALL) * fastest[0] if fastest else 0.0
    found: list[Span] = []
    for before, state in itertools.pairwise(run.states):
        if state.at_s <= until[0] or before.at_s >= until[1]:
            continue
        why: Literal["throttled", "loaded"]
        counted = before.throttled is not None and state.throttled is not None
        if (counted and state.throttled > before.throttled) or (  # type: ignore[operator]
            state.frequency_mhz and max(state.frequency_mhz) < slow
        ):
            why = "throttled"
        elif (state.other_load or 0) > limit or (state.stolen or 0) > STOLEN:
            why = "loaded"
        else:
            continue
        if found and found[-1].why == why and found[-1].end_s == before.at_s:
            found[-1] = Span(found[-1].start_s, state.at_s, why)
        else:
            found.append(Span(before.at_s, state.at_s, why))
    return tuple(found)
