"""How good a student is, with intervals: its scores, its verdicts and its defocus maps."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray

from edgedf import typed_json
from edgedf.distill.datasets.dataset import SPLITS, Sample, Split, read_manifest
from edgedf.distill.datasets.readable import readable
from edgedf.distill.evaluation.perturb import perturbations
from edgedf.distill.networks.student import Student, load_checkpoint
from edgedf.distill.optics.maps import defocus_map
from edgedf.distill.records.targets import (
    FACE_SETS,
    SHARP_SETS,
    Records,
    TargetSettings,
    at_stride,
    compute,
    evaluation_plan,
)
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
from edgedf.map_metrics import map_error_with_interval, map_metrics
from edgedf.metrics import Figure, auc_with_interval, check_both_classes, mean_with_interval
from edgedf.progress import Progress, silent
from edgedf.result import Threshold, sigmoid
from edgedf.spec import MAP_STRIDE, Accuracy

__all__ = [
    "Evaluation",
    "EvaluationSettings",
    "Predictions",
    "as_accuracy",
    "choose_threshold",
    "evaluate_checkpoint",
    "measure",
    "measure_all",
    "physical_map_error",
    "predict",
]

T = TypeVar("T")

# On the validation split at most this share of the real pictures may be called fake, and at most
# this share of the fakes real; what lies between is "unsure".
CONFIDENT_ERROR = 0.05
STEPS = 10_000  # of a threshold between 0 and 1
RENDERED = "rendered depth of field"

# Pictures whose changed copies are in memory at a time.
_AT_ONCE = 8


@dataclass(frozen=True)
class EvaluationSettings:
    """What evaluation makes of a data set; a checkpoint carries those of its training.

    Args:
        face_sets: Sets of aligned faces, whose real pictures are blended with themselves.
        sharp_sets: Sets of pictures sharp everywhere, which are rendered with depth of field.
        seed: Of the blends and renderings.
    """

    face_sets: tuple[str, ...] = FACE_SETS
    sharp_sets: tuple[str, ...] = SHARP_SETS
    seed: int = 0


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


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a student says about records.

    Args:
        logits: float64, (n,).
        maps: float32, (n, size / 4, size / 4), sigma in pixels; None where there are none.
    """

    logits: NDArray[np.float64]
    maps: NDArray[np.float32] | None


def predict(
    student: Student,
    images: NDArray[np.uint8],
    *,
    batch: int = 32,
    step: str = "evaluate",
    progress: Progress = silent,
) -> Predictions:
    """Run a student on prepared pictures.

    Args:
        student: The student, on any device; its mode is left as it was.
        images: uint8 RGB, (n, size, size, 3).
        batch: Pictures at a time.
        step: Name of the step for ``progress``.
        progress: Told about each batch.
    """
    was_training, device = student.training, next(student.parameters()).device
    student.eval()
    logits, maps = [], []
    with torch.inference_mode():
        for at in range(0, len(images), batch):
            pixels = torch.from_numpy(images[at : at + batch]).to(device).permute(0, 3, 1, 2)
            output = student(pixels.float().contiguous(memory_format=torch.channels_last))
            logits.append(output.fake_logit[:, 0].double().cpu().numpy())
            maps.append(output.defocus_map[:, 0].float().cpu().numpy())
            progress(step, min(at + batch, len(images)), len(images))
    student.train(was_training)
    return Predictions(np.concatenate(logits), np.concatenate(maps))


def choose_threshold(
    labels: NDArray[np.floating], logits: NDArray[np.floating], how: str
) -> Threshold:
    """Where a score turns into a verdict, chosen on validation pictures.

    ``fake_at`` is the smallest score, in steps of 0.0001, at which at most :data:`CONFIDENT_ERROR`
    of the real pictures are called fake; ``real_at`` the largest at which at most that share of the
    fakes is called real. Where the two cross (a detector better than that), both move to the score
    where the two shares are most alike.

    Args:
        labels: (n,): 1 fake, 0 real.
        logits: (n,).
        how: Description of the pictures for the spec.

    Raises:
        DataError: Only one class is there.
    """
    check_both_classes(labels, "Thresholds need")
    scores = np.array([sigmoid(logit) for logit in logits])
    real, fake = np.sort(scores[labels == 0]), np.sort(scores[labels == 1])
    # The first picture that must not be on the wrong side, and the next step beyond it.
    last_real = real[len(real) - 1 - int(CONFIDENT_ERROR * len(real))]
    first_fake = fake[int(CONFIDENT_ERROR * len(fake))]
    fake_at = min(1.0, (np.floor(last_real * STEPS) + 1) / STEPS)
    real_at = max(0.0, (np.ceil(first_fake * STEPS) - 1) / STEPS)
    rule = f"at most {CONFIDENT_ERROR:.0%} of real pictures called fake, and of fakes called real"
    if real_at >= fake_at:
        cuts = np.unique(np.rint(scores * STEPS) / STEPS)
        false_positive = 1 - np.searchsorted(real, cuts) / len(real)
        false_negative = np.searchsorted(fake, cuts) / len(fake)
        fake_at = real_at = cuts[np.argmin(np.abs(false_positive - false_negative))]
        rule = "equal error rate"
    return Threshold(float(fake_at), float(real_at), f"{rule}; on {how} (n={len(labels)})")


