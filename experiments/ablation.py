"""What each part of the recipe brings: one table, within the sources and with sources left out.

Every recipe is fitted to the same records: to the training split, measured on the test split, and
once for each source left out, measured on that source. A result is written as soon as it is there,
so a run that is killed goes on with the next one.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgedf import typed_json
from edgedf.distill.datasets.dataset import read_manifest
from edgedf.distill.distributed import World
from edgedf.distill.networks.backbones import load_imagenet_weights
from edgedf.distill.networks.probe import (
    Calibration,
    balance,
    calibrate,
    distilled_targets,
    fit_probe,
)
from edgedf.distill.networks.student import Student, load_checkpoint
from edgedf.distill.networks.teacher import MODALITIES, Teacher, TeacherConfig
from edgedf.distill.records.preparation import Indices, domains
from edgedf.distill.records.statistics import cached_statistics
from edgedf.distill.records.targets import Records
from edgedf.distill.training.loop import BEST, LoopSettings
from edgedf.distill.training.teach import statistics_of_branch
from edgedf.distill.training.train import TrainSettings, learn_maps
from edgedf.distill.training.verdict import set_thresholds, statistics_of
from edgedf.errors import ConfigError
from edgedf.files import write_text
from edgedf.progress import Progress, silent
from edgedf.spec import Accuracy
from experiments.baselines import FineTuned, MapXception, judge_all, learn_labels
from experiments.leave_out import Fold, every_record, in_domain, left_out, left_out_units

__all__ = ["RECIPES", "AblationSettings", "Row", "ablate", "as_markdown"]

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
        if (
            self.penalty <= 0
            or not 0 <= self.distilled <= 1
            or min(self.steps, self.batch) < 1
            or self.seed < 0
            or not 32 <= self.size <= 2048
            or self.size % 32
        ):
            raise ConfigError(
                f"Recipes cannot be compared with {self}.",
                expected="a penalty above 0, a share from 0 to 1, steps and batch from 1, a seed "
                "from 0, a side from 32 to 2048 that is a multiple of 32",
                next_step="change the value that is outside",
            )


@dataclass(frozen=True)
class Row:
    """A recipe in a fold.

    Args:
        recipe: One of :data:`RECIPES`.
        fold: ``test``, or ``without`` a source.
        figures: AUC by title.
    """

    recipe: str
    fold: str
    figures: tuple[Accuracy, ...]


def ablate(
    data: str | Path,
    out: str | Path,
    *,
    cache: str | Path,
    recipes: Sequence[str] = tuple(RECIPES),
    settings: AblationSettings | None = None,
    workers: int = 2,
    progress: Progress = silent,
) -> tuple[Row, ...]:
    """Fit and measure recipes, or go on where a run was cut off.

    Args:
        data: Folder with ``manifest.csv``.
        out: Folder for the results, a file each.
        cache: Folder for pictures, maps and statistics, which runs may share.
        recipes: Names from :data:`RECIPES`.
        settings: How they are fitted.
        workers: Processes that compute maps.
        progress: Told about maps, statistics, steps and results.

    Raises:
        ConfigError: There is no such recipe.
        DataError: The data cannot be used, or no source can be left out.
        OutputError: A folder cannot be written.
    """
    settings = settings or AblationSettings()
    unknown = [name for name in recipes if name not in RECIPES]
    if unknown or not recipes:
        raise ConfigError(
            f"There is no recipe {', '.join(unknown) or 'at all'}.",
            expected=", ".join(RECIPES),
            next_step="choose some of these",
        )
    left_out_units(read_manifest(data).samples)  # known before the minutes that maps take
    records = every_record(
        data, cache, size=settings.size, seed=settings.seed, workers=workers, progress=progress
    )
    folds = (in_domain(records), *left_out(records))
    bench = _Bench(records, Path(out), Path(cache), settings, progress)
    rows = []
    for number, name in enumerate(recipes):
        for fold in folds:
            rows.append(bench.row(name, fold))
        progress("recipes", number + 1, len(recipes))
    return tuple(rows)


def as_markdown(rows: Sequence[Row]) -> str:
    """A table with a line a recipe and a column a title, and the mean over left-out sources."""
    figures: dict[str, dict[str, Accuracy]] = {}
    for row in rows:
        figures.setdefault(row.recipe, {}).update({f.dataset: f for f in row.figures})
    tables = []
    for is_out in (False, True):
        titles = list(
            dict.fromkeys(
                figure.dataset
                for row in rows
                if (row.fold != "test") is is_out
                for figure in row.figures
            )
        )
        if not titles:
            continue
        heads = ["recipe", *titles, *(["mean"] if is_out else [])]
        lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
        for recipe, found in figures.items():
            shown = [found.get(title) for title in titles]
            cells = [
                "" if f is None else f"{f.value:.3f} ({f.low:.3f} to {f.high:.3f})" for f in shown
            ]
            if is_out:
                known = [f.value for f in shown if f is not None]
                cells.append(f"{np.mean(known):.3f}" if known else "")
            lines.append(f"| {' | '.join([RECIPES.get(recipe, recipe), *cells])} |")
        sizes = [next(f.n for found in figures.values() if (f := found.get(t))) for t in titles]
        lines.append(f"| {' | '.join(['n', *map(str, sizes), *([''] if is_out else [])])} |")
        tables.append("\n".join(lines))
    return "\n\n".join(tables) + "\n"


class _Bench:
    """The records, and what has been computed of them."""

    def __init__(
        self,
        records: Records,
        out: Path,
        cache: Path,
        settings: AblationSettings,
        progress: Progress,
    ) -> None:
        self._records, self._out, self._cache = records, out, cache
        self._settings, self._progress = settings, progress
        self._statistics: dict[str, NDArray[np.floating]] = {}
        digest = hashlib.sha256(records.labels.tobytes())
        digest.update(np.ascontiguousarray(records.images).data)
        digest.update(np.ascontiguousarray(records.maps).data)
        for job in records.jobs:
            sample = job.sample
            told = (job.kind, sample.set, sample.split, sample.source, sample.group)
            digest.update(json.dumps(told).encode())
        self._records_key = digest.hexdigest()
        digest.update(json.dumps(typed_json.encode(settings)).encode())
        self._key = digest.hexdigest()[:12]

    def row(self, recipe: str, fold: Fold) -> Row:
        """A recipe's figures in a fold, from its file where it is there."""
        path = self._out / f"{recipe}, {fold.name}, {self._key}.json"
        try:
            return typed_json.decode(Row, json.loads(path.read_text("utf-8")))
        except (OSError, ValueError, TypeError, RecursionError):
            pass
        row = Row(recipe, fold.name, fold.figures(self._records, self._judge(recipe, fold)))
        write_text(path, json.dumps(typed_json.encode(row), indent=1))
        shutil.rmtree(self._run(recipe, fold), ignore_errors=True)
        return row

    def _run(self, recipe: str, fold: Fold) -> Path:
        """Where a recipe that learns step by step keeps its state until it is done."""
        return self._out / f"{recipe}, {fold.name}, {self._key}"

    def _judge(self, recipe: str, fold: Fold) -> Callable[[Indices], NDArray[np.float64]]:
        if recipe in ("xception", "fine-tune"):
            return self._learned(recipe, fold)
        if recipe in MODALITIES:
            return self._closed(self._branch(recipe), fold)
        if recipe == "teacher":
            return self._teacher(fold)
        if recipe in ("student-maps", "student-features"):
            return self._closed(self._tuned(recipe, fold), fold)
        said = self._teacher(fold)(fold.fitted) if recipe == "student-distilled" else None
        return self._closed(self._student(), fold, said)

    def _closed(
        self,
        statistics: NDArray[np.floating],
        fold: Fold,
        teacher: NDArray[np.float64] | None = None,
    ) -> Callable[[Indices], NDArray[np.float64]]:
        records, settings = self._records, self._settings
        labels = records.labels[fold.fitted]
        targets = distilled_targets(labels, teacher, settings.distilled)
        weights = balance(domains(records, fold.fitted), labels)
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
            described = json.dumps([typed_json.encode(student.config), self._records_key])
            self._statistics["student"] = cached_statistics(
                self._records,
                lambda images, maps: student.statistics(images),
                f"student {described}",
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
        records, run = self._records, self._run(recipe, fold)
        learned = records.subset(fold.fitted)
        # The only look is the last one, so nothing is chosen by it.
        looked_at = learned.subset(np.arange(min(_LOOKED_AT, len(learned))))
        learn_maps(learned, looked_at, settings, run, world=World(), progress=self._progress)
        student, _ = load_checkpoint(run / BEST)
        student.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._set_thresholds(student)
        return statistics_of(student, iter(records.images), len(records), self._progress)

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
            self._run(recipe, fold),
            self._loop(),
            rate=3e-4,
            progress=self._progress,
        )
        return lambda part: judge_all(network, self._records.subset(part))
