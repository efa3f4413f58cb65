"""How well a verdict carries over: each source left out of the fit, then judged.

What a detector gains on its own sources says little about others. Here all pictures of a source
(or of the sources that make up a set's two classes) are kept from the fit, and the verdict is
measured on them, over all splits, as training has seen none of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgedf.distill.datasets.dataset import Sample, read_manifest
from edgedf.distill.evaluation.figures import as_accuracy
from edgedf.distill.records.making import TargetSettings
from edgedf.distill.records.plan import plan
from edgedf.distill.records.targets import Indices, Records, compute
from edgedf.distill.settings import SHARP_SETS, PictureSettings
from edgedf.errors import DataError
from edgedf.figures import check_both_classes
from edgedf.metrics import auc_with_interval
from edgedf.progress import Progress, silent
from edgedf.spec import Accuracy

__all__ = ["Fold", "Unit", "every_record", "in_domain", "left_out", "left_out_units", "units"]


@dataclass(frozen=True)
class Unit:
    """What is left out together.

    Args:
        name: For tables.
        sources: Names of the sources.
    """

    name: str
    sources: frozenset[str]


@dataclass(frozen=True, eq=False)
class Fold:
    """What a verdict is fitted to, and what it is measured on.

    Args:
        name: For tables and file names.
        fitted: Numbers of the records that are learned from.
        judged: Numbers of the records that are measured together, by title.
    """

    name: str
    fitted: Indices
    judged: Mapping[str, Indices]

    def figures(
        self, records: Records, judge: Callable[[Indices], NDArray[np.float64]]
    ) -> tuple[Accuracy, ...]:
        """AUC with interval for each title.

        Args:
            records: All of them.
            judge: Gives logits for some.
        """
        return tuple(
            as_accuracy(
                title,
                "AUC",
                auc_with_interval(records.labels[part], judge(part), records.groups[part]),
            )
            for title, part in self.judged.items()
        )


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
    by_name = {
        source: Unit(source, frozenset([source])) for source in classes if _both(classes[source])
    }
    for name, sources in of_set.items():
        single = [source for source in sources if source not in by_name]
        real = [source for source in single if "real" in classes[source]]
        if real and 2 * len(real) == len(single):
            by_name[name] = Unit(name, frozenset(single))
    return tuple(by_name[name] for name in sorted(by_name))


def every_record(
    data: str | Path,
    cache: str | Path,
    *,
    size: int = 256,
    seed: int = 0,
    workers: int = 2,
    progress: Progress = silent,
) -> Records:
    """Records of all splits: whole pictures, self-blends of real faces, portrait-mode copies.

    Args:
        data: Folder with ``manifest.csv``.
        cache: Folder for pictures and maps.
        size: Side of the pictures.
        seed: Of everything random.
        workers: Processes that compute maps.
        progress: Told how many records are there.

    Raises:
        DataError: The manifest cannot be used, or more than 5 % of its pictures.
        OutputError: The cache cannot be written.
    """
    samples = [s for s in read_manifest(data).samples if s.set not in SHARP_SETS]
    jobs = plan(samples, PictureSettings(crops=0, renderings=0))
    targets = TargetSettings(size=size, seed=seed)
    return compute(jobs, cache, targets, workers=workers, progress=progress)


def left_out(records: Records) -> tuple[Fold, ...]:
    """A fold for each unit: fitted to all else, measured on its whole pictures by set.

    Args:
        records: From :func:`every_record`.

    Raises:
        DataError: Nothing can be left out.
    """
    chosen = left_out_units([job.sample for job in records.jobs])
    sources = np.array([job.sample.source for job in records.jobs])
    sets = records.sets
    whole = records.kinds == "whole"
    folds = []
    for unit in chosen:
        out = np.isin(sources, sorted(unit.sources))
        judged = {}
        # A source's pictures may be in several sets; each picture is judged where it is whole.
        for name in sorted(set(sets[out].tolist())):
            part = np.flatnonzero(out & whole & (sets == name))
            if _both(set(records.labels[part].tolist())):
                judged[f"{name} without {unit.name}"] = part
        folds.append(Fold(f"without {unit.name}", np.flatnonzero(~out), judged))
    return tuple(folds)


def in_domain(records: Records) -> Fold:
    """The fold that is fitted to the training split and measured on the test split.

    Args:
        records: From :func:`every_record`.

    Raises:
        DataError: The training split lacks a class.
    """
    splits = np.array([job.sample.split for job in records.jobs])
    sets = records.sets
    kinds = records.kinds
    judged = {}
    for name in sorted(set(sets.tolist())):
        test = (sets == name) & (splits == "test")
        whole = np.flatnonzero(test & (kinds == "whole"))
        if _both(set(records.labels[whole].tolist())):
            judged[f"{name} test"] = whole
        swapped = np.flatnonzero(test & (kinds == "self_blend"))
        if swapped.size:
            real = whole[records.labels[whole] == 0]
            judged[f"{name} self-blended test"] = np.concatenate([real, swapped])
    fitted = np.flatnonzero(splits == "train")
    check_both_classes(records.labels[fitted], "Fitting to the training split needs")
    return Fold("test", fitted, judged)


def left_out_units(samples: Sequence[Sample]) -> tuple[Unit, ...]:
    """As :func:`units`, at least two of them.

    Args:
        samples: Pictures of any splits.

    Raises:
        DataError: Nothing can be left out.
    """
    chosen = units(samples)
    if len(chosen) < 2:
        raise DataError(
            "Nothing can be left out.",
            expected="two sources or sets with both classes, one to fit to and one to judge",
            next_step="add pictures of another source",
        )
    return chosen


def _both(classes: set[str] | set[float]) -> bool:
    return len(classes) > 1
