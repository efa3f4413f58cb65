"""What there is to say of a file that was made, as the report has it."""

from __future__ import annotations

from pathlib import Path

from edgedf.files import sha256_of
from edgedf.formats import format_named
from edgedf.formats.operators import boundary_operators, count_operators
from edgedf.quantize.conversion.report import ConvertedModel
from edgedf.quantize.making.make import MadeFile
from edgedf.quantize.sources.source import Source

__all__ = ["describe_file"]


def describe_file(
    made: MadeFile, target: Path, source: Source, *, seconds: float, forced: bool
) -> ConvertedModel:
    """Look into a file.

    Args:
        made: The file.
        target: Where it is to go.
        source: What it was made from.
        seconds: Time to make it.
        forced: Whether it was made although the lint may object.
    """
    graph, kept = made.graph, made.kept
    is_integer = made.spec.precision in format_named(made.format).integer_precisions
    operators, partitions = graph.operators(), graph.partitions()
    taken = {index for partition in partitions or () for index in partition.operators}
    computed = graph.computed() if is_integer else None
    found = None if computed is None else graph.found_kept(computed, kept)
    return ConvertedModel(
        format=made.format,
        path=target,
        written=False,
        bytes=len(made.file),
        source_bytes=len(source.models[made.format].file),
        sha256=sha256_of(made.file),
        operators=count_operators(operators),
        boundary_operators=tuple(map(str, boundary_operators(computed or ()))),
        float_operators=() if found is None else found.misplaced,
        delegate_partitions=None if partitions is None else len(partitions),
        undelegated_operators=tuple(
            operator.name
            for index, operator in enumerate(operators)
            if partitions is not None and index not in taken
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
