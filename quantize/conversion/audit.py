"""The calibration audit of a conversion: what the audit asks for, measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgedf.evaluation import Picture
from edgedf.formats import ModelFormat
from edgedf.progress import Progress, silent
from edgedf.quantize.accuracy.verify import Gate
from edgedf.quantize.calibration.audit import (
    CalibrationAudit,
    audit_calibration,
    facts_of_files,
)
from edgedf.quantize.calibration.coverage import TensorCoverage, coverage
from edgedf.quantize.calibration.image_facts import ImageFacts
from edgedf.quantize.calibration.images import CalibrationSet
from edgedf.quantize.layer_error.opening import MAX_PICTURES, choose_pictures
from edgedf.quantize.making.make import MadeFile

__all__ = ["audit_conversion"]


def audit_conversion(
    made: Mapping[ModelFormat, MadeFile],
    images: CalibrationSet,
    gate: Gate | None,
    seed: int,
    *,
    progress: Progress = silent,
) -> CalibrationAudit:
    """What is wrong with the calibration, on the gate's pictures where there is a gate.

    Args:
        made: What was made, by format; at least one.
        images: What it was calibrated with, and held-out images.
        gate: Pictures that the files have to pass on; None without.
        seed: Of the choice among those.
        progress: Told about each image.
    """
    size = next(iter(made.values())).spec.input.height
    seen, judged = images.held_out[:MAX_PICTURES], tuple[ImageFacts, ...]()
    if gate is not None:
        seen = choose_pictures(gate.pictures, size, seed=seed, progress=progress)
        files = [p.file if isinstance(p, Picture) else str(p) for p in gate.pictures]
        judged = facts_of_files(files, size, progress=progress)
    covered: dict[str, Sequence[TensorCoverage]] = {}
    for name, file in made.items():
        covered[name] = coverage(
            file.prepared.activations(),
            file.ranges,
            seen,
            fixed=file.prepared.fixed_ranges(),
            step=f"range coverage {name}",
            progress=progress,
        )
    return audit_calibration(images.facts, size, covered, len(seen), judged)
