"""Teaching the teacher: statistics of frozen branches, a verdict for each, their sum, and a map.

The run's folder holds ``settings.toml``, what :mod:`edgedf.distill.training.loop` writes while the
map head learns, and at the end ``teacher.safetensors`` and ``teacher.json``. Statistics are kept
in the cache, shard by shard, so a run that is killed goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgedf import typed_json
from edgedf.distill.datasets.dataset import Dataset
from edgedf.distill.distributed import joined
from edgedf.distill.evaluation.figures import as_accuracy, measure, physical_map_error
from edgedf.distill.evaluation.thresholds import choose_threshold
from edgedf.distill.networks.checkpoints import fingerprint, save_teacher
from edgedf.distill.networks.probe import balance, calibrate, fit_probe
from edgedf.distill.networks.teacher import Teacher
from edgedf.distill.records.preparation import Splits, claimed, prepare
from edgedf.distill.records.targets import Records
from edgedf.distill.settings import TeacherConfig, TeachSettings
from edgedf.distill.training.loop import STATE
from edgedf.distill.training.map_task import Judged, maps_of, physical_maps
from edgedf.distill.training.taught import statistics_of_branch
from edgedf.distill.training.teach_maps import learn_head, take_head
from edgedf.evaluation import Skipped
from edgedf.files import write_text
from edgedf.metrics import detection_metrics
from edgedf.progress import Progress, silent
from edgedf.result import Threshold
from edgedf.spec import Accuracy

__all__ = ["FINAL", "REPORT", "TeachReport", "teach"]

FINAL, REPORT = "teacher.safetensors", "teacher.json"


class _Statistics(NamedTuple):
    """Statistics of a branch: (n, features) for each split."""

    training: NDArray[np.float16]
    validation: NDArray[np.float16]
    test: NDArray[np.float16]


_ByModality = dict[str, _Statistics]


@dataclass(frozen=True)
class TeachReport:
    """The outcome.

    Args:
        teacher: The teacher, its metadata inside.
        sha256: Of what it judges by; keys its outputs in caches.
        temperatures: What each branch's value, and the branches' mean, is divided by to be log
            odds, fitted on the validation split.
        calibration: Expected calibration error and Brier score, on validation and test.
        validation: Figures on the validation split.
        test: Figures on the test split, by set: of the whole, its map and the physical one on
            renderings, then of each branch by itself.
        skipped: Pictures that could not be read, of all splits.
    """

    teacher: Path
    sha256: str
    temperatures: dict[str, float]
    calibration: tuple[Accuracy, ...]
    validation: tuple[Accuracy, ...]
    test: tuple[Accuracy, ...]
    skipped: tuple[Skipped, ...] = ()


def teach(
    data: str | Path,
    out: str | Path,
    settings: TeachSettings | None = None,
    *,
    cache: str | Path | None = None,
    workers: int = 2,
    progress: Progress = silent,
) -> TeachReport:
    """Fit a teacher to a data set.

    Args:
        data: Folder with ``manifest.csv``; see :mod:`edgedf.distill.datasets.dataset`.
        out: Folder of the run.
        settings: Everything it depends on.
        cache: Folder for pictures, maps and statistics, which runs may share; None for one inside
            ``out``.
        workers: Processes that compute maps, for each of torchrun's.
        progress: Told about maps and statistics.

    Returns:
        The report, which is also in ``teacher.json``.

    Raises:
        CheckpointError: The map head's saved state is damaged, or its training has diverged.
        ConfigError: ``out`` holds a teacher with other settings or other data.
        DataError: The manifest cannot be used, or more than 5 % of a split's pictures.
        MissingExtra: The package with the ImageNet weights is not installed.
        OutputError: ``out`` or the cache cannot be written.
    """
    settings, folder = settings or TeachSettings(), Path(out)
    store = Path(cache) if cache is not None else folder / "cache"
    with joined(settings.loop.device) as world:
        tell = progress if world.is_main else silent
        dataset = world.on_main(lambda: claimed(Path(data), folder, settings, (STATE, FINAL)))
        # Built before the maps are computed: an architecture that cannot be is known at once.
        torch.manual_seed(settings.loop.seed)
        teacher = Teacher(_architecture(settings, dataset)).eval()
        teacher.load_imagenet()
        splits = prepare(
            dataset,
            settings,
            store,
            size=settings.input_size,
            seed=settings.loop.seed,
            world=world,
            workers=workers,
            progress=tell,
        )
        statistics: _ByModality = {}
        for branch in teacher.each():
            branch.to(world.device)
            statistics[branch.modality] = _Statistics(
                *(
                    statistics_of_branch(
                        branch, settings.teacher, records, store, world=world, progress=tell
                    )
                    for records in (splits.training, splits.validation, splits.test)
                )
            )
        head = teacher.map_head
        if head is not None:
            learn_head(
                teacher,
                head,
                splits,
                folder,
                store,
                settings.loop,
                rate=settings.rate,
                world=world,
                progress=tell,
            )
        teacher.to("cpu")

        def finish() -> TeachReport:
            if head is not None:
                take_head(head, folder)
            _fit(teacher, settings, splits, statistics)
            return _finish(teacher, settings, splits, statistics, folder, store, dataset.sha256)

        return world.on_main(finish)


def _architecture(settings: TeachSettings, dataset: Dataset) -> TeacherConfig:
    """The teacher's, without a map head where there will be no renderings to learn it from."""
    sharp = any(sample.set in settings.sharp_sets for sample in dataset.select(split="train"))
    if settings.renderings and sharp:
        return settings.teacher
    return replace(settings.teacher, map_channels=0)


