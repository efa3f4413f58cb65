"""What a conversion made, and what the proof said."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgedf import typed_json
from edgedf.artifact import ModelFormat
from edgedf.errors import ParityError
from edgedf.formats import format_named
from edgedf.precision import PrecisionName
from edgedf.quantize.accuracy.diagnosis import Diagnosis, next_step, sentence
from edgedf.quantize.accuracy.parity import Comparison, reasons
from edgedf.quantize.accuracy.verify import Verification
from edgedf.quantize.accuracy.wording import headline
from edgedf.quantize.auto.search import SearchResult
from edgedf.quantize.calibration.audit import CalibrationAudit
from edgedf.quantize.calibration.images import Skipped
from edgedf.result import Threshold
from edgedf.runtime.int8_speed import Int8Speed
from edgedf.spec import Calibration, LayerOverride, Recalibration

__all__ = ["ConversionReport", "ConvertedModel"]


@dataclass(frozen=True)
class ConvertedModel:
    """One file that was made.

    Args:
        format: ``tflite`` or ``onnx``.
        path: Where it is, or would have been.
        written: Whether it is there; False when the proof failed.
        bytes: Size of the file.
        source_bytes: Size of the float file it was made from.
        sha256: SHA-256 of the file.
        operators: How often each operator occurs in the file.
        boundary_operators: Those that change the type at the input and the outputs, such as
            ``CAST uint8 → float32``; empty unless the model is int8.
        float_operators: Those that compute in floating point although the model is int8, and
            were not asked to: by the types in the file for TFLite, by what ONNX Runtime makes of it
            for ONNX.
        delegate_partitions: Pieces in which XNNPACK, the CPU's delegate, takes the operators over;
            None for ONNX.
        undelegated_operators: Names of those that it leaves to the interpreter.
        seconds: Time to make it, proof excluded.
        kept: Layers that were kept in another precision, as asked.
        kept_operators: How many operators of each name compute in it, with the conversions around
            them; empty unless the rest is int8.
        kept_in_vain: Names of operators of such layers that compute in int8 nevertheless.
        threshold: Its thresholds.
        recalibration: What they change against its original's; None without labels enough.
        diagnosis: What is to blame, the model or this processor's int8 kernels; None where the file
            agrees with its original or computes in float.
        speed: How fast it is beside the float file on this machine; None where the file computes in
            float, or where one of the two does not run.
        session_options: What an app has to set where it opens the file with a session of its own.
        forced: Whether it was made although the lint objects, so that float operators are known.
    """

    format: ModelFormat
    path: Path
    written: bool
    bytes: int
    source_bytes: int
    sha256: str
    operators: dict[str, int]
    boundary_operators: tuple[str, ...]
    float_operators: tuple[str, ...]
    delegate_partitions: int | None
    undelegated_operators: tuple[str, ...]
    seconds: float
    kept: tuple[LayerOverride, ...] = ()
    kept_operators: dict[str, int] = field(default_factory=dict)
    kept_in_vain: tuple[str, ...] = ()
    forced: bool = False
    threshold: Threshold | None = None
    recalibration: Recalibration | None = None
    diagnosis: Diagnosis | None = None
    speed: Int8Speed | None = None
    session_options: dict[str, str] = field(default_factory=dict)

    @property
    def misplaced(self) -> tuple[str, ...]:
        """Float operators that an int8 model must not have."""
        if self.forced:
            return ()
        tolerated = format_named(self.format).float_kernels
        return tuple(name for name in self.float_operators if name not in tolerated)


@dataclass(frozen=True)
class ConversionReport:
    """The outcome of :func:`edgedf.convert`.

    Args:
        source: What was converted, in words.
        model: Name and version of the model.
        precision: Precision of the files.
        models: The files.
        images: Where the images came from, in words.
        calibration: How ranges were found; None when nothing was calibrated.
        held_out: Number of images that calibration never saw.
        skipped: Images that could not be used.
        comparisons: The proof.
        seconds: Wall-clock time per stage, and ``total``.
        gate: What each file loses on the gate's pictures; empty without a gate, or where the
            comparisons have failed already.
        searches: For ``auto``: the stages that were tried, for each format.
        audit: What is wrong with the calibration; None when nothing was calibrated. Its findings
            do not decide whether the files are written: the comparisons and the gate do.
    """

    source: str
    model: str
    precision: PrecisionName
    models: tuple[ConvertedModel, ...]
    images: str
    calibration: Calibration | None
    held_out: int
    skipped: tuple[Skipped, ...]
    comparisons: tuple[Comparison, ...]
    seconds: dict[str, float]
    gate: tuple[Verification, ...] = ()
    audit: CalibrationAudit | None = None
    searches: tuple[SearchResult, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether comparisons, types of operators and the gate, if there was one, are all right."""
        return (
            all(comparison.passed for comparison in self.comparisons)
            and not any(model.misplaced or model.kept_in_vain for model in self.models)
            and all(verification.passed for verification in self.gate)
            and all(search.passed for search in self.searches)
        )

    def raise_if_failed(self) -> None:
        """Do nothing when the proof succeeded.

        Raises:
            ParityError: It failed; the message says where.
        """
        if self.passed:
            return
        failures = [
            f"{c.model} against {c.reference} on {c.n} {c.images} images: {reason}"
            for c in self.comparisons
            for reason in reasons(c)
        ]
        failures += [
            f"{model.path.name}: {sentence(model.diagnosis)}"
            for model in self.models
            if model.diagnosis is not None
        ]
        failures += [
            f"{model.path.name} computes in float: {', '.join(model.misplaced)}"
            for model in self.models
            if model.misplaced
        ]
        failures += [
            f"{model.path.name} computes in int8 although kept: {', '.join(model.kept_in_vain)}"
            for model in self.models
            if model.kept_in_vain
        ]
        failures += [
            f"the gate on {verification.data}: {verification.artifact}: {headline(verification)}"
            for verification in self.gate
            if not verification.passed
        ]
        failures += [
            f"no stage of the search passes for .{search.model}"
            for search in self.searches
            if search.passed is None
        ]
        written = any(model.written for model in self.models)
        raise ParityError(
            "The converted model does not agree with its original.\n  " + "\n  ".join(failures),
            expected="every row of the report with ✓",
            next_step="do not ship the files that were kept"
            if written
            else f"nothing was written; {self._advice()}",
        )

    def _advice(self) -> str:
        for model in self.models:
            if model.diagnosis is not None:
                advice = next_step(model.diagnosis, model.format)
                if advice is not None:
                    return advice
        if self.searches:
            return (
                "judge by more pictures where the gate cannot tell, give --qat-minutes a budget, "
                "or convert to int8-weights or fp16"
            )
        return "calibrate with more images like those the model will see, or --precision auto"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; numbers that are not finite become null."""
        text = json.dumps(typed_json.encode(self), default=str)  # paths as text
        data: dict[str, Any] = json.loads(text, parse_constant=lambda _: None)
        data["passed"] = self.passed
        for entry, comparison in zip(data["comparisons"], self.comparisons, strict=True):
            entry["passed"] = comparison.passed
        return data
