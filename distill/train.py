"""Training the student, from a manifest to a checkpoint with its figures inside.

The run's folder holds ``settings.json``, ``metrics.csv``, ``state.safetensors`` (everything needed
to go on after a kill), ``best.safetensors`` (the averaged weights with the best validation AUC so
far), and at the end ``student.safetensors``, ``report.json`` and ``MODEL_CARD.md``.
"""

from __future__ import annotations

import csv
import io
import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
from safetensors.torch import save
from torch import Tensor

from edgedf import typed_json
from edgedf.distill.batches import Batches
from edgedf.distill.data import Dataset, Sample, Split, read_manifest
from edgedf.distill.evaluate import auc_with_interval, choose_threshold, measure, predict
from edgedf.distill.losses import Losses, fake_loss, map_loss
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
from edgedf.errors import CheckpointError, ConfigError, DataError
from edgedf.files import write_bytes, write_text
from edgedf.progress import Progress, silent
from edgedf.spec import Accuracy

__all__ = ["TrainReport", "TrainSettings", "train"]

STATE, BEST, FINAL = "state.safetensors", "best.safetensors", "student.safetensors"
SETTINGS, METRICS, REPORT = "settings.json", "metrics.csv", "report.json"
CARD = "MODEL_CARD.md"

RESEARCH_LICENCE = (
    "research use only: trained on image sets with research-only or unstated licences"
)


