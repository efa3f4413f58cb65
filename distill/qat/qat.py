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
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from edgedf import typed_json
from edgedf.distill.datasets.dataset import Split
from edgedf.distill.distributed import World, joined
from edgedf.distill.evaluation.evaluate import as_accuracy
from edgedf.distill.networks.student import Student, load_checkpoint, save_checkpoint
from edgedf.distill.qat.equalize import equalized
from edgedf.distill.qat.fake_quant import FakeQuantized, ranges_of
from edgedf.distill.qat.figures import Agreement, agreement, answers
from edgedf.distill.qat.pictures import Batch, Batches, Pictures, as_batch, divided, of_split
from edgedf.distill.records.preparation import claimed
from edgedf.distill.training.loop import BEST, STATE, Loop, LoopSettings, ParameterGroup
from edgedf.distill.training.losses import fake_loss
from edgedf.errors import CheckpointError, ConfigError
from edgedf.evaluation import Skipped
from edgedf.files import sha256_of, write_text
from edgedf.imaging import RGBImage
from edgedf.progress import Progress, silent
from edgedf.result import Threshold
from edgedf.spec import LOGIT_BOUND, Accuracy, Training

__all__ = [
    "FINAL",
    "REPORT",
    "QatLoopSettings",
    "QatReport",
    "QatSettings",
    "fine_tune",
    "ranges_of",
    "train_qat",
]

FINAL, REPORT, START = "student.safetensors", "report.json", "start.safetensors"

# Pictures a batch when nothing is learned.
_AT_ONCE = 8
_TIMED_STEPS = 3
# A tensor of zeros, such as biases that were never trained, is taken to be so large.
_SMALLEST = 1e-3
# Of a budget in minutes, the share that steps may take; looks and figures take the rest.
_STEPS_SHARE = 0.75
# What figures in the checkpoint were measured on.
_PARENT, _SIMULATED = "fp32 before QAT", "int8, simulated"


@dataclass(frozen=True)
class QatLoopSettings(LoopSettings):
    """As for any training, with defaults for a short one; arithmetic stays float32.

    Raises:
        ConfigError: A value out of range, or ``amp`` is not ``off``.
    """

    steps: int = 300
    batch: int = 8
    warmup: int = 20
    average: float = 0.98
    evaluate_every: int = 50
    amp: Literal["auto", "off", "bf16", "fp16"] = "off"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.amp != "off":
            raise ConfigError(
                f"Half precision (amp = {self.amp}) is coarser than the steps of int8.",
                expected="amp = off",
                next_step="leave it out",
            )


