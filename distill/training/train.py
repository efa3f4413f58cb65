"""Training the student, from a manifest to a checkpoint with its figures inside.

The run's folder holds what :mod:`edgedf.distill.training.loop` writes (``state.safetensors``,
``best.safetensors``, ``metrics.csv``, ``tensorboard/``), ``settings.toml`` (which
:func:`edgedf.settings.load_settings` reads), and at the end ``student.safetensors``,
``report.json`` and ``MODEL_CARD.md``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgedf import typed_json
from edgedf.distill.datasets.dataset import Dataset
from edgedf.distill.distributed import joined
from edgedf.distill.evaluation.figures import as_accuracy, measure, physical_map_error
from edgedf.distill.evaluation.predictions import predict
from edgedf.distill.evaluation.thresholds import choose_threshold
from edgedf.distill.networks.checkpoints import load_checkpoint, load_teacher, save_checkpoint
from edgedf.distill.networks.student import Student
from edgedf.distill.networks.teacher import Teacher
from edgedf.distill.records.preparation import Splits, claimed, prepare
from edgedf.distill.settings import EvaluationSettings, TrainSettings
from edgedf.distill.training.loop import BEST, STATE, Outcome
from edgedf.distill.training.model_card import model_card
from edgedf.distill.training.student_maps import learn_maps
from edgedf.distill.training.taught import judged_by, with_taught_maps
from edgedf.distill.training.verdict import fit_verdict
from edgedf.evaluation import Skipped
from edgedf.files import write_text
from edgedf.metrics import auc_with_interval
from edgedf.progress import Progress, silent
from edgedf.spec import Accuracy

__all__ = ["CARD", "FINAL", "REPORT", "TrainReport", "train"]

FINAL, REPORT, CARD = "student.safetensors", "report.json", "MODEL_CARD.md"


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
        cache: Folder for pictures, maps and a teacher's outputs, which runs may share; None for one
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
        tell = progress if world.is_main else silent
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
            progress=tell,
        )
        # What lies here belongs to this run if the run was there before.
        is_done = (folder / STATE).is_file() and (folder / FINAL).is_file()
        wanted = splits.training
        if taught is not None and settings.teacher_maps:
            wanted = with_taught_maps(
                taught[0].to(world.device), sha256, wanted, store, world=world, progress=tell
            )
        outcome = learn_maps(
            wanted, splits.validation, settings, folder, world=world, progress=tell
        )

        def finish() -> TrainReport:
            if is_done:
                student, _ = load_checkpoint(folder / FINAL)
                return report_on(student)
            student, _ = load_checkpoint(folder / BEST)
            logits = None
            if taught is not None and settings.distilled:
                logits = judged_by(taught[0].to("cpu"), splits.training, store, progress)
            fit_verdict(
                student,
                splits.training,
                splits.validation,
                penalty=settings.penalty,
                views=settings.views,
                seed=settings.loop.seed,
                teacher=logits,
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


def _from_teacher(settings: TrainSettings, teacher: Teacher | None) -> str:
    """What the student has learned from a teacher, for the description of its training data."""
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
    known = validation.labelled
    threshold = choose_threshold(
        validation.labels[known],
        on_validation.logits[known],
        f"the validation splits of {', '.join(sorted(set(validation.sets[known])))} and "
        "self-blended faces",
    )
    on_test = predict(student, test.images, step="test", progress=progress)
    whole = test.kinds == "whole"
    pooled = auc_with_interval(test.labels[whole], on_test.logits[whole], test.groups[whole])
    figures = (
        *measure(test, *on_test, "test", threshold),
        as_accuracy("all sets pooled test", "AUC", pooled),
        *physical_map_error(test, "test"),
    )
    data = f"{', '.join(dataset.sets)} (train split), self-blended faces, portrait-mode copies, "
    data += "synthetic depth of field" + _from_teacher(settings, taught[0] if taught else None)
    metadata: Mapping[str, Any] = {
        "name": settings.name,
        "version": settings.version,
        "licence": settings.licence,
        "threshold": typed_json.encode(threshold),
        "training": {
            "data": data,
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
        measure(validation, *on_validation, "val", threshold),
        figures,
        outcome.stopped_early,
        splits.skipped,
    )
    write_text(folder / REPORT, json.dumps(typed_json.encode(report), indent=1, default=str))
    return metadata, report
