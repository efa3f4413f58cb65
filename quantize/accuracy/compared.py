"""From what two models say of each picture to the figures that the gate judges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from edgedf.figures import correlation_with_interval, mean_with_interval
from edgedf.metrics import paired_metrics
from edgedf.quantize.accuracy.gate import Agreement, Measurements
from edgedf.quantize.accuracy.parity import PairStatistics, output_parity
from edgedf.result import Label

__all__ = ["Answers", "Compared", "measure", "worst_of"]


@dataclass(frozen=True)
class Compared:
    """What two models say of one picture.

    Args:
        file: Its path.
        label: The truth; ``unknown`` where there are no labels.
        parent_score: Fake score in [0, 1].
        artifact_score: That of the artifact, likewise.
        parent_verdict: Verdict by the parent's own thresholds.
        artifact_verdict: Verdict by the artifact's own.
        map_error: Mean absolute difference of the two maps, in pixels of the input.
    """

    file: str
    label: Literal["real", "fake", "unknown"]
    parent_score: float
    artifact_score: float
    parent_verdict: Label
    artifact_verdict: Label
    map_error: float

    @property
    def flipped(self) -> bool:
        """Whether real became fake or the other way round."""
        return {self.parent_verdict, self.artifact_verdict} == {"real", "fake"}

    @property
    def changed(self) -> bool:
        """Whether the verdict changed to or from unsure."""
        return self.parent_verdict != self.artifact_verdict and not self.flipped


class Answers(NamedTuple):
    """What two models say of one picture, and the group that the bootstrap draws it with."""

    compared: Compared
    group: str
    parent_logit: float
    artifact_logit: float


def measure(seen: Sequence[Answers], maps: PairStatistics) -> Measurements:
    """Figures over all pictures, each with its interval.

    Args:
        seen: What the models say of each picture, at least one.
        maps: Statistics of all pixels of their maps.
    """
    pictures, groups = [answers.compared for answers in seen], [answers.group for answers in seen]
    parent = np.array([answers.parent_logit for answers in seen])
    artifact = np.array([answers.artifact_logit for answers in seen])
    flipped = np.array([entry.flipped for entry in pictures])
    labels = np.array([float(entry.label == "fake") for entry in pictures])
    both_classes = {"real", "fake"} == {entry.label for entry in pictures}
    curve = paired_metrics(labels, parent, artifact, groups) if both_classes else None
    logit = _agreement("fake_logit", PairStatistics().add(artifact, parent))
    if logit.correlation is not None:
        figure = correlation_with_interval(parent, artifact, groups)
        logit = replace(logit, correlation=figure.value, interval=figure)
    return Measurements(
        pictures=len(seen),
        groups=len(set(groups)),
        flipped=int(flipped.sum()),
        changed=sum(entry.changed for entry in pictures),
        flips=mean_with_interval(flipped, groups),
        map_error=mean_with_interval(np.array([entry.map_error for entry in pictures]), groups),
        map_range=maps.original_range,
        map_mean=maps.original_mean,
        logit=logit,
        map=_agreement("defocus_map", maps),
        auc=None if curve is None else curve.auc,
        tpr_at_1_percent_fpr=None if curve is None else curve.tpr_at_1_percent_fpr,
    )


def _agreement(name: str, statistics: PairStatistics) -> Agreement:
    parity = output_parity(name, statistics)
    varies = statistics.spreads[1] > 0.0
    return Agreement(
        parity.correlation, parity.dead and varies, varies, parity.max_abs, parity.mean_abs
    )


def worst_of(pictures: Sequence[Compared], count: int, map_range: float) -> tuple[Compared, ...]:
    """The pictures on which the models differ most, as ``Verification.worst`` says.

    Args:
        pictures: What the models say of each.
        count: How many to return, at most.
        map_range: Largest minus smallest value of the parent's maps.
    """

    def badness(entry: Compared) -> tuple[bool, bool, float]:
        of_map = entry.map_error / map_range if map_range > 0.0 else entry.map_error
        of_score = abs(entry.artifact_score - entry.parent_score)
        return entry.flipped, entry.changed, max(of_score, of_map)

    return tuple(sorted(pictures, key=badness, reverse=True)[:count])