@dataclass(frozen=True)
class TrainSettings:
    """Everything a run depends on besides the pictures.

    Args:
        steps: Optimiser steps.
        batch: Records a step.
        head_rate: Learning rate of the decoder and the heads.
        encoder_rate: Learning rate of the encoder, small as it starts from ImageNet.
        frozen_stages: The stem and this many stages keep their ImageNet weights: what they
            measure carries over to unseen sources, and what is tuned learns the sources.
        weight_decay: Of AdamW.
        warmup: Steps over which the rates rise; a cosine takes them down to zero afterwards.
        average: Decay of the moving average of the weights, which is what is evaluated.
        map_weight: Weight of the map's loss beside the verdict's.
        smoothing: Of the labels.
        crops: Random squares a picture, beside the whole one.
        renderings: Synthetic depths of field a sharp picture.
        self_blends: Self-blends a real face.
        face_sets: Sets of aligned faces.
        sharp_sets: Sets of pictures that are sharp everywhere; they train the map alone.
        evaluate_every: Steps between looks at the validation split.
        save_every: Seconds between saves of the state.
        seed: Of everything random.
        name: Of the model.
        version: Of the model.
        licence: Of the weights.
        student: Architecture.

    Raises:
        ConfigError: A value out of range.
    """

    steps: int = 1800
    batch: int = 32
    head_rate: float = 2e-3
    encoder_rate: float = 2e-4
    frozen_stages: int = 2
    weight_decay: float = 1e-4
    warmup: int = 100
    average: float = 0.995
    map_weight: float = 0.5
    smoothing: float = 0.05
    crops: int = 1
    renderings: int = 6
    self_blends: int = 1
    face_sets: tuple[str, ...] = FACE_SETS
    sharp_sets: tuple[str, ...] = SHARP_SETS
    evaluate_every: int = 200
    save_every: float = 180.0
    seed: int = 0
    name: str = "edgedf-student"
    version: str = "0.1.0"
    licence: str = RESEARCH_LICENCE
    student: StudentConfig = field(default_factory=StudentConfig)

    def __post_init__(self) -> None:
        counts = (self.steps, self.batch, self.evaluate_every)
        shares = (self.average, self.smoothing * 2)
        if (
            min(counts) < 1
            or min(self.warmup, self.frozen_stages, self.map_weight, self.weight_decay) < 0
            or min(self.head_rate, self.encoder_rate) < 0
            or not all(0 <= share < 1 for share in shares)
        ):
            raise ConfigError(
                f"No run is possible with {self}.",
                expected="at least one step, one record a batch, rates and weights from 0, an "
                "average below 1 and a smoothing below 0.5",
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
    """

    checkpoint: Path
    best_step: int
    parameters: int
    seconds: float
    validation: tuple[Accuracy, ...]
    test: tuple[Accuracy, ...]


@dataclass
class _Progressed:
    """What changes as a run goes on, besides tensors."""

    step: int = 0
    seconds: float = 0.0
    best_auc: float = -1.0
    best_step: int = 0


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

    Args:
        data: Folder with ``manifest.csv``; see :mod:`edgedf.distill.data`.
        out: Folder of the run.
        settings: Everything the run depends on.
        cache: Folder for pictures and maps, which runs may share; None for one inside ``out``.
        workers: Processes that compute maps.
        progress: Told about maps, steps and evaluations.

    Returns:
        The report, which is also in ``report.json``.

    Raises:
        CheckpointError: The saved state is damaged, or training has diverged.
        ConfigError: ``out`` holds a run with other settings or other data.
        DataError: The manifest or a picture cannot be used.
        MissingExtra: The package with the ImageNet weights is not installed.
        OutputError: ``out`` cannot be written.
    """
    settings = settings or TrainSettings()
    folder = Path(out)
    dataset = read_manifest(data)
    _claim(folder, settings, dataset)
    stored = Path(cache) if cache is not None else folder / "cache"
    targets = TargetSettings(size=settings.student.input_size, seed=settings.seed)

    def records(jobs: tuple[Job, ...]) -> Records:
        return compute(jobs, stored, targets, workers=workers, progress=progress)

    sets = {"face_sets": settings.face_sets, "sharp_sets": settings.sharp_sets}
    training = records(
        plan(
            _of_split(dataset, "train"),
            crops=settings.crops,
            renderings=settings.renderings,
            self_blends=settings.self_blends,
            **sets,
        )
    )
    validation = records(evaluation_plan(_of_split(dataset, "val"), **sets))
    # Before the steps: a picture that cannot be read should be known now, not hours later.
    test = records(evaluation_plan(_of_split(dataset, "test"), **sets))
    run = _Run(folder, settings, training, validation)
    run.go(progress)
    student, _ = load_checkpoint(folder / BEST)
    return _finish(folder, settings, dataset, student, run.so_far, validation, test, progress)


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


def _claim(folder: Path, settings: TrainSettings, dataset: Dataset) -> None:
    """Note what the run depends on, or make sure that a run already there depends on the same."""
    described = {"settings": asdict(settings), "data_sha256": dataset.sha256}
    text = json.dumps(described, indent=1, sort_keys=True)
    path = folder / SETTINGS
    if path.is_file() and (folder / STATE).is_file() and path.read_text("utf-8") != text:
        raise ConfigError(
            f"{folder} holds a run with other settings or other data.",
            expected=f"the settings in {path}",
            next_step="choose another --out, or delete that folder",
        )
    write_text(path, text)


class _Run:
    """The loop and its state."""

    def __init__(
        self, folder: Path, settings: TrainSettings, training: Records, validation: Records
    ) -> None:
        self.folder, self.settings, self.validation = folder, settings, validation
        self.batches = Batches(training, size=settings.batch, seed=settings.seed)
        torch.manual_seed(settings.seed)
        self.student = Student(settings.student).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        load_imagenet_weights(self.student)
        self.averaged = Student(settings.student)
        self.averaged.load_state_dict(self.student.state_dict())
        self.optimiser = _optimiser(self.student, settings)
        self.so_far = _Progressed()
        self.rows: list[dict[str, float]] = []
        if (folder / STATE).is_file():
            self._resume()

    def go(self, progress: Progress) -> None:
        """Run all steps that are left."""
        settings, so_far = self.settings, self.so_far
        last_save = time.monotonic()
        while so_far.step < settings.steps:
            start = time.monotonic()
            losses = self._step(so_far.step)
            so_far.step += 1
            so_far.seconds += time.monotonic() - start
            row = {"step": so_far.step, "fake": losses.fake.item(), "map": losses.map.item()}
            if not math.isfinite(row["fake"] + row["map"]):
                raise CheckpointError(
                    f"Training diverged at step {so_far.step}: the loss is not a number.",
                    next_step="run it again with smaller learning rates in another folder",
                )
            is_last = so_far.step == settings.steps
            if so_far.step % settings.evaluate_every == 0 or is_last:
                row |= self._evaluate(progress)
            self.rows.append(row)
            if is_last or time.monotonic() - last_save > settings.save_every:
                self._save()
                last_save = time.monotonic()
            progress("training steps", so_far.step, settings.steps)

    def _step(self, step: int) -> Losses:
        settings = self.settings
        batch = self.batches[step]
        torch.manual_seed(settings.seed * 1_000_003 + step)  # dropout follows the step's number
        factor = _rate_factor(step, settings)
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * factor
        self.student.train()
        output = self.student(batch.images)
        losses = Losses(
            fake_loss(output.fake_logit[:, 0], batch.labels, smoothing=settings.smoothing),
            map_loss(output.defocus_map, batch.maps),
        )
        self.optimiser.zero_grad(set_to_none=True)
        losses.total(settings.map_weight).backward()
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), 5.0)
        self.optimiser.step()
        with torch.no_grad():
            # A young average follows quickly, so that it forgets where it started.
            decay = min(settings.average, (1 + step) / (10 + step))
            for mean, value in zip(
                self.averaged.parameters(), self.student.parameters(), strict=True
            ):
                mean.lerp_(value, 1 - decay)
        return losses

    def _evaluate(self, progress: Progress) -> dict[str, float]:
        predictions = predict(self.averaged, self.validation.images, progress=progress)
        figures = measure(self.validation, predictions, "val")
        row = {f"{figure.dataset} {figure.metric}": figure.value for figure in figures}
        score = float(np.mean([f.value for f in figures if f.metric == "AUC"]))
        if score > self.so_far.best_auc:
            self.so_far.best_auc, self.so_far.best_step = score, self.so_far.step
            save_checkpoint(self.folder / BEST, self.averaged, {"step": self.so_far.step})
        return {**row, "mean AUC": score}

    def _save(self) -> None:
        tensors: dict[str, Tensor] = {}
        for prefix, module in (("student", self.student), ("averaged", self.averaged)):
            tensors |= {f"{prefix}.{name}": value for name, value in module.state_dict().items()}
        for index, moments in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{name}": value for name, value in moments.items()}
        described = {"so_far": json.dumps(asdict(self.so_far)), "rows": json.dumps(self.rows)}
        data = save({name: value.contiguous() for name, value in tensors.items()}, described)
        write_bytes(self.folder / STATE, data)
        write_text(self.folder / METRICS, _csv(self.rows))

    def _resume(self) -> None:
        path = self.folder / STATE
        try:
            with safetensors.safe_open(str(path), framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                metadata = file.metadata()
            self.so_far = typed_json.decode(_Progressed, json.loads(metadata["so_far"]))
            self.rows = json.loads(metadata["rows"])
            for prefix, module in (("student", self.student), ("averaged", self.averaged)):
                module.load_state_dict(
                    {
                        name.removeprefix(f"{prefix}."): value
                        for name, value in tensors.items()
                        if name.startswith(f"{prefix}.")
                    }
                )
            moments: dict[int, dict[str, Tensor]] = {}
            for name, value in tensors.items():
                if name.startswith("optimiser."):
                    _, index, kind = name.split(".")
                    moments.setdefault(int(index), {})[kind] = value
            self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": moments})
        except (
            OSError,
            safetensors.SafetensorError,
            KeyError,
            TypeError,
            ValueError,
            RuntimeError,
        ) as error:
            raise CheckpointError(
                f"The saved state {path} cannot be used: {error}.",
                expected="a state written by this version of edgedf",
                next_step="delete it to start the run again",
            ) from error


def _optimiser(student: Student, settings: TrainSettings) -> torch.optim.AdamW:
    encoder = student.encoder
    frozen = [encoder.stem, *encoder.stages[: settings.frozen_stages]]
    for part in frozen:
        part.requires_grad_(False)
    tuned = [weight for weight in encoder.parameters() if weight.requires_grad]
    known = {id(weight) for weight in encoder.parameters()}
    heads = [weight for weight in student.parameters() if id(weight) not in known]
    groups = [
        {"params": weights, "peak": rate}
        for weights, rate in ((tuned, settings.encoder_rate), (heads, settings.head_rate))
        if weights
    ]
    return torch.optim.AdamW(groups, lr=1.0, weight_decay=settings.weight_decay)


def _rate_factor(step: int, settings: TrainSettings) -> float:
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    left = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, left)))


