"""Training the student, from a manifest to a checkpoint with its figures inside.

The run's folder holds what :mod:`edgedf.distill.training.loop` writes (``state.safetensors``,
``best.safetensors``, ``metrics.csv``, ``tensorboard/``), ``settings.toml`` (which
:func:`edgedf.settings.load_settings` reads), and at the end ``student.safetensors``,
``report.json`` and ``MODEL_CARD.md``.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgedf import typed_json
from edgedf.distill.datasets.dataset import Dataset
from edgedf.distill.distributed import World, joined
from edgedf.distill.evaluation.evaluate import (
    EvaluationSettings,
    as_accuracy,
    choose_threshold,
    measure,
    physical_map_error,
    predict,
)
from edgedf.distill.networks.backbones import load_imagenet_weights
from edgedf.distill.networks.student import Student, StudentConfig, load_checkpoint, save_checkpoint
from edgedf.distill.networks.teacher import Teacher, load_teacher
from edgedf.distill.records.preparation import (
    RESEARCH_LICENCE,
    SETTINGS,
    PictureSettings,
    Splits,
    claimed,
    labelled,
    prepare,
)
from edgedf.distill.records.targets import Records
from edgedf.distill.training.logbook import METRICS
from edgedf.distill.training.loop import BEST, STATE, Loop, LoopSettings, Outcome, ParameterGroup
from edgedf.distill.training.losses import distilled_feature_loss
from edgedf.distill.training.map_task import Judged, MapTask
from edgedf.distill.training.model_card import model_card
from edgedf.distill.training.teach import judged_by
from edgedf.distill.training.teach_maps import with_taught_maps
from edgedf.distill.training.verdict import fit_verdict
from edgedf.errors import ConfigError
from edgedf.evaluation import Skipped
from edgedf.files import write_text
from edgedf.metrics import auc_with_interval
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
    "learn_maps",
    "train",
]

FINAL, REPORT, CARD = "student.safetensors", "report.json", "MODEL_CARD.md"


@dataclass(frozen=True)
class TrainSettings(PictureSettings):
    """Everything a run depends on besides the pictures.

    Args:
        rate: Learning rate of the decoder.
        encoder_rate: Learning rate of the encoder, which learns maps alone; 0 keeps its ImageNet
            weights. Tuned on labels it learns the sources and does worse on others.
        features: Weight of how far the inner features move from where they were, which is what a
            teacher's branch sees; counts where the encoder learns.
        penalty: Of the fake head's weights; see :func:`edgedf.distill.networks.probe.fit_probe`.
        views: How often each record is shown to the fit of the fake head, changed anew each time
            but the first.
        distilled: Share of the teacher's verdict in what the fake head is fitted to, where there is
            a teacher; the rest is the label.
        teacher_maps: Whether the teacher's maps are learned in the place of the physical ones,
            where there is a teacher with a dense head.
        name: Of the model.
        version: Of the model.
        licence: Of the weights.
        loop: Steps, batch, averaging, early stopping, seed.
        student: Architecture.

    Raises:
        ConfigError: A value out of range.
    """

    rate: float = 2e-3
    encoder_rate: float = 0.0
    features: float = 1.0
    penalty: float = 3.0
    views: int = 2
    distilled: float = 0.5
    teacher_maps: bool = True
    name: str = "edgedf-student"
    version: str = "0.1.0"
    licence: str = RESEARCH_LICENCE
    loop: LoopSettings = field(default_factory=LoopSettings)
    student: StudentConfig = field(default_factory=StudentConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        is_share = 0 <= self.distilled <= 1
        if (
            min(self.rate, self.encoder_rate, self.features) < 0
            or self.penalty <= 0
            or self.views < 1
            or not is_share
        ):
            raise ConfigError(
                f"No run is possible with {self}.",
                expected="rates and weights from 0, a penalty above 0, one view or more, "
                "a share from 0 to 1",
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
    teacher: str | Path | None = None,
    about: str = "",
    cache: str | Path | None = None,
    workers: int = 2,
    progress: Progress = silent,
) -> TrainReport:
    """Train a student, or go on with a run that was cut off.

    In processes that ``torchrun`` has started, each takes its share of maps and batches, and the
    first fits the verdict, writes and measures.

    Args:
        data: Folder with ``manifest.csv``; see :mod:`edgedf.distill.datasets.dataset`.
        out: Folder of the run.
        settings: Everything the run depends on.
        teacher: A teacher whose verdicts the student learns beside the labels, and whose maps in
            the place of the physical ones; None for labels and physical maps alone.
        about: Markdown about the pictures, for the model card.
        cache: Folder for pictures, maps and what a teacher said, which runs may share; None for one
            inside ``out``.
        workers: Processes that compute maps, for each of torchrun's.
        progress: Told about maps, steps and evaluations.

    Returns:
        The report, which is also in ``report.json``.

    Raises:
        CheckpointError: The saved state or the teacher is damaged, or training has diverged.
        ConfigError: ``out`` holds a run with other settings, another teacher, other data or
            another number of processes, or torchrun's environment is half set.
        DataError: The manifest cannot be used, or more than 5 % of a split's pictures.
        MissingExtra: The package with the ImageNet weights is not installed.
        OutputError: ``out`` cannot be written.
    """
    settings, folder = settings or TrainSettings(), Path(out)
    store = Path(cache) if cache is not None else folder / "cache"
    with joined(settings.loop.device) as world:
        told = progress if world.is_main else silent
        taught = world.on_main(lambda: None if teacher is None else load_teacher(teacher))
        sha256 = "" if taught is None else taught[1]["sha256"]
        depends = {"Teacher": sha256} if sha256 else {}
        dataset = world.on_main(lambda: claimed(Path(data), folder, settings, [STATE], depends))
        splits = prepare(
            dataset,
            settings,
            store,
            size=settings.student.input_size,
            seed=settings.loop.seed,
            world=world,
            workers=workers,
            progress=told,
        )
        # What lies here belongs to this run if the run was there before.
        is_done = (folder / STATE).is_file() and (folder / FINAL).is_file()
        wanted = splits.training
        if taught is not None and settings.teacher_maps:
            wanted = with_taught_maps(
                taught[0].to(world.device), sha256, wanted, store, world=world, progress=told
            )
        outcome = learn_maps(
            wanted, splits.validation, settings, folder, world=world, progress=told
        )

        def finish() -> TrainReport:
            if is_done:
                student, _ = load_checkpoint(folder / FINAL)
                return report_on(student)
            student, _ = load_checkpoint(folder / BEST)
            said = None
            if taught is not None and settings.distilled:
                said = judged_by(taught[0].to("cpu"), splits.training, store, progress)
            fit_verdict(
                student,
                splits.training,
                splits.validation,
                penalty=settings.penalty,
                views=settings.views,
                seed=settings.loop.seed,
                teacher=said,
                distilled=settings.distilled,
                progress=progress,
            )
            return report_on(student)

        def report_on(student: Student) -> TrainReport:
            metadata, report = _measured(
                student, splits, settings, folder, dataset, outcome, taught, progress
            )
            card = model_card(metadata, student, dataset.samples, about)
            write_text(folder / CARD, card)
            return report

        return world.on_main(finish)


class _Learner(nn.Module):
    """The student while it learns maps, beside the encoder that it started from.

    Args:
        student: Learns.
        is_bound: Whether the student's inner features are compared with those of the encoder as
            it was.
    """

    def __init__(self, student: Student, is_bound: bool) -> None:
        super().__init__()
        self.student = student
        self.start = copy.deepcopy(student.encoder).requires_grad_(False) if is_bound else None

    def forward(self, image: Tensor, beside: None = None) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) in [0, 255] → the map, and how far the inner features have moved."""
        seen = self.student.seen(image)
        ends, inner = self.student.features(seen)
        moved = torch.zeros((), device=image.device)
        if self.start is not None:
            with torch.no_grad():
                before = self.start.all_features(seen)[1][-len(inner) :]
            moved = moved + distilled_feature_loss(inner, before)
        return self.student.defocus_map(ends, image), moved


