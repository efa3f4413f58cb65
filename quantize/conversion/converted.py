"""What there is to say of a file that was made, as the report has it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgedf.files import sha256_of
from edgedf.quantize.conversion.report import ConvertedModel
from edgedf.quantize.inspection.operators import (
    boundary_operators,
    count_operators,
    executed_operators,
    list_operators,
    xnnpack_partitions,
)
from edgedf.quantize.making.kept_layers import Keep, kept_layers
from edgedf.quantize.making.kept_operators import found_kept
from edgedf.quantize.making.make import MadeFile
from edgedf.quantize.precision import computes_in_integers
from edgedf.quantize.sources.source import Source

__all__ = ["describe_file"]


def describe_file(
    made: MadeFile,
    target: Path,
    source: Source,
    keep: Sequence[Keep],
    *,
    seconds: float,
    forced: bool,
) -> ConvertedModel:
    """Look into a file.

    Args:
        made: The file.
        target: Where it is to go.
        source: What it was made from.
        keep: Layers that were to be kept in another precision.
        seconds: Time to make it.
        forced: Whether it was made although the lint may object.
    """
    file, name, precision = made.file, made.format, made.spec.precision
    kept = kept_layers(made.prepared, name, keep, precision)
    operators = list_operators(file, name)
    typed = operators if name == "tflite" else executed_operators(file)
    is_int8 = computes_in_integers(precision, name)
    pieces = xnnpack_partitions(file) if name == "tflite" else None
    taken = {index for piece in pieces or () for index in piece.operators}
    found = found_kept(typed, kept, name) if is_int8 else None
    ends = boundary_operators(typed) if is_int8 else ()
    return ConvertedModel(
        format=name,
        path=target,
        written=False,
        bytes=len(file),
        source_bytes=len(source.models[name]),
        sha256=sha256_of(file),
        operators=count_operators(operators),
        boundary_operators=tuple(str(operator) for operator in ends),
        float_operators=() if found is None else found.misplaced,
        delegate_partitions=None if pieces is None else len(pieces),
        undelegated_operators=tuple(
            operator.name
            for index, operator in enumerate(operators)
            if pieces is not None and index not in taken
        ),
        seconds=seconds,
        kept=kept.overrides,
        session_options=made.spec.session_options,
        forced=forced,
        threshold=made.spec.threshold,
        recalibration=made.spec.recalibration,
        kept_operators={} if found is None else found.operators,
        kept_in_vain=() if found is None else found.missing,
    )
