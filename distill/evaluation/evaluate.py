"""How good a checkpoint is on a data set, as the training that made it measured it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from edgedf import typed_json
from edgedf.distill.datasets.dataset import SPLITS, Sample, Split, read_manifest
from edgedf.distill.datasets.readable import readable
from edgedf.distill.evaluation.figures import RENDERED, measure
from edgedf.distill.evaluation.perturb import perturbations
from edgedf.distill.evaluation.predictions import Predictions, predict
from edgedf.distill.networks.checkpoints import load_checkpoint
from edgedf.distill.networks.student import Student
from edgedf.distill.records.making import TargetSettings
from edgedf.distill.records.plan import evaluation_plan
from edgedf.distill.records.targets import Records, compute
from edgedf.distill.settings import EvaluationSettings
from edgedf.errors import CheckpointError, ConfigError, DataError, ImageError
from edgedf.evaluation import (
    UNCHANGED,
    Judgement,
    MapRow,
    Picture,
    Report,
    RobustnessRow,
    Skipped,
    make_report,
    robustness_rows,
)
from edgedf.files import scratch_folder
from edgedf.imaging import RGBImage, load_image, prepare
from edgedf.map_metrics import map_metrics
from edgedf.progress import Progress, silent
from edgedf.result import Threshold
from edgedf.spec import Accuracy

__all__ = ["Evaluation", "evaluate_checkpoint", "measure_all"]

T = TypeVar("T")

# Pictures whose changed copies are in memory at a time.
_AT_ONCE = 8


@dataclass(frozen=True)
class Evaluation:
    """How good a checkpoint is.

    Args:
        figures: AUC, share of verdicts and map error by set, as training writes them.
        report: Every figure; None where only those were asked for.
        skipped: Pictures that could not be read.
    """

    figures: tuple[Accuracy, ...]
    report: Report | None = None
    skipped: tuple[Skipped, ...] = ()


def measure_all(
    records: Records,
    predictions: Predictions,
    *,
    model: str,
    data: str,
    split: str,
    threshold: Threshold | None = None,
    robustness: Sequence[RobustnessRow] = (),
    skipped: Sequence[Skipped] = (),
    progress: Progress = silent,
) -> Report:
    """Every figure of :mod:`edgedf.metrics`, by set and source, with those of the maps.

    Args:
        records: Records of whole pictures and of what was made from them.
        predictions: Outputs for them.
        model: Which student, for the report.
        data: Which folder, for the report.
        split: Which split, for the report.
        threshold: Turns scores into verdicts.
        robustness: Goes into the report as it is.
        skipped: Goes into the report as it is.
        progress: Told about the figures.

    Returns:
        Figures of whole pictures; what was made from them, such as self-blends, is a source of its
        set. Maps of whole pictures against the physical map, those of renderings against the exact
        one.

    Raises:
        DataError: No record is of a whole picture, or a logit is no finite number.
    """
    kinds, sets, groups = records.kinds, records.sets, records.groups
    judged = [
        _judgement(job.sample, float(label), float(logit), "" if job.kind == "whole" else job.kind)
        for job, label, logit in zip(
            records.jobs, records.labels.tolist(), predictions.logits.tolist(), strict=True
        )
    ]
    labelled = ~np.isnan(records.labels)

    def chosen(which: NDArray[np.bool_]) -> list[Judgement]:
        return [judged[index] for index in np.flatnonzero(labelled & which)]

    maps: list[MapRow] = []

    def compare(name: str, against: Literal["exact", "physical"], which: NDArray[np.bool_]) -> None:
        part = np.flatnonzero(which)
        if part.size:
            figures = map_metrics(predictions.maps[part], records.maps[part], groups[part])
            maps.append(MapRow(name, against, figures))

    for name in sorted(set(sets.tolist())):
        compare(name, "physical", (sets == name) & (kinds == "whole"))
    compare(RENDERED, "exact", kinds == "rendered")
    return make_report(
        chosen(kinds == "whole"),
        derived=chosen(kinds != "whole"),
        model=model,
        data=data,
        split=split,
        threshold=threshold,
        maps=maps,
        robustness=robustness,
        skipped=skipped,
        progress=progress,
    )


def _judgement(sample: Sample, label: float, logit: float, kind: str = "") -> Judgement:
    return Judgement(
        Picture(
            str(sample.path),
            sample.set,
            kind.replace("_", "-") or sample.source,
            sample.group,
            "fake" if label == 1 else "real",
            sample.video,
        ),
        logit,
    )


def evaluate_checkpoint(
    checkpoint: str | Path,
    data: str | Path,
    split: str = "test",
    *,
    metrics: Literal["all", "auc"] = "all",
    robustness: bool = False,
    cache: str | Path | None = None,
    workers: int = 1,
    progress: Progress = silent,
) -> Evaluation:
    """Measure a checkpoint on a split of a data set, as the training that made it did.

    Pictures that cannot be read are left out and listed.

    Args:
        checkpoint: A ``.safetensors`` file of ours.
        data: Folder with ``manifest.csv``.
        split: ``train``, ``val`` or ``test``.
        metrics: ``auc`` for :attr:`Evaluation.figures` alone.
        robustness: Whether to give the AUC under each of
            :func:`~edgedf.distill.evaluation.perturb.perturbations` as well; needs the report.
        cache: Where computed maps are kept; None for a folder that goes afterwards.
        workers: Processes that compute maps.
        progress: Told about maps and batches.

    Raises:
        CheckpointError: The checkpoint cannot be used.
        ConfigError: There is no such split or choice of metrics, or ``robustness`` without a
            report to put it in.
        DataError: The manifest cannot be used, the split is empty, or too many pictures cannot be
            read.
    """
    _check_choice("split", split, SPLITS, "--split test")
    _check_choice("set of metrics", metrics, ("all", "auc"), "--metrics all")
    if robustness and metrics == "auc":
        raise ConfigError(
            "The robustness table is part of the report, which --metrics auc leaves out.",
            expected="one of the two",
            next_step="leave --metrics out",
        )
    student, metadata = load_checkpoint(checkpoint)
    # A checkpoint saved in the middle of a run has no thresholds, and an old one no settings.
    threshold = _decoded(Threshold, metadata, "threshold", "thresholds", checkpoint)
    settings = _decoded(EvaluationSettings, metadata, "evaluation", "evaluation", checkpoint)
    settings = settings or EvaluationSettings()
    samples, skipped = readable(_samples(data, split), progress=progress)
    plan = evaluation_plan(samples, face_sets=settings.face_sets, sharp_sets=settings.sharp_sets)
    size = student.config.input_size
    with contextlib.ExitStack() as stack:
        folder = cache or stack.enter_context(scratch_folder())
        target = TargetSettings(size=size, seed=settings.seed)
        records = compute(plan, folder, target, workers=workers, progress=progress)
    predictions = predict(student, records.images, progress=progress)
    figures = measure(records, *predictions, split, threshold)
    if metrics == "auc":
        return Evaluation(figures, None, skipped)
    whole = [job.sample for job in plan if job.kind == "whole"]
    changed = _robustness(student, whole, progress) if robustness else ()
    return Evaluation(
        figures,
        measure_all(
            records,
            predictions,
            model=str(checkpoint),
            data=str(data),
            split=split,
            threshold=threshold,
            robustness=changed,
            skipped=skipped,
            progress=progress,
        ),
        skipped,
    )


def _decoded(
    cls: type[T], metadata: Mapping[str, Any], key: str, name: str, checkpoint: str | Path
) -> T | None:
    if key not in metadata:
        return None
    try:
        return typed_json.decode(cls, metadata[key])
    except (ValueError, ConfigError) as error:
        raise CheckpointError(
            f"The {name} in {checkpoint} cannot be used: {error}.",
            expected=f"{', '.join(field.name for field in fields(cast(Any, cls)))}",
            next_step="train again, or take the file from where it was made",
        ) from error


def _samples(data: str | Path, split: str) -> tuple[Sample, ...]:
    samples = read_manifest(data).select(split=cast(Split, split))
    if not samples:
        raise DataError(
            f"The {split} split of {data} is empty.",
            expected="pictures in it",
            next_step="choose another split",
        )
    return samples


def _check_choice(what: str, value: str, known: Sequence[str], next_step: str) -> None:
    if value not in known:
        raise ConfigError(
            f"There is no {what} {value!r}.", expected=", ".join(known), next_step=next_step
        )


def _robustness(
    student: Student, samples: Sequence[Sample], progress: Progress
) -> tuple[RobustnessRow, ...]:
    """AUC of whole pictures under each change, after that of the pictures as they are."""
    changes = perturbations()
    size = student.config.input_size
    parts = []
    for at in range(0, len(samples), _AT_ONCE):
        inputs: list[RGBImage] = []
        for sample in samples[at : at + _AT_ONCE]:
            try:
                image = load_image(sample.path)
                inputs.append(prepare(image, size))
                inputs += [prepare(entry.change(image), size) for entry in changes]
            except ImageError as error:
                raise DataError(
                    f"{sample.path}: {error.message}",
                    expected=error.expected,
                    next_step="replace the file, or take its line out of the manifest",
                ) from error
        logits = predict(student, np.stack(inputs)).logits
        parts.append(logits.reshape(-1, 1 + len(changes)))
        progress("robustness", min(at + _AT_ONCE, len(samples)), len(samples))
    rows: list[RobustnessRow] = []
    named = [(UNCHANGED, "nothing"), *((entry.name, entry.definition) for entry in changes)]
    for (name, definition), logits in zip(named, np.concatenate(parts).T, strict=True):
        judged = [
            _judgement(sample, float(sample.label == "fake"), float(logit))
            for sample, logit in zip(samples, logits, strict=True)
        ]
        rows += robustness_rows(name, definition, judged)
    return tuple(rows)
