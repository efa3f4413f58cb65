"""Quantization-aware training: a student learns to be itself in int8.

The student runs as int8 computes it (:mod:`edgedf.distill.qat.fake_quant`) and is taught by itself
in float, on the same pictures: its logit and its map are what is wanted (distillation as in Hinton
et al., 2015). No label is needed. Where quantization costs little there is little to win; where
ranges are mixed, or channels stick out, weights and ranges move until the levels suffice.

The result is an ordinary checkpoint, which also says the range of each activation: ``edgedf
convert`` takes these in the place of measured ones, in both formats.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

from torch import nn

from edgedf import typed_json
from edgedf.distill.datasets.dataset import Split
from edgedf.distill.distributed import World, joined
from edgedf.distill.evaluation.figures import as_accuracy
from edgedf.distill.evaluation.predictions import predict
from edgedf.distill.networks.checkpoints import load_checkpoint, save_checkpoint
from edgedf.distill.networks.deployable import Deployable
from edgedf.distill.networks.student import Student
from edgedf.distill.qat.equalize import equalized
from edgedf.distill.qat.fake_quant import FakeQuantized, ranges_of
from edgedf.distill.qat.figures import Agreement, agreement
from edgedf.distill.qat.pictures import Pictures, divided, of_split
from edgedf.distill.qat.task import BATCH, QatTask, fitting, groups_of, untrained
from edgedf.distill.records.preparation import claimed
from edgedf.distill.settings import QatSettings
from edgedf.distill.training.loop import BEST, STATE, Loop
from edgedf.errors import CheckpointError, ConfigError
from edgedf.evaluation import Skipped
from edgedf.files import sha256_of, write_text
from edgedf.imaging import RGBImage
from edgedf.progress import Progress, silent
from edgedf.result import Threshold
from edgedf.spec import Accuracy, Training

__all__ = ["FINAL", "REPORT", "QatReport", "fine_tune", "train_qat"]

FINAL, REPORT, START = "student.safetensors", "report.json", "start.safetensors"

# What figures in the checkpoint were measured on.
_PARENT, _SIMULATED = "fp32 before QAT", "int8, simulated"


@dataclass(frozen=True)
class QatReport:
    """The outcome of a run.

    Args:
        checkpoint: The student, with the ranges inside.
        steps: Steps taken.
        best_step: Step whose averaged weights it has; 0 where none was better than the start.
        seconds: Time spent on steps, over all sessions of the run.
        figures: How far from the float student it started from: before and after, as int8 computes
            it, and the new weights in float; in between the equalized student, where training
            started from it.
        stopped_early: Whether the score stopped improving before the last step.
        skipped: Pictures that could not be read.
    """

    checkpoint: Path
    steps: int
    best_step: int
    seconds: float
    figures: tuple[Agreement, ...]
    stopped_early: bool = False
    skipped: tuple[Skipped, ...] = ()


def train_qat(
    data: str | Path,
    out: str | Path,
    checkpoint: str | Path,
    settings: QatSettings | None = None,
    *,
    progress: Progress = silent,
) -> QatReport:
    """Fine-tune a student for int8, or go on with a run that was cut off.

    Args:
        data: Folder with ``manifest.csv``; train is learned from, val chooses the best weights,
            test is looked at once. Labels are used for figures, and for the loss where
            ``settings.labels`` asks for it.
        out: Folder of the run.
        checkpoint: The float student.
        settings: Everything else the run depends on.
        progress: Told about pictures, steps and looks.

    Returns:
        The report, which is also in ``report.json``.

    Raises:
        CheckpointError: The student or the saved state is damaged, or training has diverged.
        ConfigError: ``out`` holds a run with other settings, another student or other data.
        DataError: The manifest cannot be used, or more than 5 % of a split's pictures.
        OutputError: ``out`` cannot be written.
    """
    settings, folder = settings or QatSettings(), Path(out)
    with joined(settings.loop.device) as world:
        tell = progress if world.is_main else silent
        student, metadata = load_checkpoint(checkpoint)
        origin = _origin(metadata, checkpoint)
        depends = {"Student": origin.sha256}
        dataset = world.on_main(lambda: claimed(Path(data), folder, settings, [STATE], depends))
        size, seed = student.config.input_size, settings.loop.seed

        def read(split: Split, most: int) -> Pictures:
            return of_split(dataset, split, most=most, size=size, seed=seed, progress=tell)

        training = read("train", settings.pictures)
        judged = {"val": read("val", settings.judged), "test": read("test", settings.tested)}
        return _run(student, origin, training, judged, settings, folder, world, tell)


def fine_tune(
    checkpoint: str | Path,
    pictures: Sequence[RGBImage | str | Path],
    out: str | Path,
    settings: QatSettings | None = None,
    *,
    minutes: float | None = None,
    progress: Progress = silent,
) -> QatReport:
    """Fine-tune a student for int8 on pictures without labels.

    Args:
        checkpoint: The float student.
        pictures: uint8 RGB of any size, or files; a quarter of them is held out to choose the best
            weights on.
        out: Folder of the run; the result is ``student.safetensors`` in it.
        settings: Everything else the run depends on.
        minutes: At most so long: as many steps are taken as fit, and never more than
            ``settings.loop.steps``. How many fit is measured, so that the result depends on the
            machine; None takes all steps.
        progress: Told about steps and looks.

    Returns:
        The report, with figures on the pictures held out.

    Raises:
        CheckpointError: The student is damaged, or training has diverged.
        ConfigError: A setting is out of range, no step fits into the minutes, or ``out`` holds a
            run.
        DataError: There are too few pictures.
        ImageError: A picture cannot be used.
        OutputError: ``out`` cannot be written.
    """
    settings, folder = settings or QatSettings(), Path(out)
    if (folder / STATE).exists():
        raise ConfigError(
            f"{folder} holds a run already.",
            expected="a folder without one: nothing says which pictures it saw",
            next_step="choose another folder, or delete that one",
        )
    student, metadata = load_checkpoint(checkpoint)
    origin = _origin(metadata, checkpoint)
    training, held_out = divided(pictures, student.config.input_size, settings.loop.seed)
    if minutes is not None:
        settings = fitting(student, settings, training, minutes)
    with joined(settings.loop.device) as world:
        judged = {"held out": held_out}
        return _run(student, origin, training, judged, settings, folder, world, progress)


class _Origin(NamedTuple):
    """The float student's file."""

    metadata: Mapping[str, Any]
    sha256: str
    threshold: Threshold
    training: Training
    accuracy: tuple[Accuracy, ...]


