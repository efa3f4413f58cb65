"""Training the student, from a manifest to a checkpoint with its figures inside.

The run's folder holds what :mod:`edgedf.distill.loop` writes (``state.safetensors``,
``best.safetensors``, ``metrics.csv``, ``tensorboard/``), ``settings.toml`` (which
:func:`edgedf.distill.config.load_settings` reads), and at the end ``student.safetensors``,
``report.json`` and ``MODEL_CARD.md``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgedf import typed_json
from edgedf.distill.batches import Batch, Batches
from edgedf.distill.config import dump_settings
from edgedf.distill.data import Dataset, Sample, Split, read_manifest
from edgedf.distill.distributed import World, joined
from edgedf.distill.evaluate import (
    EvaluationSettings,
    auc_with_interval,
    choose_threshold,
    measure,
    predict,
)
from edgedf.distill.logbook import METRICS
from edgedf.distill.loop import BEST, STATE, Loop, LoopSettings, Outcome, ParameterGroup
from edgedf.distill.losses import fake_loss, map_loss
from edgedf.distill.model_card import model_card
from edgedf.distill.student import (
    Student,
    StudentConfig,
    load_checkpoint,
    load_imagenet_weights,
    save_checkpoint,
)
from edgedf.distill.targets import (
    FACE_SETS,
    SHARP_SETS,
    Job,
    Records,
    TargetSettings,
    compute,
    evaluation_plan,
    plan,
)
from edgedf.errors import ConfigError, DataError
from edgedf.evaluation import Skipped
from edgedf.files import write_text
from edgedf.progress import Progress, silent
from edgedf.spec import Accuracy

__all__ = [
    "BEST",
    "CARD",
    "FINAL",
    "METRICS",
    "REPORT",
    "SETTINGS",
    "STATE",
    "TrainReport",
    "TrainSettings",
    "train",
]

FINAL, SETTINGS, REPORT = "student.safetensors", "settings.toml", "report.json"
CARD = "MODEL_CARD.md"

RESEARCH_LICENCE = (
    "research use only: trained on image sets with research-only or unstated licences"
)


@dataclass(frozen=True)
class TrainSettings:
    """Everything a run depends on besides the pictures.

    Args:
        head_rate: Learning rate of the decoder and the heads.
        encoder_rate: Learning rate of the encoder, small as it starts from ImageNet.
        frozen_stages: The stem and this many stages keep their ImageNet weights: what they
            measure carries over to unseen sources, and what is tuned learns the sources.
        map_weight: Weight of the map's loss beside the verdict's.
        smoothing: Of the labels.
        crops: Random squares a picture, beside the whole one.
        renderings: Synthetic depths of field a sharp picture.
        self_blends: Self-blends a real face.
        portraits: Portrait-mode copies a real photograph of a set without fakes.
        face_sets: Sets of aligned faces.
        sharp_sets: Sets of pictures that are sharp everywhere; they train the map alone.
        name: Of the model.
        version: Of the model.
        licence: Of the weights.
        loop: Steps, batch, averaging, early stopping, seed.
        student: Architecture.

    Raises:
        ConfigError: A value out of range.
    """

    head_rate: float = 2e-3
    encoder_rate: float = 2e-4
    frozen_stages: int = 2
    map_weight: float = 0.5
    smoothing: float = 0.05
    crops: int = 1
    renderings: int = 6
    self_blends: int = 1
    portraits: int = 1
    face_sets: tuple[str, ...] = FACE_SETS
    sharp_sets: tuple[str, ...] = SHARP_SETS
    name: str = "edgedf-student"
    version: str = "0.1.0"
    licence: str = RESEARCH_LICENCE
    loop: LoopSettings = field(default_factory=LoopSettings)
    student: StudentConfig = field(default_factory=StudentConfig)

    def __post_init__(self) -> None:
        counts = (
            self.frozen_stages,
            self.crops,
            self.renderings,
            self.self_blends,
            self.portraits,
        )
        rates = (self.head_rate, self.encoder_rate, self.map_weight, self.smoothing)
        if min(*counts, *rates) < 0 or self.smoothing >= 0.5:
            raise ConfigError(
                f"No run is possible with {self}.",
                expected="rates, weights and numbers of records from 0, a smoothing below 0.5",
                next_step="change the value that is outside",
            )


@dataclass(frozen=True)
class TrainReport:
    """The outcome of a run.

    Args:
        checkpoint: The student, its metadata inside.
        best_step: Step whose averaged weights it has.
        parameters: Number of weights.
        seconds: Time spent on steps, over all sessions of the run.
        validation: Figures on the validation split.
        test: Figures on the test split, which no choice has seen.
        stopped_early: Whether the validation score stopped improving before the last step.
        skipped: Pictures that could not be read, of all splits.
    """

    checkpoint: Path
    best_step: int
    parameters: int
    seconds: float
    validation: tuple[Accuracy, ...]
    test: tuple[Accuracy, ...]
    stopped_early: bool = False
    skipped: tuple[Skipped, ...] = ()


def train(
    data: str | Path,
    out: str | Path,
    settings: TrainSettings | None = None,
    *,
    cache: str | Path | None = None,
    workers: int = 2,
    progress: Progress = silent,
) -> TrainReport:
    """Train a student, or go on with a run that was cut off.

    In processes that ``torchrun`` has started, each takes its share of maps and batches, and the
    first writes and measures.

    Args:
        data: Folder with ``manifest.csv``; see :mod:`edgedf.distill.data`.
        out: Folder of the run.
        settings: Everything the run depends on.
        cache: Folder for pictures and maps, which runs may share; None for one inside ``out``.
        workers: Processes that compute maps, for each of torchrun's.
        progress: Told about maps, steps and evaluations.

    Returns:
        The report, which is also in ``report.json``.

    Raises:
        CheckpointError: The saved state is damaged, or training has diverged.
        ConfigError: ``out`` holds a run with other settings, other data or another number of
            processes, or torchrun's environment is half set.
        DataError: The manifest cannot be used, or more than 5 % of a split's pictures.
        MissingExtra: The package with the ImageNet weights is not installed.
        OutputError: ``out`` cannot be written.
    """
    settings = settings or TrainSettings()
    with joined(settings.loop.device) as world:
        told = progress if world.is_main else silent
        run = _Run(Path(data), Path(out), settings, world, told)
        run.prepare(Path(cache) if cache is not None else Path(out) / "cache", workers)
        outcome = run.go()
        return world.on_main(lambda: _finish(run, outcome))


class _Run:
    """A run: its pictures, and the student that learns from them."""

    def __init__(
        self, data: Path, folder: Path, settings: TrainSettings, world: World, progress: Progress
    ) -> None:
        self.folder, self.settings = folder, settings
        self.world, self.progress = world, progress
        self.dataset = world.on_main(lambda: _claimed(data, folder, settings))

    def prepare(self, cache: Path, workers: int) -> None:
        """Compute the records of all splits.

        Those of the test split too, before the steps: a picture that cannot be read should be
        known now, not hours later.
        """
        settings = self.settings
        sets = {"face_sets": settings.face_sets, "sharp_sets": settings.sharp_sets}
        targets = TargetSettings(size=settings.student.input_size, seed=settings.loop.seed)

        def records(jobs: tuple[Job, ...]) -> Records:
            return compute(
                jobs,
                cache,
                targets,
                workers=workers,
                rank=self.world.rank,
                ranks=self.world.size,
                barrier=self.world.barrier,
                progress=self.progress,
            )

        samples = {split: _of_split(self.dataset, split) for split in ("train", "val", "test")}
        self.training = records(
            plan(
                samples["train"],
                crops=settings.crops,
                renderings=settings.renderings,
                self_blends=settings.self_blends,
                portraits=settings.portraits,
                **sets,
            )
        )
        self.validation = records(evaluation_plan(samples["val"], **sets))
        self.test = records(evaluation_plan(samples["test"], **sets))

    def go(self) -> Outcome:
        """Train."""
        settings = self.settings
        torch.manual_seed(settings.loop.seed)
        student = Student(settings.student).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        load_imagenet_weights(student)
        task = _Task(settings, self.training, self.validation, self.world.size)
        groups = _groups(student, settings)
        loop = Loop(self.folder, settings.loop, student, task, groups, self.world)
        return loop.go(self.progress)


class _Task:
    """What a student learns: labels and maps."""

    def __init__(
        self, settings: TrainSettings, training: Records, validation: Records, ranks: int
    ) -> None:
        self.weights = {"label": 1.0, "map": settings.map_weight}
        self._smoothing, self._validation = settings.smoothing, validation
        size = settings.loop.batch * ranks
        self._batches = Batches(training, size=size, seed=settings.loop.seed)

    def batch(self, step: int, rank: int, ranks: int) -> Batch:
        return self._batches.part(step, rank, ranks)

    def files(self, step: int, ranks: int) -> Sequence[str]:
        return self._batches.files(step)

    def losses(self, module: nn.Module, batch: Batch) -> dict[str, Tensor]:
        output = module(batch.images)
        logits, smoothing = output.fake_logit[:, 0], self._smoothing
        return {
            "label": fake_loss(logits, batch.labels, smoothing=smoothing, count=batch.labelled),
            "map": map_loss(output.defocus_map, batch.maps, count=batch.count),
        }

    def evaluate(self, averaged: nn.Module, progress: Progress) -> dict[str, float]:
        predictions = predict(averaged, self._validation.images, progress=progress)  # type: ignore[arg-type]
        figures = measure(self._validation, predictions, "val")
        row = {f"{figure.dataset} {figure.metric}": figure.value for figure in figures}
        aucs = [figure.value for figure in figures if figure.metric == "AUC"]
        return {**row, "score": float(np.mean(aucs))}

    def save_best(self, path: Path, averaged: nn.Module, step: int) -> None:
        save_checkpoint(path, averaged, {"step": step})  # type: ignore[arg-type]


def _claimed(data: Path, folder: Path, settings: TrainSettings) -> Dataset:
    """The data set, once it is noted what the run depends on.

    A run that is there already must depend on the same.
    """
    dataset = read_manifest(data)
    text = f"# Manifest's SHA-256: {dataset.sha256}\n{dump_settings(settings)}"
    path = folder / SETTINGS
    if (folder / STATE).is_file() and not _is_same(path, text):
        raise ConfigError(
            f"{folder} holds a run with other settings or other data.",
            expected=f"the settings in {path}",
            next_step="choose another --out, or delete that folder",
        )
    write_text(path, text)
    return dataset


def _is_same(path: Path, text: str) -> bool:
    try:
        return path.read_text("utf-8") == text
    except (OSError, UnicodeDecodeError):
        return False


def _of_split(dataset: Dataset, split: Split) -> tuple[Sample, ...]:
    chosen = dataset.select(split=split)
    labels = {sample.label for sample in chosen}
    if len(labels) < 2:
        raise DataError(
            f"The {split} split of {dataset.folder} holds {', '.join(labels) or 'nothing'}.",
            expected="real and fake pictures in each of train, val and test",
            next_step="move some groups between the splits",
        )
    return chosen


def _groups(student: Student, settings: TrainSettings) -> list[ParameterGroup]:
    encoder = student.encoder
    for part in (encoder.stem, *encoder.stages[: settings.frozen_stages]):
        part.requires_grad_(False)
    tuned = [weight for weight in encoder.parameters() if weight.requires_grad]
    known = {id(weight) for weight in encoder.parameters()}
    heads = [weight for weight in student.parameters() if id(weight) not in known]
    return [
        ParameterGroup(tuned, settings.encoder_rate),
        ParameterGroup(heads, settings.head_rate),
    ]


def _finish(run: _Run, outcome: Outcome) -> TrainReport:
    """Choose thresholds on validation, measure on test, write student, card and report."""
    student, _ = load_checkpoint(run.folder / BEST)
    settings, validation, test = run.settings, run.validation, run.test
    on_validation = predict(student, validation.images, progress=run.progress)
    labelled = np.flatnonzero(~np.isnan(validation.labels))
    judged = sorted({validation.jobs[index].sample.set for index in labelled})
    threshold = choose_threshold(
        validation.labels[labelled],
        on_validation.logits[labelled],
        f"the validation splits of {', '.join(judged)} and self-blended faces",
    )
    on_test = predict(student, test.images, step="test", progress=run.progress)
    figures = measure(test, on_test, "test", threshold)
    whole = np.array([job.kind == "whole" for job in test.jobs])
    groups = np.array([job.sample.group for job in test.jobs], dtype=object)
    pooled = auc_with_interval(test.labels[whole], on_test.logits[whole], groups[whole])
    low, high = round(pooled.low, 4), round(pooled.high, 4)
    overall = Accuracy("all sets pooled test", "AUC", round(pooled.value, 4), low, high, pooled.n)
    figures = (*figures, overall)
    metadata: Mapping[str, Any] = {
        "name": settings.name,
        "version": settings.version,
        "licence": settings.licence,
        "threshold": typed_json.encode(threshold),
        "training": {
            "data": ", ".join(run.dataset.sets) + " (train split), self-blended faces, "
            "synthetic depth of field",
            "data_sha256": run.dataset.sha256,
            "steps": outcome.best_step,
        },
        # What `edgedf distill evaluate` makes of a data set.
        "evaluation": asdict(
            EvaluationSettings(settings.face_sets, settings.sharp_sets, settings.loop.seed)
        ),
        "accuracy": [typed_json.encode(figure) for figure in figures],
    }
    checkpoint = save_checkpoint(run.folder / FINAL, student, metadata)
    write_text(run.folder / CARD, model_card(metadata, student))
    skipped = {
        entry.file: entry
        for records in (run.training, validation, test)
        for entry in records.skipped
    }
    report = TrainReport(
        checkpoint,
        outcome.best_step,
        sum(weight.numel() for weight in student.parameters()),
        round(outcome.seconds, 1),
        measure(validation, on_validation, "val", threshold),
        figures,
        outcome.stopped_early,
        tuple(skipped.values()),
    )
    plain = typed_json.encode(replace(report, checkpoint=str(checkpoint)))  # type: ignore[arg-type]
    write_text(run.folder / REPORT, json.dumps(plain, indent=1))
    return report
