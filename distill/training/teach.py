"""Teaching the teacher: statistics of frozen branches, a verdict for each, their sum, and a map.

The run's folder holds ``settings.toml``, what :mod:`edgedf.distill.training.loop` writes while the
dense head learns, and at the end ``teacher.safetensors`` and ``teacher.json``. Statistics are kept
in the cache, shard by shard, so a run that is killed goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgedf import typed_json
from edgedf.distill.datasets.dataset import Dataset
from edgedf.distill.distributed import World, joined
from edgedf.distill.evaluation.evaluate import (
    Predictions,
    as_accuracy,
    choose_threshold,
    measure,
    physical_map_error,
)
from edgedf.distill.networks.probe import balance, calibrate, fit_probe
from edgedf.distill.networks.teacher import (
    Branch,
    Teacher,
    TeacherConfig,
    fingerprint,
    save_teacher,
)
from edgedf.distill.records.preparation import (
    RESEARCH_LICENCE,
    PictureSettings,
    Splits,
    claimed,
    domains,
    labelled,
    prepare,
)
from edgedf.distill.records.statistics import cached_statistics
from edgedf.distill.records.targets import Records
from edgedf.distill.training.loop import STATE, LoopSettings
from edgedf.distill.training.map_task import Judged, maps_of, physical_maps
from edgedf.distill.training.teach_maps import learn_head, take_head
from edgedf.errors import ConfigError
from edgedf.evaluation import Skipped
from edgedf.files import write_text
from edgedf.metrics import detection_metrics
from edgedf.progress import Progress, silent
from edgedf.result import Threshold
from edgedf.spec import Accuracy

__all__ = [
    "FINAL",
    "REPORT",
    "TeachReport",
    "TeachSettings",
    "judged_by",
    "statistics_of_branch",
    "teach",
]

FINAL, REPORT = "teacher.safetensors", "teacher.json"


class _Seen(NamedTuple):
    """Statistics of a branch: (n, features) for each split."""

    training: NDArray[np.float16]
    validation: NDArray[np.float16]
    test: NDArray[np.float16]


# By modality.
_Found = dict[str, _Seen]


@dataclass(frozen=True)
class TeachSettings(PictureSettings):
    """Everything a teacher depends on besides the pictures.

    Args:
        penalty: Of each branch's weights; see :func:`edgedf.distill.networks.probe.fit_probe`.
        input_size: Side of the pictures in pixels, a multiple of 32.
        rate: Learning rate of the dense head.
        name: Of the teacher.
        licence: Of what it has learned.
        loop: Steps, batch and averaging of the dense head; device and seed of everything.
        teacher: Architecture. Where no renderings are there to learn from, the dense head is left
            out.

    Raises:
        ConfigError: A value out of range.
    """

    penalty: float = 3.0
    input_size: int = 256
    rate: float = 2e-3
    name: str = "edgedf-teacher"
    licence: str = RESEARCH_LICENCE
    loop: LoopSettings = field(default_factory=lambda: LoopSettings(steps=800, batch=16))
    teacher: TeacherConfig = field(default_factory=TeacherConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if (
            min(self.penalty, self.rate) <= 0
            or not 32 <= self.input_size <= 2048
            or self.input_size % 32
        ):
            raise ConfigError(
                f"No teacher can be taught with {self}.",
                expected="a penalty and a rate above 0, an input side that is a multiple of 32",
                next_step="change the value that is outside",
            )


@dataclass(frozen=True)
class TeachReport:
    """The outcome.

    Args:
        teacher: The teacher, its metadata inside.
        sha256: Of what it judges by; keys what it said of pictures.
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
        CheckpointError: The dense head's saved state is damaged, or its training has diverged.
        ConfigError: ``out`` holds a teacher with other settings or other data.
        DataError: The manifest cannot be used, or more than 5 % of a split's pictures.
        MissingExtra: The package with the ImageNet weights is not installed.
        OutputError: ``out`` or the cache cannot be written.
    """
    settings, folder = settings or TeachSettings(), Path(out)
    store = Path(cache) if cache is not None else folder / "cache"
    with joined(settings.loop.device) as world:
        told = progress if world.is_main else silent
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
            progress=told,
        )
        found: _Found = {}
        for branch in teacher.each():
            branch.to(world.device)
            found[branch.modality] = _Seen(
                *(
                    statistics_of_branch(
                        branch, settings.teacher, records, store, world=world, progress=told
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
                progress=told,
            )
        teacher.to("cpu")

        def finish() -> TeachReport:
            if head is not None:
                take_head(head, folder)
            _fit(teacher, settings, splits, found)
            return _finish(teacher, settings, splits, found, folder, store, dataset.sha256)

        return world.on_main(finish)


def judged_by(
    teacher: Teacher, records: Records, cache: str | Path, progress: Progress = silent
) -> NDArray[np.float64]:
    """A teacher's logits for records.

    What its branches see is kept in the cache, keyed by the pictures and the branch, so nothing is
    looked at twice, and another teacher's verdicts cannot be mistaken for this one's.

    Args:
        teacher: On the CPU.
        records: Pictures and maps.
        cache: Folder of the shards.
        progress: Told how many records are there.

    Returns:
        float64, (n,).

    Raises:
        OutputError: The cache cannot be written.
    """
    seen = [
        _tensor(statistics_of_branch(branch, teacher.config, records, cache, progress=progress))
        for branch in teacher.each()
    ]
    return np.asarray(teacher.fuse(seen).fake_logit.double().numpy())


def statistics_of_branch(
    branch: Branch,
    config: TeacherConfig,
    records: Records,
    cache: str | Path,
    *,
    world: World | None = None,
    progress: Progress = silent,
) -> NDArray[np.float16]:
    """What a branch judges records by, computed once and kept in the cache.

    Args:
        branch: With ImageNet's weights.
        config: Of its teacher.
        records: Pictures and maps.
        cache: Folder of the shards.
        world: The processes that share the work; None for this one alone.
        progress: Told how many records are there.

    Returns:
        float16, (n, features).

    Raises:
        OutputError: The cache cannot be written.
    """
    # The layout decides how sums are rounded: the same one whoever asks.
    branch.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    architecture = (config.backbone, config.first_block, config.last_block)
    return cached_statistics(
        records,
        branch.statistics,
        json.dumps(["branch", branch.modality, *architecture]),
        cache,
        world=world,
        step=f"{branch.modality} statistics",
        progress=progress,
    )


def _architecture(settings: TeachSettings, dataset: Dataset) -> TeacherConfig:
    """The teacher's, without a dense head where there will be no renderings to learn it from."""
    sharp = any(sample.set in settings.sharp_sets for sample in dataset.select(split="train"))
    if settings.renderings and sharp:
        return settings.teacher
    return replace(settings.teacher, map_channels=0)


