"""From a student to int8 models on disk, with proof: the package's main job."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from edgedf.artifact import ModelFormat
from edgedf.errors import ArtifactUnreadable, ConfigError
from edgedf.files import check_target
from edgedf.imaging import RGBImage
from edgedf.progress import Progress, silent
from edgedf.quantize.accuracy.verify import Gate
from edgedf.quantize.auto.climbing import Trainer, Training, checkpoint_of, climb_formats
from edgedf.quantize.auto.ladder import Ladder
from edgedf.quantize.calibration.images import check_samples, choose_images, find_candidates
from edgedf.quantize.calibration.ranges import Method, method_named
from edgedf.quantize.conversion.audit import audit_conversion
from edgedf.quantize.conversion.converted import describe_file
from edgedf.quantize.conversion.delivery import refuse_overwriting, write_all
from edgedf.quantize.conversion.report import ConversionReport
from edgedf.quantize.lint.report import check_int8_friendly
from edgedf.quantize.making.input_type import check_input_type, input_type_named
from edgedf.quantize.making.kept_layers import Keep, kept_layers, parse_keep
from edgedf.quantize.making.make import MadeFile, make_file
from edgedf.quantize.making.proof import (
    Originals,
    Proof,
    diagnosed,
    through_gate,
    with_own_threshold,
)
from edgedf.quantize.precision import AUTO, CALIBRATED, check_available, precision_named
from edgedf.quantize.recipe import Recipe
from edgedf.quantize.sources.learned_ranges import TensorRanges
from edgedf.quantize.sources.own_onnx import Description
from edgedf.quantize.sources.source import load_source, named_formats, possible_formats, stem_of
from edgedf.runtime.int8_speed import INT8, Int8Speed, measured_speed
from edgedf.spec import Precision

__all__ = ["DEFAULT_SAMPLES", "convert"]

DEFAULT_SAMPLES = 32


def convert(
    source: str | Path | None = None,
    *,
    formats: Sequence[str] | None = None,
    precision: str = "int8",
    io: str = "uint8",
    keep: Sequence[str | Keep] = (),
    calibration: str | Path | None = None,
    calibration_split: str | None = None,
    samples: int = DEFAULT_SAMPLES,
    method: str | None = None,
    equalize: bool = False,
    correct_biases: bool = False,
    out: str | Path = "build",
    seed: int = 0,
    keep_failing: bool = False,
    allow_hostile: bool = False,
    describe: Description | None = None,
    trainer: Trainer | None = None,
    gate: Gate | None = None,
    progress: Progress = silent,
) -> ConversionReport:
    """Convert a student and prove that the result agrees with it.

    Args:
        source: A ``.safetensors`` checkpoint, a float ``.tflite`` or ``.onnx`` of ours, or None
            for the shipped student, which needs no torch.
        formats: ``tflite``, ``onnx`` or both; None for all that the source can give.
        precision: One of :mod:`edgedf.quantize.precision`; or ``auto`` for int8 with as much of a
            cure as it takes to pass the gate, see :mod:`edgedf.quantize.auto.ladder`.
        io: Type of the input, one of :mod:`edgedf.quantize.making.input_type`; outputs are float32.
        keep: Layers that are kept out of int8, such as ``fp32:decoder.*``: see
            :mod:`edgedf.quantize.making.kept_layers`.
        calibration: Folder of images, with or without ``real`` and ``fake`` subfolders; a manifest
            (see :mod:`edgedf.manifest`), or a folder with one; None for the shipped sample.
        calibration_split: Split of the manifest to take images from; None to calibrate with
            ``train`` and to check with ``val``.
        samples: How many images to calibrate with.
        method: One of :data:`edgedf.quantize.calibration.ranges.METHODS`: how ranges are chosen
            from what the activations are on these images. None takes ``minmax``, and for int8 from
            a checkpoint of quantization-aware training the ranges that it learned.
        equalize: Make the channels of each tensor equally large first, which changes nothing in
            float: see :mod:`edgedf.quantize.repair.equalization`.
        correct_biases: Let biases make up for the mean error of rounded weights, likewise.
        out: Folder for ``<name>_<precision>.<format>``.
        seed: Of the choice of images.
        keep_failing: Write the files even when the proof fails.
        allow_hostile: Quantize a model too that :mod:`edgedf.quantize.lint.report` objects to; what
            stays float is in the report, and no reason to fail.
        describe: For an ``.onnx`` of your own: what its graph does not say.
        trainer: For ``auto``: trains a checkpoint for int8 where nothing else helps; None for no
            training.
        gate: Pictures, best labelled, and what each file may lose on them against its original;
            a file that does not pass, or of which that cannot be told, counts as failed.
        progress: Told about each step.

    Returns:
        The report. When ``report.passed`` is False, nothing was written (unless
        ``keep_failing``); ``report.raise_if_failed()`` turns that into an exception.

    Raises:
        EdgedfError: A source, an image folder, an option or the output cannot be used.

    Example:
        >>> report = edgedf.convert(out="build")  # doctest: +SKIP
        >>> [model.path.name for model in report.models]  # doctest: +SKIP
        ['student_int8.tflite', 'student_int8.onnx']
    """
    is_auto = precision == AUTO
    wanted_precision: Precision = "int8" if is_auto else precision_named(precision)
    if is_auto:
        _check_auto(gate, method, equalize=equalize, correct_biases=correct_biases)
    wanted_method = _method(method or "minmax", wanted_precision)
    taken = input_type_named(io)
    check_input_type(taken, wanted_precision)
    to_keep = parse_keep(keep, wanted_precision)
    _check_repairs(wanted_precision, equalize=equalize, correct_biases=correct_biases)
    recipe = Recipe(wanted_precision, taken, wanted_method, equalize, correct_biases, to_keep)
    wanted = named_formats(formats)
    if wanted is not None:
        check_available(wanted_precision, wanted)
    check_samples(samples)
    clock = _Clock()

    # What is wrong with the folders should be known before the minute that an export takes.
    candidates, described = find_candidates(calibration, calibration_split)
    stem = f"{stem_of(source)}_{wanted_precision}"
    targets = {name: Path(out) / f"{stem}.{name}" for name in wanted or possible_formats(source)}
    for target in targets.values():
        check_target(target)
    loaded = load_source(source, wanted, describe=describe, progress=progress)
    names = list(targets)
    check_available(wanted_precision, names)
    learned = {} if method is not None or wanted_precision != "int8" else loaded.ranges
    _check_learned(learned, recipe)
    for name in names:
        kept_layers(loaded.models[name], to_keep, wanted_precision)
        if wanted_precision in CALIBRATED and not (allow_hostile or is_auto):
            model = loaded.models[name].file
            check_int8_friendly(model, name, delegated=wanted_precision == "int8")
    refuse_overwriting(targets.values(), loaded.paths)
    clock.lap("load")
    images = choose_images(
        candidates,
        samples=samples,
        size=loaded.specs[names[0]].input.height,
        seed=seed,
        source=described,
        progress=progress,
    )
    clock.lap("images")

    originals = Originals(loaded, images, progress=progress)
    made: dict[ModelFormat, MadeFile] = {}
    ladders: tuple[Ladder, ...] = ()
    if is_auto and gate is not None:
        held_out = set(images.held_out_files)
        pictures = [entry.path for entry in candidates if entry.path not in held_out]
        ladders, found = climb_formats(
            originals,
            gate,
            {name: str(target) for name, target in targets.items()},
            recipe,
            Training(trainer, checkpoint_of(source), pictures),
            progress=progress,
        )
        made = {name: entry.made for name, entry in found.items()}
        clock.lap("ladder")
    else:
        for name in names:
            made[name] = make_file(
                loaded.models[name],
                loaded.specs[name],
                recipe,
                images.calibration,
                images.summary,
                learned=learned.get(name, {}),
                progress=progress,
            )
            clock.lap(f"make {name}")
    audit = None
    if wanted_precision in CALIBRATED and made:
        audit = audit_conversion(made, images, gate, seed, progress=progress)
        clock.lap("audit")
    proof = Proof(originals, progress=progress)
    for name, entry in made.items():
        proof.add(entry.file, name, entry.spec)
        if not is_auto:  # else it has them already
            made[name] = with_own_threshold(entry, images, proof.logits(name))
    comparisons = proof.comparisons({name: entry.spec for name, entry in made.items()})
    diagnoses = {
        name: diagnosed(
            entry, loaded.original(name), images.held_out, comparisons, progress=progress
        )
        for name, entry in made.items()
    }
    clock.lap("prove")
    speeds = {
        name: _speed(loaded.models[name].file, entry, images.held_out)
        for name, entry in made.items()
    }
    clock.lap("time")
    verifications = [
        rung.verification for ladder in ladders for rung in ladder.rungs if rung.passed
    ]
    # What does not agree on a few pictures need not be tried on many.
    if gate is not None and not is_auto and all(comparison.passed for comparison in comparisons):
        verifications = [
            through_gate(
                gate, str(targets[name]), made[name], loaded.original(name), progress=progress
            )
            for name in names
        ]
        clock.lap("gate")
    laps = clock.laps()
    models = [
        replace(
            describe_file(
                entry,
                targets[name],
                loaded,
                seconds=laps.get(f"make {name}", laps.get("ladder", 0.0)),
                forced=allow_hostile or is_auto,
            ),
            diagnosis=diagnoses[name],
            speed=speeds[name],
        )
        for name, entry in made.items()
    ]
    clock.lap("count operators")
    spec = loaded.specs[names[0]]
    calibrations = [entry.spec.calibration for entry in made.values()]
    report = ConversionReport(
        source=loaded.description,
        model=f"{spec.name} {spec.version}",
        precision=wanted_precision,
        models=tuple(models),
        images=images.source,
        calibration=next((replace(c, ranges={}) for c in calibrations if c is not None), None),
        held_out=len(images.held_out),
        skipped=images.skipped,
        comparisons=comparisons,
        seconds=clock.laps(),
        gate=tuple(entry for entry in verifications if entry is not None),
        audit=audit,
        ladders=ladders,
    )
    if not (report.passed or keep_failing):
        return report
    write_all({name: targets[name] for name in made}, {n: entry.file for n, entry in made.items()})
    return replace(report, models=tuple(replace(model, written=True) for model in report.models))


def _speed(float_model: bytes, made: MadeFile, images: Sequence[RGBImage]) -> Int8Speed | None:
    if made.spec.precision not in INT8:
        return None
    try:
        return measured_speed(float_model, made.file, made.format, made.spec.precision, images)
    except ArtifactUnreadable:  # which the comparisons say
        return None


def _check_auto(
    gate: Gate | None, method: str | None, *, equalize: bool, correct_biases: bool
) -> None:
    if gate is None:
        raise ConfigError(
            "Nothing says when --precision auto is good enough.",
            expected="pictures to judge by: --gate DIR, best with labels",
            next_step="name some with --gate, or convert to --precision int8",
        )
    chosen = {"--method": method, "--equalize": equalize, "--correct-biases": correct_biases}
    given = [option for option, value in chosen.items() if value]
    if given:
        raise ConfigError(
            f"{given[0]} is chosen by --precision auto itself.",
            expected=f"auto without {' and '.join(given)}",
            next_step=f"leave {given[0]} out, or convert to --precision int8",
        )


def _method(name: str, precision: Precision) -> Method:
    method = method_named(name)
    if method != "minmax" and precision not in CALIBRATED:
        raise ConfigError(
            f"The calibration method {method} has nothing to calibrate in {precision}.",
            expected=f"{' or '.join(CALIBRATED)}, whose activations have calibrated ranges",
            next_step="leave --method out, or choose another precision",
        )
    return method


def _check_repairs(precision: Precision, *, equalize: bool, correct_biases: bool) -> None:
    if (equalize or correct_biases) and precision not in CALIBRATED:
        option = "--equalize" if equalize else "--correct-biases"
        raise ConfigError(
            f"{option} prepares for quantized activations, which {precision} does not have.",
            expected=f"{' or '.join(sorted(CALIBRATED))}",
            next_step=f"leave {option} out, or choose another precision",
        )


def _check_learned(learned: Mapping[ModelFormat, TensorRanges], recipe: Recipe) -> None:
    if learned and (recipe.equalize or recipe.correct_biases):
        raise ConfigError(
            "The checkpoint learned its ranges with its weights as they are.",
            expected="no --equalize and no --correct-biases beside learned ranges",
            next_step="leave them out, or have ranges measured: --method minmax",
        )


class _Clock:
    """Wall-clock time per stage."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self._laps: dict[str, float] = {}

    def lap(self, stage: str) -> float:
        """Seconds since the last lap, noted under that name."""
        now = time.perf_counter()
        self._laps[stage], self._last = now - self._last, now
        return self._laps[stage]

    def laps(self) -> dict[str, float]:
        """Everything noted so far, and the total."""
        rounded = {stage: round(seconds, 3) for stage, seconds in self._laps.items()}
        return {**rounded, "total": round(time.perf_counter() - self._start, 3)}