def learn_maps(
    training: Records,
    validation: Records,
    settings: TrainSettings,
    folder: Path,
    *,
    world: World,
    progress: Progress = silent,
) -> Outcome:
    """Train a student's map, or go on where a run was cut off; the best one is in :data:`BEST`.

    Args:
        training: Pictures and wanted maps.
        validation: Likewise; what the best weights are chosen on.
        settings: Rates, weights, steps, architecture.
        folder: Of the run.
        world: The processes that share the work.
        progress: Told about steps and looks.

    Raises:
        CheckpointError: The saved state is damaged, or training has diverged.
        MissingExtra: The package with the ImageNet weights is not installed.
        OutputError: The folder cannot be written.
    """
    loop = settings.loop
    torch.manual_seed(loop.seed)
    student = Student(settings.student)
    load_imagenet_weights(student.encoder)
    student.requires_grad_(False)
    dense = [student.decoder, student.blur, *([student.local] if student.local else [])]
    groups = [([weight for part in dense for weight in part.parameters()], settings.rate)]
    if settings.encoder_rate:
        groups.append((list(student.encoder.parameters()), settings.encoder_rate))
    for weights, _ in groups:
        for weight in weights:
            weight.requires_grad_(True)
    is_bound = settings.encoder_rate > 0 and settings.features > 0
    learner = _Learner(student, is_bound).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    task = MapTask(
        Judged(training),
        Judged(validation),
        size=loop.batch * world.size,
        seed=loop.seed,
        features=settings.features,
        save=_save,
    )
    parts = [ParameterGroup(weights, rate) for weights, rate in groups]
    return Loop(folder, loop, learner, task, parts, world).go(progress)