def _fit(teacher: Teacher, settings: TeachSettings, splits: Splits, found: _Found) -> None:
    """Give each branch its verdict, and the sum its scale."""
    training, validation = labelled(splits.training), labelled(splits.validation)
    targets = 2 * splits.training.labels[training] - 1
    weights = balance(domains(splits.training, training), targets)
    wanted = splits.validation.labels[validation]
    for branch in teacher.each():
        seen = found[branch.modality]
        probe = fit_probe(seen.training[training], targets, weights, penalty=settings.penalty)
        branch.take(probe, calibrate(probe(seen.validation[validation]), wanted))
    fused = teacher.fuse([_tensor(found[name].validation) for name in found]).by_modality
    mean = fused.mean(dim=1).double().numpy()
    teacher.take(calibrate(mean[validation], wanted))


def _finish(
    teacher: Teacher,
    settings: TeachSettings,
    splits: Splits,
    found: _Found,
    folder: Path,
    cache: Path,
    data_sha256: str,
) -> TeachReport:
    on_validation, on_test = (
        teacher.fuse([_tensor(getattr(found[name], split)) for name in found])
        for split in ("validation", "test")
    )
    validation = labelled(splits.validation)
    logits = on_validation.fake_logit.double().numpy()
    threshold = choose_threshold(
        splits.validation.labels[validation], logits[validation], "the validation split"
    )
    maps = _maps(teacher, splits.test, cache)
    figures = [*_figures(splits.test, on_test.fake_logit, "test", threshold, maps)]
    if maps is not None:
        figures += physical_map_error(splits.test, "test")
    for number, name in enumerate(found):
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
    plain = typed_json.encode(replace(report, teacher=str(path)))  # type: ignore[arg-type]
    write_text(folder / REPORT, json.dumps(plain, indent=1))
    return report


def _maps(teacher: Teacher, records: Records, cache: Path) -> NDArray[np.float32] | None:
    """The dense head's maps."""
    if teacher.map_head is None:
        return None

    def predict(images: Tensor, beside: Tensor | None) -> Tensor:
        return teacher.defocus_map(images, cast(Tensor, beside))

    return maps_of(predict, Judged(records, physical_maps(records, cache)))


def _figures(
    records: Records,
    logits: Tensor,
    split: str,
    threshold: Threshold | None = None,
    maps: NDArray[np.float32] | None = None,
) -> tuple[Accuracy, ...]:
    values = logits.double().numpy()
    return measure(records, Predictions(values, maps), split, threshold)


def _calibration(records: Records, logits: Tensor, split: str) -> Iterator[Accuracy]:
    known = labelled(records)
    groups = np.array([records.jobs[index].sample.group for index in known], dtype=object)
    metrics = detection_metrics(records.labels[known], logits.double().numpy()[known], groups)
    for title, figure in (("ECE", metrics.ece), ("Brier score", metrics.brier)):
        if figure is not None:
            yield as_accuracy(f"all sets pooled {split}", title, figure)


def _tensor(values: NDArray[np.float16]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