def _csv(rows: list[dict[str, float]]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _finish(
    folder: Path,
    settings: TrainSettings,
    dataset: Dataset,
    student: Student,
    so_far: _Progressed,
    validation: Records,
    test: Records,
    progress: Progress,
) -> TrainReport:
    """Choose thresholds on the validation split, measure on the test split, write the student."""
    on_validation = predict(student, validation.images, progress=progress)
    labelled = np.flatnonzero(~np.isnan(validation.labels))
    judged = sorted({validation.jobs[index].sample.set for index in labelled})
    threshold = choose_threshold(
        validation.labels[labelled],
        on_validation.logits[labelled],
        f"the validation splits of {', '.join(judged)} and self-blended faces",
    )
    on_test = predict(student, test.images, step="test", progress=progress)
    figures = measure(test, on_test, "test", threshold)
    whole = np.array([job.kind == "whole" for job in test.jobs])
    groups = [job.sample.group for job in test.jobs]
    pooled = auc_with_interval(
        test.labels[whole], on_test.logits[whole], np.array(groups)[whole].tolist()
    )
    low, high = round(pooled.low, 4), round(pooled.high, 4)
    overall = Accuracy("all sets pooled test", "AUC", round(pooled.value, 4), low, high, pooled.n)
    figures = (*figures, overall)
    metadata: Mapping[str, Any] = {
        "name": settings.name,
        "version": settings.version,
        "licence": settings.licence,
        "threshold": typed_json.encode(threshold),
        "training": {
            "data": ", ".join(dataset.sets) + " (train split), self-blended faces, "
            "synthetic depth of field",
            "data_sha256": dataset.sha256,
            "steps": so_far.best_step,
        },
        "accuracy": [typed_json.encode(figure) for figure in figures],
    }
    checkpoint = save_checkpoint(folder / FINAL, student, metadata)
    write_text(folder / CARD, model_card(metadata, student))
    report = TrainReport(
        checkpoint,
        so_far.best_step,
        sum(weight.numel() for weight in student.parameters()),
        round(so_far.seconds, 1),
        measure(validation, on_validation, "val", threshold),
        figures,
    )
    plain = typed_json.encode(replace(report, checkpoint=str(checkpoint)))  # type: ignore[arg-type]
    write_text(folder / REPORT, json.dumps(plain, indent=1))
    return report
