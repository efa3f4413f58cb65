"""The recipes that :mod:`experiments.ablation` compares, fitted to folds of the same records."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgedf import typed_json
from edgedf.distill.distributed import World
from edgedf.distill.networks.backbones import load_imagenet_weights
from edgedf.distill.networks.checkpoints import load_checkpoint
from edgedf.distill.networks.probe import (
    Calibration,
    balance,
    calibrate,
    distilled_targets,
    fit_probe,
)
from edgedf.distill.networks.student import Student
from edgedf.distill.networks.teacher import Teacher
from edgedf.distill.records.statistics import cached_statistics
from edgedf.distill.records.targets import Indices, Records
from edgedf.distill.settings import MODALITIES, LoopSettings, TeacherConfig, TrainSettings
from edgedf.distill.training.loop import BEST
from edgedf.distill.training.student_maps import learn_maps
from edgedf.distill.training.taught import statistics_of_branch
from edgedf.distill.training.verdict import set_thresholds, statistics_of
from edgedf.progress import Progress
from edgedf.settings import check_settings
from experiments.baselines import FineTuned, MapXception, judge_all, learn_labels
from experiments.leave_out import Fold

__all__ = ["RECIPES", "AblationSettings", "Recipes"]

RECIPES: Mapping[str, str] = {
    "xception": "defocus map → Xception, from scratch (the paper's baseline)",
    "fine-tune": "picture → EfficientNet-Lite0, fine-tuned",
    "rgb": "teacher's picture branch",
    "frequency": "teacher's fine-detail branch",
    "defocus": "teacher's defocus-map branch",
    "teacher": "teacher, all three branches",
    "student": "student, labels only",
    "student-distilled": "student, labels and the teacher's verdicts",
    "student-maps": "student, encoder tuned on defocus maps",
    "student-features": "student, the same held to the teacher's features",
}
"""What can be compared, by name."""

# Of an encoder that learns maps; the decoder learns ten times as fast.
_ENCODER_RATE = 2e-4
_LOOKED_AT = 64


@dataclass(frozen=True)
class AblationSettings:
    """How recipes are fitted.

    Args:
        penalty: Of verdicts in closed form; see :func:`edgedf.distill.networks.probe.fit_probe`.
        distilled: Share of the teacher in what a distilled student is fitted to.
        steps: Of networks that learn step by step.
        batch: Of the same.
        seed: Of everything random.
        size: Side of the pictures.

    Raises:
        ConfigError: A value out of range.
    """

    penalty: float = 3.0
    distilled: float = 0.5
    steps: int = 600
    batch: int = 16
    seed: int = 0
    size: int = 256

    def __post_init__(self) -> None:
        check_settings(
            self,
            {
                "(0, inf)": "penalty",
                "[0, 1]": "distilled",
                "[1, inf)": "steps batch",
                "[0, inf)": "seed",
                "[32, 2048] in steps of 32": "size",
            },
        )


class Recipes:
    """Fits recipes to records; statistics that several recipes need are computed once.

    Args:
        records: All of them; folds say which are fitted and which are judged.
        runs: Folder for the states of recipes that learn step by step.
        cache: Folder for statistics, which runs may share.
        settings: How recipes are fitted.
        progress: Told about statistics and steps.
    """

    def __init__(
        self,
        records: Records,
        runs: Path,
        cache: Path,
        settings: AblationSettings,
        progress: Progress,
    ) -> None:
        self._records, self._runs, self._cache = records, runs, cache
        self._settings, self._progress = settings, progress
        self._statistics: dict[str, NDArray[np.floating]] = {}
        digest = hashlib.sha256(records.labels.tobytes())
        digest.update(np.ascontiguousarray(records.images).data)
        digest.update(np.ascontiguousarray(records.maps).data)
        for job in records.jobs:
            sample = job.sample
            described = (job.kind, sample.set, sample.split, sample.source, sample.group)
            digest.update(json.dumps(described).encode())
        self._records_key = digest.hexdigest()
        digest.update(json.dumps(typed_json.encode(settings)).encode())
        self.key = digest.hexdigest()[:12]

    def run_folder(self, recipe: str, fold: Fold) -> Path:
        """Where a recipe that learns step by step keeps its state until it is done."""
        return self._runs / f"{recipe}, {fold.name}, {self.key}"

    def fit(self, recipe: str, fold: Fold) -> Callable[[Indices], NDArray[np.float64]]:
        """Fit a recipe to a fold; the result gives the logits of some of the records."""
        if recipe in ("xception", "fine-tune"):
            return self._learned(recipe, fold)
        if recipe in MODALITIES:
            return self._closed(self._branch(recipe), fold)
        if recipe == "teacher":
            return self._teacher(fold)
        if recipe in ("student-maps", "student-features"):
            return self._closed(self._tuned(recipe, fold), fold)
        teacher = self._teacher(fold)(fold.fitted) if recipe == "student-distilled" else None
        return self._closed(self._student(), fold, teacher)

    def _closed(
        self,
        statistics: NDArray[np.floating],
        fold: Fold,
        teacher: NDArray[np.float64] | None = None,
    ) -> Callable[[Indices], NDArray[np.float64]]:
        records, settings = self._records, self._settings
        labels = records.labels[fold.fitted]
        targets = distilled_targets(labels, teacher, settings.distilled)
        weights = balance(records.domains[fold.fitted], labels)
        probe = fit_probe(statistics[fold.fitted], targets, weights, penalty=settings.penalty)
        scale = self._scale(statistics, fold.fitted, targets, weights)
        return lambda part: scale(probe(statistics[part]))

    def _scale(
        self,
        statistics: NDArray[np.floating],
        fitted: Indices,
        targets: NDArray[np.floating],
        weights: NDArray[np.float64],
    ) -> Calibration:
        """Scale of a verdict, from a fifth of the groups, judged by a fit to the others.

        On what it was fitted to, a verdict is surer than it has reason to be.
        """
        labels, apart = self._records.labels[fitted], self._apart(fitted)
        if len(set(labels[apart].tolist())) < 2 or len(set(labels[~apart].tolist())) < 2:
            apart = np.ones(len(fitted), bool)  # too few to set some aside
            rest = apart
        else:
            rest = ~apart
        trial = fit_probe(
            statistics[fitted[rest]],
            targets[rest],
            weights[rest],
            penalty=self._settings.penalty,
        )
        return calibrate(trial(statistics[fitted[apart]]), labels[apart])

    def _apart(self, fitted: Indices) -> NDArray[np.bool_]:
        """A fifth of the groups, the same ones each time."""
        groups = (self._records.jobs[index].sample.group for index in fitted)
        return np.array([hashlib.sha256(group.encode()).digest()[0] < 51 for group in groups])

    def _teacher(self, fold: Fold) -> Callable[[Indices], NDArray[np.float64]]:
        branches = [self._closed(self._branch(name), fold) for name in MODALITIES]
        return lambda part: np.mean([judge(part) for judge in branches], axis=0)

    def _branch(self, modality: str) -> NDArray[np.floating]:
        if modality not in self._statistics:
            config = TeacherConfig(modalities=(modality,), map_channels=0)
            teacher = Teacher(config).eval()
            teacher.load_imagenet()
            (branch,) = teacher.each()
            self._statistics[modality] = statistics_of_branch(
                branch, config, self._records, self._cache, progress=self._progress
            )
        return self._statistics[modality]

    def _student(self) -> NDArray[np.floating]:
        if "student" not in self._statistics:
            torch.manual_seed(self._settings.seed)
            student = Student().eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            load_imagenet_weights(student.encoder)
            self._set_thresholds(student)
            # The thresholds follow from the records, but for rounding.
            config = json.dumps([typed_json.encode(student.config), self._records_key])
            self._statistics["student"] = cached_statistics(
                self._records,
                lambda images, maps: student.statistics(images),
                f"student {config}",
                self._cache,
                step="student statistics",
                progress=self._progress,
            )
        return self._statistics["student"]

    def _set_thresholds(self, student: Student) -> None:
        apart = max(1, len(self._records) // 1024)
        set_thresholds(student, self._records.images[::apart], self._progress)

    def _tuned(self, recipe: str, fold: Fold) -> NDArray[np.floating]:
        """What a student sees whose encoder has learned maps, of which it has seen no label."""
        settings = TrainSettings(
            encoder_rate=_ENCODER_RATE,
            features=float(recipe == "student-features"),
            loop=self._loop(),
        )
        records, run = self._records, self.run_folder(recipe, fold)
        learned = records.subset(fold.fitted)
        # The only look is the last one, so nothing is chosen by it.
        looked_at = learned.subset(np.arange(min(_LOOKED_AT, len(learned))))
        learn_maps(learned, looked_at, settings, run, world=World(), progress=self._progress)
        student, _ = load_checkpoint(run / BEST)
        student.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._set_thresholds(student)
        return statistics_of(student, records.images, self._progress)

    def _loop(self) -> LoopSettings:
        settings = self._settings
        return LoopSettings(
            steps=settings.steps,
            batch=settings.batch,
            seed=settings.seed,
            evaluate_every=settings.steps,
        )

    def _learned(self, recipe: str, fold: Fold) -> Callable[[Indices], NDArray[np.float64]]:
        build: Any = FineTuned if recipe == "fine-tune" else MapXception
        network = learn_labels(
            build,
            self._records.subset(fold.fitted),
            self.run_folder(recipe, fold),
            self._loop(),
            rate=3e-4,
            progress=self._progress,
        )
        return lambda part: judge_all(network, self._records.subset(part))