def _fit(
    teacher: Teacher, settings: TeachSettings, splits: Splits, statistics: _ByModality
) -> None:
    """Give each branch its verdict, and the sum its scale."""
    training, validation = splits.training.labelled, splits.validation.labelled
    targets = 2 * splits.training.labels[training] - 1
    weights = balance(splits.training.domains[training], targets)
    wanted = splits.validation.labels[validation]
    for branch in teacher.each():
        seen = statistics[branch.modality]
        probe = fit_probe(seen.training[training], targets, weights, penalty=settings.penalty)
        branch.take(probe, calibrate(probe(seen.validation[validation]), wanted))
    fused = teacher.fuse([_tensor(s.validation) for s in statistics.values()]).by_modality
    mean = fused.mean(dim=1).double().numpy()
    teacher.take(calibrate(mean[validation], wanted))


def _finish(
    teacher: Teacher,
    settings: TeachSettings,
    splits: Splits,
    statistics: _ByModality,
    folder: Path,
    cache: Path,
    data_sha256: str,
) -> TeachReport:
    on_validation, on_test = (
        teacher.fuse([_tensor(getattr(s, split)) for s in statistics.values()])
        for split in ("validation", "test")
    )
    validation = splits.validation.labelled
    logits = on_validation.fake_logit.double().numpy()
    threshold = choose_threshold(
        splits.validation.labels[validation], logits[validation], "the validation split"
    )
    maps = _maps(teacher, splits.test, cache)
    figures = [*_figures(splits.test, on_test.fake_logit, "test", threshold, maps)]
    if maps is not None:
        figures += physical_map_error(splits.test, "test")
    for number, name in enumerate(statistics):
        for figure in _figures(splits.test, on_test.by_modality[:, number], "test"):
            figures.append(replace(figure, dataset=f"{name} alone: {figure.dataset}"))
    temperatures = {branch.modality: branch.temperature for branch in teacher.each()}
    metadata = {
        "name": settings.name,
        "licence": settings.licence,
        "data_sha256": data_sha256,
        "threshold": typed_json.encode(threshold),
        "accuracy": [typed_json.encode(figure) for figure in figures],
    }
    path = save_teacher(folder / FINAL, teacher, metadata)
    report = TeachReport(
        path,
        fingerprint(teacher),
        {**temperatures, "all": teacher.temperature},
        (
            *_calibration(splits.validation, on_validation.fake_logit, "val"),
            *_calibration(splits.test, on_test.fake_logit, "test"),
        ),
        _figures(splits.validation, on_validation.fake_logit, "val", threshold),
        tuple(figures),
        splits.skipped,
    )
    write_text(folder / REPORT, json.dumps(typed_json.encode(report), indent=1, default=str))
    return report


def _maps(teacher: Teacher, records: Records, cache: Path) -> NDArray[np.float32] | None:
    """Maps of the teacher's own head."""
    if teacher.map_head is None:
        return None
    return maps_of(teacher.defocus_map, Judged(records, physical_maps(records, cache)))


def _figures(
    records: Records,
    logits: Tensor,
    split: str,
    threshold: Threshold | None = None,
    maps: NDArray[np.float32] | None = None,
) -> tuple[Accuracy, ...]:
    return measure(records, logits.double().numpy(), maps, split, threshold)


def _calibration(records: Records, logits: Tensor, split: str) -> Iterator[Accuracy]:
    known = records.labelled
    values = logits.double().numpy()[known]
    metrics = detection_metrics(records.labels[known], values, records.groups[known])
    for title, figure in (("ECE", metrics.ece), ("Brier score", metrics.brier)):
        if figure is not None:
            yield as_accuracy(f"all sets pooled {split}", title, figure)


def _tensor(values: NDArray[np.float16]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
