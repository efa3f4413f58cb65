"""What is compared between two model files, and the outcome: plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgedf.artifact import ModelFormat
from edgedf.machine import Host
from edgedf.quantize.accuracy.gate import Verdict
from edgedf.quantize.accuracy.limits import DiffLimits
from edgedf.quantize.accuracy.verify import Verification
from edgedf.runtime.interleaved import LatencyRatio

__all__ = [
    "Count",
    "Difference",
    "FieldChange",
    "Latency",
    "LayerChange",
    "Ratio",
    "RatioName",
    "Side",
]

RatioName = Literal["size_ratio", "latency_ratio"]


@dataclass(frozen=True)
class Side:
    """One of the two files.

    Args:
        path: Where it lies.
        format: ``tflite`` or ``onnx``.
        model_id: Name, version and precision, from its spec.
        bytes: Size of the file.
        sha256: Of the file.
        layers: How many layers have each precision, the most frequent first.
        pieces: Partitions that XNNPACK takes over; None for ONNX.
        undelegated: Operators outside them; None for ONNX.
    """

    path: str
    format: ModelFormat
    model_id: str
    bytes: int
    sha256: str
    layers: dict[str, int]
    pieces: int | None
    undelegated: int | None


@dataclass(frozen=True)
class FieldChange:
    """A field of the spec that differs.

    Args:
        field: Its path, such as ``calibration.samples``.
        first: Value in A, as text; ``none`` where it has none.
        second: Value in B.
        note: How two long tables differ; empty for other fields.
    """

    field: str
    first: str
    second: str
    note: str = ""


@dataclass(frozen=True)
class Count:
    """How often something occurs.

    Args:
        name: What is counted.
        first: In A.
        second: In B.
    """

    name: str
    first: int
    second: int


@dataclass(frozen=True)
class LayerChange:
    """A layer that computes in something else, or that only one of the files has.

    Args:
        tensor: Name of the tensor it makes; layers are matched by it.
        name: A shorter one, for people.
        operator: Such as ``CONV_2D``.
        first: Precision in A; None where A has no such layer.
        second: Precision in B; likewise.
    """

    tensor: str
    name: str
    operator: str
    first: str | None
    second: str | None


@dataclass(frozen=True)
class Latency:
    """How long both take, by turns.

    Args:
        measured: Both latencies and their ratio.
        first_runtime: Package and version that ran A.
        second_runtime: Likewise B.
        threads: Given to each.
        host: The machine.
        remark: That int8 is slower than float there, and what to make of it; else empty.
    """

    measured: LatencyRatio
    first_runtime: str
    second_runtime: str
    threads: int
    host: Host
    remark: str = ""


@dataclass(frozen=True)
class Ratio:
    """A figure of B divided by that of A, against its limit.

    Args:
        name: Which one.
        verdict: pass where it is within the limit, whole interval included; fail where it is above,
            whole interval included.
        value: The estimate.
        low: Lower end of its 95 % interval; None where it is exact, as for sizes.
        high: Upper end; likewise.
        limit: The most; None for no limit.
    """

    name: RatioName
    verdict: Verdict
    value: float
    low: float | None
    high: float | None
    limit: float | None

    @classmethod
    def judged(
        cls,
        name: RatioName,
        value: float,
        limit: float | None,
        *,
        low: float | None = None,
        high: float | None = None,
    ) -> Ratio:
        """Hold a ratio against its limit.

        Args:
            name: Which one.
            value: The estimate.
            limit: The most; None for no limit.
            low: Lower end of its interval; None for an exact one.
            high: Upper end.
        """
        verdict: Verdict = "pass"
        if limit is not None and (value if high is None else high) > limit:
            verdict = "fail" if (value if low is None else low) > limit else "cannot tell"
        return cls(name, verdict, value, low, high, limit)


@dataclass(frozen=True)
class Difference:
    """The outcome of :func:`edgedf.quantize.diff.compare.diff`.

    Args:
        verdict: What all limits say together; pass where nothing was held against any.
        identical: Whether the two files have the same bytes; nothing was run then.
        first: File A.
        second: File B.
        spec: Fields of the spec that differ.
        operators: Operators whose number differs.
        same_format: Whether both have the same format, so that layers were matched by name.
        layers: Layers that differ in precision, or that only one file has, in order of execution;
            empty for different formats.
        matched: How many layers both have.
        ratios: Size, and latency where it was measured, against their limits.
        limits: What B may lose.
        verification: What was measured on pictures, with A as the parent and B as the artifact;
            None where nothing was.
        latency: None where it was not measured.
    """

    verdict: Verdict
    identical: bool
    first: Side
    second: Side
    spec: tuple[FieldChange, ...]
    operators: tuple[Count, ...]
    same_format: bool
    layers: tuple[LayerChange, ...]
    matched: int
    ratios: tuple[Ratio, ...]
    limits: DiffLimits
    verification: Verification | None = None
    latency: Latency | None = None