@dataclass(frozen=True)
class QatSettings:
    """Everything a run depends on besides student and pictures.

    Args:
        rate: Learning rate of the weights, as a share of each tensor's root mean square: what is
            near to right already must not be moved by as much where it is small as where it is
            large (as Shazeer & Stern, "Adafactor", ICML 2018).
        range_rate: Learning rate of the ranges, on a logarithmic scale.
        ranges: ``learned`` or ``ema``; see :class:`edgedf.distill.qat.fake_quant.FakeQuantized`.
        equalize: Whether training may start from the student with equalized channels
            (:mod:`edgedf.distill.qat.equalize`): it does where that is nearer on the pictures that
            the score is taken on.
        logit: Weight of the mean absolute error of the logit.
        map: Weight of the mean absolute error of the map, in pixels.
        labels: Weight of the cross-entropy of the logit against the labels, where there are any.
        pictures: At most so many are read of the train split, as many of each set and class.
        judged: Likewise of the val split.
        tested: Likewise of the test split.
        observed: Pictures that the ranges start from.
        loop: Steps, batch, averaging, early stopping, seed.

    Raises:
        ConfigError: A value out of range.
    """

    rate: float = 1e-5
    range_rate: float = 1e-3
    ranges: Literal["learned", "ema"] = "learned"
    equalize: bool = True
    logit: float = 1.0
    map: float = 1.0
    labels: float = 0.0
    pictures: int = 1024
    judged: int = 128
    tested: int = 512
    observed: int = 64
    loop: QatLoopSettings = field(default_factory=QatLoopSettings)

    def __post_init__(self) -> None:
        if self.ranges not in ("learned", "ema"):
            raise ConfigError(
                f"There are no {self.ranges!r} ranges.",
                expected="learned or ema",
                next_step="choose one of these",
            )
        if (
            min(self.rate, self.range_rate, self.logit, self.map, self.labels) < 0
            or min(self.pictures, self.judged, self.tested, self.observed) < 1
            or self.logit + self.map <= 0
        ):
            raise ConfigError(
                f"No run is possible with {self}.",
                expected="rates and weights from 0, logit or map above 0, one picture or more",
                next_step="change the value that is outside",
            )


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
        told = progress if world.is_main else silent
        student, metadata = load_checkpoint(checkpoint)
        origin = _origin(metadata, checkpoint)
        depends = {"Student": origin.sha256}
        dataset = world.on_main(lambda: claimed(Path(data), folder, settings, [STATE], depends))
        size, seed = student.config.input_size, settings.loop.seed

        def read(split: Split, most: int) -> Pictures:
            return of_split(dataset, split, most=most, size=size, seed=seed, progress=told)

        training = read("train", settings.pictures)
        judged = {"val": read("val", settings.judged), "test": read("test", settings.tested)}
        return _run(student, origin, training, judged, settings, folder, world, told)


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
        settings = _fitting(student, settings, training, minutes)
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


