"""How well a file's metadata alone tell real from fake, which nothing should be learned from.

Where real and fake pictures come from different sites, width, compression or file size often give
the answer away; a detector that learns them is right on that data set and nowhere else (Grommelt et
al., *Fake or JPEG? Revealing Common Biases in Generated Image Detection Datasets*, ECCV workshops
2024). So a small model is trained on metadata and asked about pictures it has not seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.tree import DecisionTreeClassifier

from edgedf.distill.datasets.splits import hash_order
from edgedf.figures import Figure
from edgedf.jpeg_tables import Tables
from edgedf.metrics import auc_with_interval
from edgedf.roc import auc

__all__ = ["FEATURES", "MIN_PICTURES", "FeatureAuc", "Leakage", "Metadata", "leakage"]

FEATURES = (
    "width",
    "height",
    "aspect ratio",
    "bytes",
    "bytes per pixel",
    "format",
    "quantisation tables",
)

MIN_PICTURES = 20
"""Fewest pictures of either class for an AUC; with fewer it is as good as chance."""

MAX_PICTURES = 20_000
"""Most pictures that are fitted; of more, those whose groups come first by their hash."""

_FOLDS = 5
_TREES = 100


@dataclass(frozen=True)
class Metadata:
    """What a file says without its picture.

    Args:
        width: Pixels, as stored.
        height: Pixels, as stored.
        bytes: Size of the file.
        format: ``jpeg``, ``png`` or ``webp``.
        tables: Quantisation tables of a JPEG.
    """

    width: int
    height: int
    bytes: int
    format: str
    tables: Tables = ()


@dataclass(frozen=True)
class FeatureAuc:
    """AUC of one feature by itself.

    Args:
        name: Of :data:`FEATURES`.
        auc: Of a decision tree on this feature, on pictures that it was not fitted to.
    """

    name: str
    auc: float


@dataclass(frozen=True)
class Leakage:
    """How well metadata tell real from fake.

    Args:
        auc: Of all features together, with its 95 % interval.
        features: Each by itself, the most telling first.
    """

    auc: Figure
    features: tuple[FeatureAuc, ...]


def leakage(
    metadata: Sequence[Metadata], fakes: Sequence[bool], groups: Sequence[str]
) -> Leakage | None:
    """Fit metadata by five-fold cross-validation; a group is never on both sides.

    All features together go through a random forest (Breiman 2001; 100 trees, at least 3 pictures a
    leaf), each by itself through a decision tree with at least 2 % of the pictures a leaf, so that
    a feature may tell in any direction.

    Args:
        metadata: Of each picture.
        fakes: Whether each is fake.
        groups: Group of each.

    Returns:
        The figures, the same on every run; None with fewer than :data:`MIN_PICTURES` of either
        class, or all of a class in one group.
    """
    chosen = _chosen(groups)
    labels = np.array(fakes, np.float64)[chosen]
    tied = [groups[index] for index in chosen.tolist()]
    _, codes = np.unique(np.array(tied, dtype=object).astype(str), return_inverse=True)
    folds = min(_FOLDS, *(len(set(codes[labels == label].tolist())) for label in (0, 1)))
    if min((labels == 0).sum(), (labels == 1).sum()) < MIN_PICTURES or folds < 2:
        return None
    features = _matrix([metadata[index] for index in chosen.tolist()])
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=0)
    parts = list(splitter.split(features, labels, codes))
    forest = RandomForestClassifier(_TREES, min_samples_leaf=3, random_state=0, n_jobs=1)
    together = _out_of_fold(forest, features, labels, parts)
    tree = DecisionTreeClassifier(
        min_samples_leaf=max(3, round(0.02 * len(labels))), random_state=0
    )
    alone = [
        FeatureAuc(name, auc(labels == 1, _out_of_fold(tree, features[:, [column]], labels, parts)))
        for column, name in enumerate(FEATURES)
    ]
    alone.sort(key=lambda feature: (-feature.auc, FEATURES.index(feature.name)))
    return Leakage(auc_with_interval(labels, together, tied), tuple(alone))


def _chosen(groups: Sequence[str]) -> NDArray[np.int64]:
    if len(groups) <= MAX_PICTURES:
        return np.arange(len(groups))
    line = sorted(range(len(groups)), key=lambda index: (hash_order(groups[index]), index))
    return np.array(sorted(line[:MAX_PICTURES]))


def _matrix(metadata: Sequence[Metadata]) -> NDArray[np.float64]:
    """(n, features). Formats and tables become numbers, tables in the order of their coarseness."""
    formats = sorted({one.format for one in metadata})
    tables = sorted(
        {one.tables for one in metadata}, key=lambda tables: (sum(map(sum, tables)), tables)
    )
    format_code = {name: code for code, name in enumerate(formats)}
    table_code = {entry: code for code, entry in enumerate(tables)}
    return np.array(
        [
            (
                one.width,
                one.height,
                one.width / one.height,
                one.bytes,
                one.bytes / (one.width * one.height),
                format_code[one.format],
                table_code[one.tables],
            )
            for one in metadata
        ],
        np.float64,
    )


def _out_of_fold(
    model: RandomForestClassifier | DecisionTreeClassifier,
    features: NDArray[np.float64],
    labels: NDArray[np.float64],
    parts: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
) -> NDArray[np.float64]:
    """Score of each picture from the model that was not fitted to it; 0.5 where nothing varies."""
    scores = np.full(len(labels), 0.5)
    if np.all(features == features[0]):
        return scores
    for fitted, held_out in parts:
        if len(set(labels[fitted].tolist())) == 2:  # a huge group may leave one class only
            model.fit(features[fitted], labels[fitted])
            scores[held_out] = model.predict_proba(features[held_out])[:, 1]
    return scores
