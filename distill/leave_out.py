"""How well the student's verdict carries over: each source left out of the fit, then judged.

What a detector gains on its own sources says little about others. Here all pictures of a source
(or of the sources that make up a set's two classes) are kept from the fit, and the verdict is
measured on them, over all splits, as training has seen none of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from edgedf.distill.backbones import load_imagenet_weights
from edgedf.distill.data import Sample, read_manifest
from edgedf.distill.probe import balance, fit_probe
from edgedf.distill.student import Student, StudentConfig
from edgedf.distill.targets import FACE_SETS, SHARP_SETS, TargetSettings, compute, plan
from edgedf.distill.verdict import set_thresholds, statistics_of
from edgedf.errors import DataError
from edgedf.metrics import auc_with_interval
from edgedf.progress import Progress, silent
from edgedf.spec import Accuracy

__all__ = ["Unit", "leave_one_source_out", "units"]


@dataclass(frozen=True)
class Unit:
    """What is left out together.

    Args:
        name: For tables.
        sources: Names of the sources.
    """

    name: str
    sources: frozenset[str]


def units(samples: Sequence[Sample]) -> tuple[Unit, ...]:
    """What can be left out and measured by itself, as it has both classes.

    A source with both classes is a unit. The other sources of a set are a unit together where
    real and fake ones are as many (a set of one camera against one generator); else they have no
    counterpart and always stay in.

    Args:
        samples: Pictures of any splits.
    """
    classes: dict[str, set[str]] = defaultdict(set)
    of_set: dict[str, set[str]] = defaultdict(set)
    for sample in samples:
        classes[sample.source].add(sample.label)
        of_set[sample.set].add(sample.source)
    found = {
        source: Unit(source, frozenset([source])) for source in classes if _both(classes[source])
    }
    for name, sources in of_set.items():
        single = [source for source in sources if source not in found]
        real = [source for source in single if "real" in classes[source]]
        if real and 2 * len(real) == len(single):
            found[name] = Unit(name, frozenset(single))
    return tuple(found[name] for name in sorted(found))


def leave_one_source_out(
    data: str | Path,
    *,
    student: StudentConfig | None = None,
    penalty: float = 3.0,
    cache: str | Path,
    workers: int = 2,
    progress: Progress = silent,
) -> tuple[Accuracy, ...]:
    """AUC on each unit with the student's head fitted without it.

    The encoder is ImageNet's, and pictures are shown unchanged and whole, with self-blends of real
    faces and portrait-mode copies in the fit.

    Args:
        data: Folder with ``manifest.csv``.
        student: Architecture.
        penalty: See :func:`edgedf.distill.probe.fit_probe`.
        cache: Folder for pictures and maps.
        workers: Processes that compute maps.
        progress: Told about maps and statistics.

    Returns:
        A figure a unit, and their mean (whose interval is left at its value).

    Raises:
        DataError: Nothing can be left out.
    """
    config = student or StudentConfig()
    dataset = read_manifest(data)
    samples = [s for s in dataset.samples if s.set not in SHARP_SETS]
    chosen = units(samples)
    if len(chosen) < 2:
        raise DataError(
            f"Nothing in {data} can be left out.",
            expected="two sources or sets with both classes, one to fit to and one to judge",
            next_step="add pictures of another source",
        )
    records = compute(
        plan(
            samples,
            crops=0,
            renderings=0,
            self_blends=1,
            portraits=1,
            face_sets=FACE_SETS,
            sharp_sets=SHARP_SETS,
        ),
        cache,
        TargetSettings(size=config.input_size),
        workers=workers,
        progress=progress,
    )
    torch.manual_seed(0)
    network = Student(config).eval()
    load_imagenet_weights(network.encoder)
    set_thresholds(network, records.images[:: max(1, len(records) // 1024)], progress)
    found = statistics_of(network, iter(records.images), len(records), progress)
    source = np.array([job.sample.source for job in records.jobs])
    whole = np.array([job.kind == "whole" for job in records.jobs])
    groups = np.array([job.sample.group for job in records.jobs], dtype=object)
    domains = [f"{job.sample.source} {job.kind}" for job in records.jobs]
    figures = []
    for number, unit in enumerate(chosen):
        out = np.isin(source, sorted(unit.sources))
        fitted = np.flatnonzero(~out)
        labels = records.labels[fitted]
        weights = balance([domains[index] for index in fitted], labels)
        probe = fit_probe(found[fitted], 2 * labels - 1, weights, penalty=penalty)
        # A source's pictures may be in several sets; each picture is judged where it is whole.
        for name in sorted(
            {job.sample.set for job, is_out in zip(records.jobs, out, strict=True) if is_out}
        ):
            of_set = np.array([job.sample.set == name for job in records.jobs])
            judged = np.flatnonzero(out & whole & of_set)
            if len(set(records.labels[judged].tolist())) < 2:
                continue
            figure = auc_with_interval(records.labels[judged], probe(found[judged]), groups[judged])
            values = (round(x, 4) for x in (figure.value, figure.low, figure.high))
            title = f"{name} without {unit.name}"
            figures.append(Accuracy(title, "AUC", *values, n=figure.n, model="fp32"))
        progress("left out", number + 1, len(chosen))
    return tuple(figures)


def _both(labels: set[str]) -> bool:
    return len(labels) > 1
