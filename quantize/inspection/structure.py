"""What a model file consists of: operators, layers and what each computes in, partitions.

A *layer* is an operator that computes something, together with its weights: not one that only
changes a type or moves values. What it computes in is read off its activations and its weights,
wherever the conversions between them stand in the file.
"""

from __future__ import annotations

import collections
from dataclasses import dataclass

from edgedf.artifact import Artifact
from edgedf.formats import open_graph
from edgedf.formats.operators import LayerPrecision, count_operators

__all__ = ["Structure", "structure_of"]


@dataclass(frozen=True)
class Structure:
    """What a model file consists of.

    Args:
        operators: How often each operator occurs in the file, the most frequent first.
        layers: In order of execution.
        pieces: Partitions that the format's delegate takes over; None where it has none.
        undelegated: Operators outside them; None likewise.
    """

    operators: dict[str, int]
    layers: tuple[LayerPrecision, ...]
    pieces: int | None
    undelegated: int | None

    @property
    def precisions(self) -> dict[str, int]:
        """How many layers have each precision, the most frequent first."""
        counts = collections.Counter(layer.precision for layer in self.layers)
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def structure_of(artifact: Artifact) -> Structure:
    """Take a model file apart.

    Args:
        artifact: A model of ours.

    Raises:
        MissingExtra: What reads the format is not installed.
    """
    graph = open_graph(artifact.model, artifact.format)
    operators, partitions = graph.operators(), graph.partitions()
    taken = {index for partition in partitions or () for index in partition.operators}
    return Structure(
        count_operators(operators),
        graph.layer_precisions(),
        None if partitions is None else len(partitions),
        None if partitions is None else len(operators) - len(taken),
    )
