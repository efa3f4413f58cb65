"""Where the time of an inference goes, as a runtime's own profiler says."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["OperatorTime", "Operators"]


@dataclass(frozen=True)
class OperatorTime:
    """One operator of a model as the runtime executes it.

    Args:
        name: Of the operator in the file or in the runtime's graph; tells it from its like.
        kind: Such as ``CONV_2D`` or ``QLinearConv``.
        milliseconds: Mean of an inference's share.
        delegate: What executes it, such as ``XNNPACK``; empty for the runtime's own kernels.
    """

    name: str
    kind: str
    milliseconds: float
    delegate: str = ""


@dataclass(frozen=True)
class Operators:
    """Where the time of an inference goes.

    Args:
        configuration: Which.
        source: How it was measured, in words.
        operators: In order of execution.
        in_file: How many operators the file has.
        delegated: How many of those a delegate executes; None where the runtime has no delegates.
        partitions: In how many partitions; None likewise.
        left_out: Kinds of the operators that no delegate took, each as often as it occurs.
        inference_ms: Mean of whole inferences while the operators were timed.
        plain_ms: Mean of inferences without it, taken in the same minute: what timing costs.
        in_float: Kinds of the operators that compute in floating point, each as often as it
            occurs, but for those that only change the type between the model's ends and its
            inside; None where that is not known.
    """

    configuration: int
    source: str
    operators: tuple[OperatorTime, ...]
    in_file: int
    inference_ms: float
    plain_ms: float
    delegated: int | None = None
    partitions: int | None = None
    left_out: tuple[str, ...] = ()
    in_float: tuple[str, ...] | None = None