def _save(path: Path, averaged: nn.Module, step: int) -> None:
    save_checkpoint(path, averaged.student, {"step": step})  # type: ignore[arg-type]


def _taught(settings: TrainSettings, teacher: Teacher | None) -> str:
    """What a teacher has given, for the list of what was learned from."""
    if teacher is None:
        return ""
    gives_maps = settings.teacher_maps and teacher.map_head is not None
    parts = [(settings.distilled > 0, "verdicts"), (gives_maps, "maps")]
    given = " and ".join(name for has, name in parts if has)
    return f", a teacher's {given}" if given else ""


def _measured(
    student: Student,
    splits: Splits,
    settings: TrainSettings,
    folder: Path,
    dataset: Dataset,
    outcome: Outcome,
    taught: tuple[Teacher, Mapping[str, Any]] | None,
    progress: Progress,
) -> tuple[Mapping[str, Any], TrainReport]:
    """Choose thresholds on validation, measure on test, write student and report."""
    validation, test = splits.validation, splits.test
    on_validation = predict(student, validation.images, progress=progress)
    known = labelled(validation)
    judged = sorted({validation.jobs[index].sample.set for index in known})
    threshold = choose_threshold(
        validation.labels[known],
        on_validation.logits[known],
        f"the validation splits of {', '.join(judged)} and self-blended faces",
    )
    on_test = predict(student, test.images, step="test", progress=progress)
    figures = measure(test, on_test, "test", threshold)
    whole = np.array([job.kind == "whole" for job in test.jobs])
    groups = np.array([job.sample.group for job in test.jobs], dtype=object)
    pooled = auc_with_interval(test.labels[whole], on_test.logits[whole], groups[whole])
    overall = as_accuracy("all sets pooled test", "AUC", pooled)
    figures = (*figures, overall, *physical_map_error(test, "test"))
    metadata: Mapping[str, Any] = {
        "name": settings.name,
        "version": settings.version,
        "licence": settings.licence,
        "threshold": typed_json.encode(threshold),
        "training": {
            "data": ", ".join(dataset.sets) + " (train split), self-blended faces, portrait-mode "
            "copies, synthetic depth of field" + _taught(settings, taught[0] if taught else None),
            "data_sha256": dataset.sha256,
            "steps": outcome.best_step,
        },
        **({"teacher_sha256": taught[1]["sha256"]} if taught else {}),
        # What `edgedf distill evaluate` makes of a data set.
        "evaluation": asdict(
            EvaluationSettings(settings.face_sets, settings.sharp_sets, settings.loop.seed)
        ),
        "accuracy": [typed_json.encode(figure) for figure in figures],
    }
    checkpoint = save_checkpoint(folder / FINAL, student, metadata)
    report = TrainReport(
        checkpoint,
        outcome.best_step,
        sum(weight.numel() for weight in student.parameters()),
        round(outcome.seconds, 1),
        measure(validation, on_validation, "val", threshold),
        figures,
        outcome.stopped_early,
        splits.skipped,
    )
    plain = typed_json.encode(replace(report, checkpoint=str(checkpoint)))  # type: ignore[arg-type]
    write_text(folder / REPORT, json.dumps(plain, indent=1))
    return metadata, report