def measure(
    records: Records,
    predictions: Predictions,
    split: str,
    threshold: Threshold | None = None,
) -> tuple[Accuracy, ...]:
    """All figures of a split, by set, for the model's spec and card.

    Args:
        records: Records of whole pictures and self-blends.
        predictions: What the student says of them.
        split: Its name.
        threshold: Turns scores into verdicts; None leaves the shares of verdicts out.

    Returns:
        AUC for each set with both classes and of self-blended faces against the same set's real
        ones; the share of real pictures called fake, portrait-mode copies by themselves, and of
        fake ones; the map's error against the physical map for each set, and against the exact one
        for renderings.
    """
    kinds = np.array([job.kind for job in records.jobs])
    sets = np.array([job.sample.set for job in records.jobs])
    groups = np.array([job.sample.group for job in records.jobs], dtype=object)
    figures: list[Accuracy] = []

    def add(name: str, metric: str, figure: Figure) -> None:
        figures.append(as_accuracy(f"{name} {split}", metric, figure))

    for name in sorted(set(sets)):
        whole = np.flatnonzero((sets == name) & (kinds == "whole"))
        labels = records.labels[whole]
        if len(set(labels.tolist())) == 2:
            add(name, "AUC", auc_with_interval(labels, predictions.logits[whole], groups[whole]))
        swapped = np.flatnonzero((sets == name) & (kinds == "self_blend"))
        if swapped.size:
            both = np.concatenate([whole[labels == 0], swapped])
            figure = auc_with_interval(records.labels[both], predictions.logits[both], groups[both])
            add(f"{name} self-blended", "AUC", figure)
    if threshold is not None:
        called = np.array([threshold.label(sigmoid(x)) == "fake" for x in predictions.logits])
        for label, title in ((0, "real pictures called fake"), (1, "fakes called fake")):
            for name in sorted(set(sets)):
                whole = np.flatnonzero(
                    (sets == name) & (kinds == "whole") & (records.labels == label)
                )
                if whole.size:
                    add(name, title, mean_with_interval(called[whole], groups[whole]))
        for name in sorted(set(sets)):
            blurred = np.flatnonzero((sets == name) & (kinds == "portrait"))
            if blurred.size:
                figure = mean_with_interval(called[blurred], groups[blurred])
                add(f"{name} in portrait mode", "real pictures called fake", figure)
    if predictions.maps is None:
        return tuple(figures)
    for name in sorted(set(sets)):
        whole = np.flatnonzero((sets == name) & (kinds == "whole"))
        if whole.size:
            found, wanted = predictions.maps[whole], records.maps[whole]
            figure = map_error_with_interval(found, wanted, groups[whole])
            add(name, "map error against the physical map (mean absolute, px)", figure)
    rendered = np.flatnonzero(kinds == "rendered")
    if rendered.size:
        found, wanted = predictions.maps[rendered], records.maps[rendered]
        figure = map_error_with_interval(found, wanted, groups[rendered])
        add(RENDERED, "map error against the exact map (px)", figure)
    return tuple(figures)


