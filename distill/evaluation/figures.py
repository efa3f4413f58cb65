"""A student's figures on records, for its spec, its card and its report."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgedf.distill.optics.maps import defocus_map
from edgedf.distill.records.making import at_stride
from edgedf.distill.records.targets import Records
from edgedf.figures import Figure, mean_with_interval
from edgedf.map_metrics import map_error_with_interval
from edgedf.metrics import auc_with_interval
from edgedf.result import Threshold, sigmoid
from edgedf.spec import MAP_STRIDE, Accuracy

__all__ = ["RENDERED", "as_accuracy", "measure", "physical_map_error"]

RENDERED = "rendered depth of field"


def measure(
    records: Records,
    logits: NDArray[np.float64],
    maps: NDArray[np.float32] | None,
    split: str,
    threshold: Threshold | None = None,
) -> tuple[Accuracy, ...]:
    """All figures of a split, by set, for the model's spec and card.

    Args:
        records: Records of whole pictures and self-blends.
        logits: (n,).
        maps: (n, h, w), sigma in pixels; None leaves their errors out.
        split: Its name.
        threshold: Turns scores into verdicts; None leaves the shares of verdicts out.

    Returns:
        AUC for each set with both classes and of self-blended faces against the same set's real
        ones; the share of real pictures called fake, portrait-mode copies by themselves, and of
        fake ones; the map's error against the physical map for each set, and against the exact one
        for renderings.
    """
    kinds, sets, groups, labels = records.kinds, records.sets, records.groups, records.labels
    names = sorted(set(sets.tolist()))
    figures: list[Accuracy] = []

    def add(name: str, metric: str, figure: Figure) -> None:
        figures.append(as_accuracy(f"{name} {split}", metric, figure))

    def chosen(name: str, kind: str, label: float | None = None) -> NDArray[np.intp]:
        is_of = (sets == name) & (kinds == kind)
        return np.flatnonzero(is_of if label is None else is_of & (labels == label))

    for name in names:
        whole, swapped = chosen(name, "whole"), chosen(name, "self_blend")
        if len(set(labels[whole].tolist())) == 2:
            add(name, "AUC", auc_with_interval(labels[whole], logits[whole], groups[whole]))
        if swapped.size:
            both = np.concatenate([chosen(name, "whole", 0), swapped])
            figure = auc_with_interval(labels[both], logits[both], groups[both])
            add(f"{name} self-blended", "AUC", figure)
    if threshold is not None:
        called = np.array([threshold.label(sigmoid(x)) == "fake" for x in logits])
        real = "real pictures called fake"
        shares = [(name, real, chosen(name, "whole", 0)) for name in names]
        shares += [(name, "fakes called fake", chosen(name, "whole", 1)) for name in names]
        shares += [(f"{name} in portrait mode", real, chosen(name, "portrait")) for name in names]
        for title, metric, part in shares:
            if part.size:
                add(title, metric, mean_with_interval(called[part], groups[part]))
    if maps is not None:
        physical = "map error against the physical map (mean absolute, px)"
        errors = [(name, physical, chosen(name, "whole")) for name in names]
        errors.append((RENDERED, "map error against the exact map (px)", records.rendered))
        for title, metric, part in errors:
            if part.size:
                figure = map_error_with_interval(maps[part], records.maps[part], groups[part])
                add(title, metric, figure)
    return tuple(figures)


def physical_map_error(records: Records, split: str) -> tuple[Accuracy, ...]:
    """Error of the physical map, computed from the pictures, against the exact one.

    The baseline for a student's error on the same renderings.

    Args:
        records: Some of them rendered.
        split: Their name.

    Returns:
        One figure, or none where nothing is rendered.
    """
    rendered = records.subset(records.rendered)
    if not len(rendered):
        return ()
    maps = [at_stride(defocus_map(image, "physical"), MAP_STRIDE) for image in rendered.images]
    figure = map_error_with_interval(np.stack(maps), rendered.maps, rendered.groups)
    title = "physical map's error against the exact map (px)"
    return (as_accuracy(f"{RENDERED} {split}", title, figure),)


def as_accuracy(dataset: str, metric: str, figure: Figure) -> Accuracy:
    """A figure of a float model as specs and cards hold it, rounded to four digits."""
    value, low, high = (round(x, 4) for x in (figure.value, figure.low, figure.high))
    return Accuracy(dataset, metric, value, low, high, n=figure.n, model="fp32")
