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
from edgedf.precision import CALIBRATED, PRECISIONS
from edgedf.progress import Progress, silent
from edgedf.quantize.accuracy.verify import Gate
from edgedf.quantize.auto.per_format import (
    Search,
    check_search,
    checkpoint_of,
    search_formats,
)
from edgedf.quantize.auto.search import SearchResult
from edgedf.quantize.calibration.candidates import find_candidates
from edgedf.quantize.calibration.images import choose_images
from edgedf.quantize.calibration.settings import CalibrationImages
from edgedf.quantize.conversion.audit import audit_conversion
from edgedf.quantize.conversion.converted import describe_file
from edgedf.quantize.conversion.delivery import refuse_overwriting, write_all
from edgedf.quantize.conversion.report import ConversionReport
from edgedf.quantize.lint.report import lint_quantized, refuse
from edgedf.quantize.making.kept_layers import kept_layers
from edgedf.quantize.making.make import MadeFile, make_file
from edgedf.quantize.making.proof import (
    Originals,
    Proof,
    diagnosed,
    through_gate,
    with_own_threshold,
)
from edgedf.quantize.recipe import Recipe, check_available
from edgedf.quantize.sources.description import Description
from edgedf.quantize.sources.learned_ranges import TensorRanges
from edgedf.quantize.sources.source import load_source, named_formats, possible_formats, stem_of
from edgedf.runtime.int8_speed import Int8Speed, measured_speed

__all__ = ["convert"]


def convert(
    source: str | Path | None = None,
    recipe: Recipe = Recipe(),
    *,
    formats: Sequence[str] | None = None,
    calibration: CalibrationImages = CalibrationImages(),
    gate: Gate | None = None,
    search: Search | None = None,
    out: str | Path = "build",
    keep_failing: bool = False,
    allow_hostile: bool = False,
    describe: Description | None = None,
    progress: Progress = silent,
) -> ConversionReport:
    """Convert a student and prove that the result agrees with it.

    Args:
        source: A ``.safetensors`` checkpoint, a float ``.tflite`` or ``.onnx`` of ours, or None
            for the shipped student, which needs no torch.
        recipe: The precision of the files, and how they are made.
        formats: ``tflite``, ``onnx`` or both; None for all that the source can give.
        calibration: Which images calibrate, and which others check.
        gate: Pictures, best labelled, and what each file may lose on them against its original;
            a file that does not pass, or of which that cannot be told, counts as failed.
        search: Search for an int8 file that passes the gate, see
            :mod:`edgedf.quantize.auto.search`; the recipe then says what holds for all candidates.
            None to make what the recipe says.
        out: Folder for ``<name>_<precision>.<format>``.
        keep_failing: Write the files even when the proof fails.
        allow_hostile: Quantize a model too that :mod:`edgedf.quantize.lint.report` objects to; what
            stays float is in the report, and no reason to fail.
        describe: For an ``.onnx`` of your own: what its graph does not say.
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
        >>> edgedf.convert("mine.safetensors", edgedf.Recipe("fp16"))  # doctest: +SKIP
    """
    precision, is_auto = recipe.precision, search is not None
    if is_auto:
        check_search(recipe, gate)
    wanted = named_formats(formats)
    if wanted is not None:
        check_available(precision, wanted)
    clock = _Clock()

    # What is wrong with the folders should be known before the minute that an export takes.
    candidates, described = find_candidates(calibration.path, calibration.split)
    stem = f"{stem_of(source)}_{precision}"
    targets = {name: Path(out) / f"{stem}.{name}" for name in wanted or possible_formats(source)}
    for target in targets.values():
        check_target(target)
    loaded = load_source(source, wanted, describe=describe, progress=progress)
    names = list(targets)
    check_available(precision, names)
    learned = loaded.ranges if recipe.method is None and precision == "int8" else {}
    _check_learned(learned, recipe)
    for name in names:
        kept_layers(loaded.models[name], recipe.keep, precision)
    refuse_overwriting(targets.values(), loaded.paths)
    clock.lap("load")
    images = choose_images(
        candidates,
        samples=calibration.samples,
        size=loaded.specs[names[0]].input.height,
        seed=calibration.seed,
        source=described,
        progress=progress,
    )
    clock.lap("images")

    originals = Originals(loaded, images, progress=progress)
    made: dict[ModelFormat, MadeFile] = {}
    searches: tuple[SearchResult, ...] = ()
    if search is not None and gate is not None:
        held_out = set(images.held_out_files)
        pictures = [entry.path for entry in candidates if entry.path not in held_out]
        searches, passed = search_formats(
            originals,
            gate,
            {name: str(target) for name, target in targets.items()},
            recipe,
            search,
            checkpoint_of(source),
            pictures,
            progress=progress,
        )
        made = {name: candidate.file for name, candidate in passed.items()}
        clock.lap("search")
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
            if not allow_hostile:
                _check_operators(made[name])
            clock.lap(f"make {name}")
    audit = None
    if precision in CALIBRATED and made:
        audit = audit_conversion(made, images, gate, calibration.seed, progress=progress)
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
        stage.verification for result in searches for stage in result.stages if stage.passed
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
                seconds=laps.get(f"make {name}", laps.get("search", 0.0)),
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
        precision=precision,
        models=tuple(models),
        images=images.source,
        calibration=next((replace(c, ranges={}) for c in calibrations if c is not None), None),
        held_out=len(images.held_out),
        skipped=images.skipped,
        comparisons=comparisons,
        seconds=clock.laps(),
        gate=tuple(entry for entry in verifications if entry is not None),
        audit=audit,
        searches=searches,
    )
    if not (report.passed or keep_failing):
        return report
    write_all({name: targets[name] for name in made}, {n: entry.file for n, entry in made.items()})
    return replace(report, models=tuple(replace(model, written=True) for model in report.models))


def _check_operators(made: MadeFile) -> None:
    """Refuse a file that computes in float what it should not, before it is proved."""
    precision = made.spec.precision
    if precision in made.graph.format.integer_precisions:
        report = lint_quantized(made.prepared, made.graph, kept=made.kept)
        refuse(report, delegated=precision == "int8")


def _speed(float_model: bytes, made: MadeFile, images: Sequence[RGBImage]) -> Int8Speed | None:
    if not PRECISIONS[made.spec.precision].wants_dot_product:
        return None
    try:
        return measured_speed(float_model, made.file, made.format, made.spec.precision, images)
    except ArtifactUnreadable:  # which the comparisons say
        return None


def _check_learned(learned: Mapping[ModelFormat, TensorRanges], recipe: Recipe) -> None:
    if learned and recipe.repairs:
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