def physical_map_error(records: Records, split: str) -> tuple[Accuracy, ...]:
    """What the physical map, computed from the pictures, misses of the exact one.

    The yardstick for a student's error on the same renderings.

    Args:
        records: Some of them rendered.
        split: Their name.

    Returns:
        One figure, or none where nothing is rendered.
    """
    rendered = np.flatnonzero([job.kind == "rendered" for job in records.jobs])
    if not rendered.size:
        return ()
    found = np.stack(
        [at_stride(defocus_map(records.images[i], "physical"), MAP_STRIDE) for i in rendered]
    )
    groups = np.array([records.jobs[i].sample.group for i in rendered], dtype=object)
    figure = map_error_with_interval(found, records.maps[rendered], groups)
    title = "physical map's error against the exact map (px)"
    return (as_accuracy(f"{RENDERED} {split}", title, figure),)


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
        predictions: What the student says of them.
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
    kinds = np.array([job.kind for job in records.jobs])
    sets = np.array([job.sample.set for job in records.jobs])
    groups = np.array([job.sample.group for job in records.jobs], dtype=object)
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
        if part.size and predictions.maps is not None:
            figures = map_metrics(predictions.maps[part], records.maps[part], groups[part])
            maps.append(MapRow(name, against, figures))

    for name in sorted(set(sets.tolist())):
        compare(name, "physical", (sets == name) & (kinds == "whole"))
    compare(RENDERED, "exact", kinds == "rendered")
    return make_report(
        chosen(kinds == "whole"),
        made=chosen(kinds != "whole"),
        model=model,
        data=data,
        split=split,
        threshold=threshold,
        maps=maps,
        robustness=robustness,
        skipped=skipped,
        progress=progress,
    )


def _judgement(sample: Sample, label: float, logit: float, made: str = "") -> Judgement:
    return Judgement(
        Picture(
            str(sample.path),
            sample.set,
            made.replace("_", "-") or sample.source,
            sample.group,
            "fake" if label == 1 else "real",
            sample.video,
        ),
        logit,
    )


def as_accuracy(dataset: str, metric: str, figure: Figure) -> Accuracy:
    """A figure of a float model as specs and cards hold it, rounded to four digits."""
    value, low, high = (round(x, 4) for x in (figure.value, figure.low, figure.high))
    return Accuracy(dataset, metric, value, low, high, n=figure.n, model="fp32")


def _settings_of(metadata: Mapping[str, Any], checkpoint: str | Path) -> EvaluationSettings:
    """The checkpoint's own settings; one saved without them was trained with the defaults."""
    if "evaluation" not in metadata:
        return EvaluationSettings()
    what = "face_sets, sharp_sets and seed"
    return _decoded(EvaluationSettings, metadata["evaluation"], "evaluation", what, checkpoint)


def _threshold_of(metadata: Mapping[str, Any], checkpoint: str | Path) -> Threshold | None:
    """The checkpoint's own thresholds; one saved in the middle of a run has none."""
    if "threshold" not in metadata:
        return None
    what = "fake_at, real_at and how"
    return _decoded(Threshold, metadata["threshold"], "thresholds", what, checkpoint)


def _decoded(cls: type[T], data: Any, named: str, expected: str, checkpoint: str | Path) -> T:
    try:
        return typed_json.decode(cls, data)
    except (ValueError, ConfigError) as error:
        raise CheckpointError(
            f"The {named} in {checkpoint} cannot be used: {error}.",
            expected=expected,
            next_step="train again, or take the file from where it was made",
        ) from error


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
    threshold, settings = _threshold_of(metadata, checkpoint), _settings_of(metadata, checkpoint)
    usable = readable(_samples(data, split), progress=progress)
    plan = evaluation_plan(
        usable.samples, face_sets=settings.face_sets, sharp_sets=settings.sharp_sets
    )
    size = student.config.input_size
    with contextlib.ExitStack() as stack:
        folder = cache or stack.enter_context(scratch_folder())
        target = TargetSettings(size=size, seed=settings.seed)
        records = compute(plan, folder, target, workers=workers, progress=progress)
    predictions = predict(student, records.images, progress=progress)
    figures = measure(records, predictions, split, threshold)
    if metrics == "auc":
        return Evaluation(figures, None, usable.skipped)
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
            skipped=usable.skipped,
            progress=progress,
        ),
        usable.skipped,
    )


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
    found = []
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
        found.append(logits.reshape(-1, 1 + len(changes)))
        progress("robustness", min(at + _AT_ONCE, len(samples)), len(samples))
    rows: list[RobustnessRow] = []
    named = [(UNCHANGED, "nothing"), *((entry.name, entry.definition) for entry in changes)]
    for (name, definition), logits in zip(named, np.concatenate(found).T, strict=True):
        judged = [
            _judgement(sample, float(sample.label == "fake"), float(logit))
            for sample, logit in zip(samples, logits, strict=True)
        ]
        rows += robustness_rows(name, definition, judged)
    return tuple(rows)
