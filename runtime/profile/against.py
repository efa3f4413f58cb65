"""A profile against an earlier one, for CI: slower, larger, or as it was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgedf.runtime.profile.document import Profile

__all__ = ["LIMIT", "Change", "Comparison", "Verdict", "compare"]

Verdict = Literal["pass", "fail", "cannot tell"]
What = Literal["p50", "p90", "memory", "size", "ratio"]

LIMIT = 0.10


@dataclass(frozen=True)
class Change:
    """One figure, then and now.

    Args:
        device: As the user wrote it.
        name: Which model and how many threads; of a ratio, which two.
        what: Which figure.
        before: In the earlier profile: milliseconds, KiB, bytes, or a ratio.
        now: In this one.
        ratio: Now divided by before; above 1 it got worse.
        low: Lower end of its 95 % interval; None where there is none.
        high: Upper end.
        verdict: None where it is only shown.
        reason: In words, empty where there is nothing to say.
    """

    device: str
    name: str
    what: What
    before: float
    now: float
    ratio: float
    low: float | None
    high: float | None
    verdict: Verdict | None
    reason: str = ""


@dataclass(frozen=True)
class Comparison:
    """This profile against an earlier one.

    Args:
        verdict: ``fail`` where something got worse beyond the limit, ``cannot tell`` where
            something cannot be told, else ``pass``.
        limit: What may be lost, as a fraction.
        changes: Figure by figure.
        remarks: What else to know: different machines or runtimes, results that only one has.
    """

    verdict: Verdict
    limit: float
    changes: tuple[Change, ...]
    remarks: tuple[str, ...] = ()


def compare(profile: Profile, previous: Profile, limit: float = LIMIT) -> Comparison:
    """Compare a profile with an earlier one."""
    raise NotImplementedError
