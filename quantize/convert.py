"""From a student to int8 models on disk, with proof: the package's main job."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from edgedf.artifact import ModelFormat
from edgedf.errors import ConfigError, OutputError
from edgedf.files import atomic_path, sha256_of
from edgedf.progress import Progress, silent
from edgedf.quantize.adopt import Description
from edgedf.quantize.calibration import (
    check_samples,
    choose_images,
    find_candidates,
)
from edgedf.quantize.conversion_audit import audit_conversion
from edgedf.quantize.input_type import check_input_type, input_type_named
from edgedf.quantize.keep import Keep, KeptLayers, kept_layers, parse_keep
from edgedf.quantize.kept_operators import found_kept
from edgedf.quantize.learned_ranges import TensorRanges
from edgedf.quantize.lint import check_int8_friendly
from edgedf.quantize.make import MadeFile, make_file
from edgedf.quantize.operators import (
    boundary_operators,
    count_operators,
    executed_operators,
    list_operators,
    xnnpack_partitions,
)
from edgedf.quantize.precision import (
    CALIBRATED,
    check_available,
    computes_in_integers,
    precision_named,
)
from edgedf.quantize.proof import Originals, Proof, through_gate, with_own_threshold
from edgedf.quantize.ranges import Method, method_named
from edgedf.quantize.recipe import Recipe
from edgedf.quantize.report import ConversionReport, ConvertedModel
from edgedf.quantize.source import FORMATS, Source, load_source, named_formats
from edgedf.quantize.verify import Gate, Verification
from edgedf.spec import ModelSpec, Precision

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
    gate: Gate | None = None,
    progress: Progress = silent,
) -> ConversionReport:
    """Convert a student and prove that the result agrees with it.

    Args:
        source: A ``.safetensors`` checkpoint, a float ``.tflite`` or ``.onnx`` of ours, or None
            for the shipped student, which needs no torch.
        formats: ``tflite``, ``onnx`` or both; None for all that the source can give.
        precision: One of :mod:`edgedf.quantize.precision`.
        io: Type of the input, one of :mod:`edgedf.quantize.input_type`; outputs are float32.
        keep: Layers that are kept out of int8, such as ``fp32:decoder.*``: see
            :mod:`edgedf.quantize.keep`.
        calibration: Folder of images, with or without ``real`` and ``fake`` subfolders; a manifest
            (see :mod:`edgedf.manifest`), or a folder with one; None for the shipped sample.
        calibration_split: Split of the manifest to take images from; None to calibrate with
            ``train`` and to check with ``val``.
        samples: How many images to calibrate with.
        method: One of :data:`edgedf.quantize.ranges.METHODS`: how ranges are chosen from what the
            activations are on these images. None takes ``minmax``, and for int8 from a checkpoint
            of quantization-aware training the ranges that it learned.
        equalize: Make the channels of each tensor equally large first, which changes nothing in
            float: see :mod:`edgedf.quantize.equalize`.
        correct_biases: Let biases make up for the mean error of rounded weights, likewise.
        out: Folder for ``<name>_<precision>.<format>``.
        seed: Of the choice of images.
        keep_failing: Write the files even when the proof fails.
        allow_hostile: Quantize a model too that :mod:`edgedf.quantize.lint` objects to; what stays
            float is in the report, and no reason to fail.
        describe: For an ``.onnx`` of your own: what its graph does not say.
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
    wanted_precision = precision_named(precision)
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
    folder = _writable(Path(out))
    loaded = load_source(source, wanted, describe=describe, progress=progress)
    names = [name for name in FORMATS if name in loaded.models]
    check_available(wanted_precision, names)
    learned = {} if method is not None or wanted_precision != "int8" else loaded.ranges
    _check_learned(learned, recipe)
    kept = {
        name: kept_layers(loaded.models[name], name, to_keep, wanted_precision) for name in names
    }
    targets = {name: folder / f"{loaded.stem}_{wanted_precision}.{name}" for name in names}
    _refuse_overwriting(targets.values(), loaded.paths)
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

    files: dict[ModelFormat, bytes] = {}
    specs: dict[ModelFormat, ModelSpec] = {}
    made: dict[ModelFormat, MadeFile] = {}
    for name in names:
        if wanted_precision in CALIBRATED and not allow_hostile:
            check_int8_friendly(loaded.models[name], name, delegated=wanted_precision == "int8")
        made[name] = make_file(
            loaded.models[name],
            loaded.specs[name],
            name,
            recipe,
            images.calibration,
            images.summary,
            learned=learned.get(name, {}),
            progress=progress,
        )
        files[name], specs[name] = made[name].file, made[name].spec
        clock.lap(f"make {name}")
    audit = None
    if wanted_precision in CALIBRATED:
        audit = audit_conversion(made, images, gate, seed, progress=progress)
        clock.lap("audit")
    proof = Proof(Originals(loaded, images, progress=progress), progress=progress)
    for name in names:
        proof.add(files[name], name, specs[name])
        files[name], specs[name] = with_own_threshold(
            files[name], name, specs[name], images, proof.logits(name)
        )
    comparisons = proof.comparisons(specs)
    clock.lap("prove")
    verifications: list[Verification] = []
    # What does not agree on a few pictures need not be tried on many.
    if gate is not None and all(comparison.passed for comparison in comparisons):
        for name in names:
            parent = loaded.original(name)
            verifications.append(
                through_gate(
                    gate,
                    str(targets[name]),
                    files[name],
                    name,
                    specs[name],
                    parent,
                    progress=progress,
                )
            )
        clock.lap("gate")
    models = [
        replace(
            _describe(
                name, targets[name], files[name], loaded, wanted_precision, kept[name], clock
            ),
            forced=allow_hostile,
        )
        for name in names
    ]
    clock.lap("count operators")
    spec = loaded.specs[names[0]]
    report = ConversionReport(
        source=loaded.description,
        model=f"{spec.name} {spec.version}",
        precision=wanted_precision,
        models=tuple(models),
        images=images.source,
        calibration=None
        if wanted_precision not in CALIBRATED
        else replace(
            images.summary,
            method="qat" if learned else wanted_method,
            equalized=equalize,
            corrected_biases=correct_biases,
        ),
        held_out=len(images.held_out),
        skipped=images.skipped,
        comparisons=comparisons,
        seconds=clock.laps(),
        gate=tuple(verifications),
        thresholds={name: specs[name].recalibration for name in names},
        audit=audit,
    )
    if not (report.passed or keep_failing):
        return report
    _write_all(targets, files)
    return replace(report, models=tuple(replace(model, written=True) for model in report.models))


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