class _Task:
    """The task: the float student's logit and map, and where asked for the labels.

    Args:
        student: The float student.
        training: What is learned from.
        validation: What the score is taken on.
        settings: Weights, seed.
        world: The processes that share the batch.
        save: Writes the averaged network, the best so far, with its step.
    """

    def __init__(
        self,
        student: Student,
        training: Pictures,
        validation: Pictures,
        settings: QatSettings,
        world: World,
        save: Callable[[Path, nn.Module, int], None],
    ) -> None:
        self.weights: Mapping[str, float] = {
            "logit": settings.logit,
            "map": settings.map,
            "labels": settings.labels,
        }
        self._device = world.device
        size = settings.loop.batch * world.size
        self._batches = Batches(training, size=size, seed=settings.loop.seed)
        self._parent = student.deployable().to(world.device)
        self._validation, self._wanted = validation, answers(self._parent, validation, world.device)
        self.save_best = save

    def batch(self, step: int, rank: int, ranks: int) -> Batch:
        """One process's slice of a step's batch."""
        return self._batches.part(step, rank, ranks)

    def files(self, step: int, ranks: int) -> Sequence[str]:
        """The pictures of a step's whole batch."""
        return self._batches.files(step)

    def losses(self, module: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Errors of logit and map against the float student, and of the logit against labels."""
        with torch.no_grad():
            logit, dense = self._parent(batch.images)
        found, found_map = module(batch.images)
        # int8 cannot say more than this, and need not.
        wanted = logit.clamp(-LOGIT_BOUND, LOGIT_BOUND)
        return {
            "logit": (found - wanted).abs().mean(),
            "map": (found_map - dense).abs().mean(),
            "labels": fake_loss(found[:, 0], batch.labels, count=batch.labelled),
        }

    def evaluate(self, averaged: nn.Module, progress: Progress) -> dict[str, float]:
        """The same errors of the averaged network on the validation pictures."""
        found = answers(averaged, self._validation, self._device, progress=progress)
        wanted = self._wanted
        logit = np.abs(found.logits - wanted.logits).mean()
        dense = np.abs(found.maps - wanted.maps).mean()
        score = -(self.weights["logit"] * logit + self.weights["map"] * dense)
        return {
            "logit error on validation": float(logit),
            "map error on validation": float(dense),
            "score": float(score),
        }


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

    before = _untrained(student, settings, training).to(world.device).eval()
    validation = next(iter(judged.values()))
    task = _Task(student, training, validation, settings, world, save_best)
    start, score = before, task.evaluate(before, silent)["score"]
    if settings.equalize:
        other = _untrained(equalized(student), settings, training).to(world.device).eval()
        other_score = task.evaluate(other, silent)["score"]
        if other_score > score:
            start, score = other, other_score
    network = copy.deepcopy(start)
    loop = Loop(folder, settings.loop, network, task, _groups(network, settings), world)
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
            "float after": best.deployable().to(world.device),
        }
        parent = student.deployable().to(world.device)
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
        plain = typed_json.encode(replace(report, checkpoint=str(report.checkpoint)))  # type: ignore[arg-type]
        write_text(folder / REPORT, json.dumps(plain, indent=1))
        return report

    return world.on_main(finish)


def _untrained(student: Student, settings: QatSettings, training: Pictures) -> FakeQuantized:
    """The student with fake quantization, its ranges taken from some pictures."""
    network = FakeQuantized(copy.deepcopy(student), settings.ranges)
    if network.student.high_pass is not None:
        network.student.high_pass.requires_grad_(False)  # exact as it is
    rng = np.random.default_rng(settings.loop.seed)
    count = min(settings.observed, len(training))
    chosen = np.sort(rng.choice(len(training), count, replace=False))
    images = training.images[chosen]
    network.observe(as_batch(images[at : at + _AT_ONCE]) for at in range(0, count, _AT_ONCE))
    return network


def _groups(network: FakeQuantized, settings: QatSettings) -> list[ParameterGroup]:
    # No decay: weights near those of the float student are wanted, not small ones.
    groups = [
        ParameterGroup([weight], settings.rate * _size(weight), 0.0)
        for weight in network.student.parameters()
        if weight.requires_grad
    ]
    if network.stretch.requires_grad:
        groups.append(ParameterGroup([network.stretch], settings.range_rate, 0.0))
    return groups


def _size(weight: Tensor) -> float:
    """Root mean square; of a tensor of zeros, a little."""
    return max(float(weight.detach().square().mean().sqrt()), _SMALLEST)


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
        wanted = answers(parent, pictures, world.device, step=f"{data}, float", progress=progress)
        for model, network in networks.items():
            found = answers(
                network, pictures, world.device, step=f"{data}, {model}", progress=progress
            )
            figures.append(agreement(data, model, found, wanted, pictures, threshold))
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


def _fitting(
    student: Student, settings: QatSettings, training: Pictures, minutes: float
) -> QatSettings:
    """As many steps as fit into a budget, measured on a few that are thrown away."""
    network = _untrained(student, settings, training).train()
    parent = student.deployable()
    batches = Batches(training, size=settings.loop.batch, seed=settings.loop.seed)
    seconds = []
    for step in range(_TIMED_STEPS):
        start = time.monotonic()
        batch = batches.part(step, 0, 1)
        with torch.no_grad():
            parent(batch.images)
        logit, dense = network(batch.images)
        (logit.mean() + dense.mean()).backward()
        seconds.append(time.monotonic() - start)
    fit = _STEPS_SHARE * 60 * minutes / min(seconds)
    if not fit >= 1:
        raise ConfigError(
            f"No step of training fits into {minutes:g} minutes: one takes {min(seconds):.1f} s.",
            expected="time for some dozens of steps",
            next_step="allow more minutes, or set a smaller loop.batch",
        )
    loop = settings.loop
    steps = int(min(loop.steps, fit))
    return replace(
        settings,
        loop=replace(
            loop,
            steps=steps,
            warmup=min(loop.warmup, steps // 10),
            evaluate_every=min(loop.evaluate_every, max(1, steps // 3)),
        ),
    )


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