def _run(
    student: Student,
    origin: _Origin,
    training: Pictures,
    judged: Mapping[str, Pictures],
    settings: QatSettings,
    folder: Path,
    world: World,
    progress: Progress,
) -> QatReport:
    """Train, choose the best weights on the first of the judged pictures, and write the figures."""

    def save_best(path: Path, averaged: nn.Module, step: int) -> None:
        network = cast(FakeQuantized, averaged)
        described = {
            "parent_sha256": origin.sha256,
            "method": settings.ranges,
            "steps": step,
            "ranges": {name: list(ends) for name, ends in network.ranges().items()},
        }
        save_checkpoint(path, network.student, {**origin.metadata, "qat": described})

    before = untrained(student, settings, training).to(world.device).eval()
    validation = next(iter(judged.values()))
    task = QatTask(student, training, validation, settings, world, save_best)
    start, score = before, task.evaluate(before, silent)["score"]
    if settings.equalize:
        other = untrained(equalized(student), settings, training).to(world.device).eval()
        other_score = task.evaluate(other, silent)["score"]
        if other_score > score:
            start, score = other, other_score
    network = copy.deepcopy(start)
    loop = Loop(folder, settings.loop, network, task, groups_of(network, settings), world)
    outcome = loop.go(progress)

    def finish() -> QatReport:
        best_step, kept = outcome.best_step, folder / BEST
        if score >= outcome.best_score:
            # A student that is near its best is not to be made worse.
            best_step, kept = 0, folder / START
            save_best(kept, start, best_step)
        best, described = load_checkpoint(kept)
        after = FakeQuantized(best).eval()
        after.set_ranges(ranges_of(described) or {})
        networks: dict[str, nn.Module] = {
            "int8 before": before,
            **({"int8 equalized": start} if start is not before else {}),
            "int8 after": after.to(world.device),
            "float after": Deployable(best).to(world.device),
        }
        parent = Deployable(student).to(world.device)
        figures = _figures(parent, networks, judged, origin.threshold, world, progress)
        described |= _learned_from(origin, training, figures)
        skipped = (entry for seen in (training, *judged.values()) for entry in seen.skipped)
        report = QatReport(
            save_checkpoint(folder / FINAL, best, described),
            outcome.steps,
            best_step,
            round(outcome.seconds, 1),
            figures,
            outcome.stopped_early,
            tuple(skipped),
        )
        encoded = typed_json.encode(report)
        write_text(folder / REPORT, json.dumps(encoded, indent=1, default=str))
        return report

    return world.on_main(finish)


def _figures(
    parent: nn.Module,
    networks: Mapping[str, nn.Module],
    judged: Mapping[str, Pictures],
    threshold: Threshold,
    world: World,
    progress: Progress,
) -> tuple[Agreement, ...]:
    figures = []
    for data, pictures in judged.items():
        wanted, *outputs = (
            predict(
                network,
                pictures.images,
                device=world.device,
                batch=BATCH,
                step=f"{data}, {model}",
                progress=progress,
            )
            for model, network in {"float": parent, **networks}.items()
        )
        for model, own in zip(networks, outputs, strict=True):
            figures.append(agreement(data, model, own, wanted, pictures, threshold))
    return tuple(figures)


def _learned_from(
    origin: _Origin, training: Pictures, figures: Sequence[Agreement]
) -> dict[str, Any]:
    """What the checkpoint says of its origin and accuracy, beside what the float student said."""
    parents = [replace(figure, model=_PARENT) for figure in origin.accuracy]
    own = [
        replace(as_accuracy(f"all sets pooled {figure.data}", "AUC", figure.auc), model=_SIMULATED)
        for figure in figures
        if figure.auc is not None and figure.model == "int8 after"
    ]
    data = f"{origin.training.data}; {len(training)} pictures of quantization-aware training"
    return {
        "training": typed_json.encode(replace(origin.training, data=data)),
        "accuracy": [typed_json.encode(figure) for figure in (*parents, *own)],
    }


def _origin(metadata: Mapping[str, Any], checkpoint: str | Path) -> _Origin:
    """What a checkpoint says of itself that its successor has to say as well.

    Raises:
        CheckpointError: Something is missing.
    """
    try:
        return _Origin(
            metadata,
            sha256_of(Path(checkpoint)),
            typed_json.decode(Threshold, metadata["threshold"], "threshold"),
            typed_json.decode(Training, metadata["training"], "training"),
            tuple(
                typed_json.decode(Accuracy, entry, f"accuracy[{index}]")
                for index, entry in enumerate(metadata["accuracy"])
            ),
        )
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else error.args[0]
        raise CheckpointError(
            f"{checkpoint} does not say what it is: {reason}.",
            expected="threshold, training and accuracy, which `edgedf distill train` writes",
            next_step="name student.safetensors of a run, not its best.safetensors",
        ) from error