def _writable(folder: Path) -> Path:
    """Make the folder and write something there, before a minute of work rather than after."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as stream:
            stream.write(b"edgedf")
            stream.flush()
    except OSError as error:
        raise OutputError(
            f"Cannot write into {folder}: {error.strerror or error}.",
            expected="a folder that exists or can be made, with write permission and free space",
            next_step="choose another folder with --out, or free some space",
        ) from error
    return folder


def _refuse_overwriting(targets: Iterable[Path], sources: Sequence[Path]) -> None:
    taken = {path.resolve() for path in sources}
    for target in targets:
        if target.resolve() in taken:
            raise ConfigError(
                f"{target} would replace the file it is made from.",
                expected="another folder",
                next_step="choose one with --out",
            )


def _describe(
    name: ModelFormat,
    target: Path,
    file: bytes,
    source: Source,
    precision: Precision,
    kept: KeptLayers,
    clock: _Clock,
) -> ConvertedModel:
    operators = list_operators(file, name)
    typed = operators if name == "tflite" else executed_operators(file)
    is_int8 = computes_in_integers(precision, name)
    pieces = xnnpack_partitions(file) if name == "tflite" else None
    taken = {index for piece in pieces or () for index in piece.operators}
    found = found_kept(typed, kept, name) if is_int8 else None
    ends = boundary_operators(typed) if is_int8 else ()
    return ConvertedModel(
        format=name,
        path=target,
        written=False,
        bytes=len(file),
        source_bytes=len(source.models[name]),
        sha256=sha256_of(file),
        operators=count_operators(operators),
        boundary_operators=tuple(str(operator) for operator in ends),
        float_operators=() if found is None else found.misplaced,
        delegate_partitions=None if pieces is None else len(pieces),
        undelegated_operators=tuple(
            operator.name
            for index, operator in enumerate(operators)
            if pieces is not None and index not in taken
        ),
        seconds=clock.laps()[f"make {name}"],
        kept=kept.overrides,
        kept_operators={} if found is None else found.operators,
        kept_in_vain=() if found is None else found.missing,
    )


def _write_all(targets: Mapping[ModelFormat, Path], files: Mapping[ModelFormat, bytes]) -> None:
    """Write every file before the first takes its final name: all of them appear, or none."""
    with contextlib.ExitStack() as stack:
        for name, file in files.items():
            temporary = stack.enter_context(atomic_path(targets[name]))
            with temporary.open("wb") as stream:
                stream.write(file)
                stream.flush()
                os.fsync(stream.fileno())


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
