"""From a student to int8 models on disk, with proof: the package's main job."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgedf.artifact import ModelFormat, embed_onnx, embed_tflite
from edgedf.cores import available_cores
from edgedf.errors import ConfigError, OutputError
from edgedf.files import atomic_path, sha256_of
from edgedf.progress import Progress, silent
from edgedf.quantize.adopt import Description
from edgedf.quantize.calibration import (
    CalibrationSet,
    candidates_in_folder,
    check_samples,
    choose_images,
    sample_candidates,
)
from edgedf.quantize.describe import describe_converted
from edgedf.quantize.lint import check_int8_friendly
from edgedf.quantize.operators import (
    boundary_operators,
    count_operators,
    executed_operators,
    float_operators,
    list_operators,
    xnnpack_partitions,
)
from edgedf.quantize.pair import Model, Pair
from edgedf.quantize.parity import TOLERANCES, Comparison, compare, run_on
from edgedf.quantize.precision import (
    CALIBRATED,
    check_available,
    computes_in_integers,
    precision_named,
)
from edgedf.quantize.report import ConversionReport, ConvertedModel
from edgedf.quantize.run import Outputs, nan_where_it_fails, open_model
from edgedf.quantize.source import FORMATS, Source, load_source, named_formats
from edgedf.quantize.verify import Gate, Verification, verify_pair
from edgedf.spec import ModelSpec, Precision

__all__ = ["DEFAULT_SAMPLES", "convert"]

DEFAULT_SAMPLES = 32


def convert(
    source: str | Path | None = None,
    *,
    formats: Sequence[str] | None = None,
    precision: str = "int8",
    calibration: str | Path | None = None,
    samples: int = DEFAULT_SAMPLES,
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
        calibration: Folder of images, with or without ``real`` and ``fake`` subfolders; None for
            the shipped sample.
        samples: How many images to calibrate with.
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
    wanted = named_formats(formats)
    if wanted is not None:
        check_available(wanted_precision, wanted)
    check_samples(samples)
    clock = _Clock()

    # What is wrong with the folders should be known before the minute that an export takes.
    candidates = sample_candidates() if calibration is None else candidates_in_folder(calibration)
    folder = _writable(Path(out))
    loaded = load_source(source, wanted, describe=describe, progress=progress)
    names = [name for name in FORMATS if name in loaded.models]
    check_available(wanted_precision, names)
    targets = {name: folder / f"{loaded.stem}_{wanted_precision}.{name}" for name in names}
    _refuse_overwriting(targets.values(), loaded.paths)
    if wanted_precision in CALIBRATED and not allow_hostile:
        for name in names:
            check_int8_friendly(loaded.models[name], name, delegated=wanted_precision == "int8")
    clock.lap("load")
    images = choose_images(
        candidates,
        samples=samples,
        size=loaded.specs[names[0]].input.height,
        seed=seed,
        source="the shipped sample" if calibration is None else str(calibration),
        progress=progress,
    )
    clock.lap("images")

    files: dict[ModelFormat, bytes] = {}
    specs: dict[ModelFormat, ModelSpec] = {}
    for name in names:
        files[name], specs[name] = _make(loaded, name, wanted_precision, images, progress)
        clock.lap(f"make {name}")
    comparisons = _prove(loaded, files, specs, images, progress)
    clock.lap("prove")
    verifications: tuple[Verification, ...] = ()
    # What does not agree on a few pictures need not be tried on many.
    if gate is not None and all(comparison.passed for comparison in comparisons):
        verifications = _through(gate, loaded, files, specs, targets, progress)
        clock.lap("gate")
    models = [
        replace(
            _describe(name, targets[name], files[name], loaded, wanted_precision, clock),
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
        calibration=images.summary if wanted_precision in CALIBRATED else None,
        held_out=len(images.held_out),
        skipped=images.skipped,
        comparisons=comparisons,
        seconds=clock.laps(),
        gate=verifications,
    )
    if not (report.passed or keep_failing):
        return report
    _write_all(targets, files)
    return replace(report, models=tuple(replace(model, written=True) for model in report.models))


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


def _make(
    source: Source,
    name: ModelFormat,
    precision: Precision,
    images: CalibrationSet,
    progress: Progress,
) -> tuple[bytes, ModelSpec]:
    """The finished file, quantized, and the spec inside it."""
    from edgedf.quantize import onnx, tflite

    stage: Any = tflite if name == "tflite" else onnx
    embed = embed_tflite if name == "tflite" else embed_onnx
    model, behind = source.models[name], None
    step = f"quantize {name}"
    progress(step, 0, 1)
    if precision in CALIBRATED:
        bits = 16 if precision == "int8-a16" else 8
        model = stage.to_int8(model, images.calibration, activation_bits=bits, progress=progress)
        behind = stage.output_quantization(model)
    elif precision == "int8-dynamic":
        model = tflite.to_int8_weights(model, dynamic=True)
    elif precision == "int8-weights":
        model = stage.to_int8_weights(model)
    elif precision == "fp16":
        model = stage.to_fp16(model)
    spec = describe_converted(
        source.specs[name],
        name,
        precision,
        quantization=behind,
        calibration=images.summary if precision in CALIBRATED else None,
    )
    finished = embed(model, spec)
    progress(step, 1, 1)
    return finished, spec


def _prove(
    source: Source,
    files: Mapping[ModelFormat, bytes],
    specs: Mapping[ModelFormat, ModelSpec],
    images: CalibrationSet,
    progress: Progress,
) -> tuple[Comparison, ...]:
    """Each file against its original, and the files against each other."""
    precision = next(iter(specs.values())).precision
    tolerance = TOLERANCES[precision]
    comparisons = []
    sets = {"calibration": images.calibration, "held out": images.held_out}
    found: dict[tuple[str, str], list[Outputs]] = {}
    wanted: dict[tuple[object, str], list[Outputs]] = {}
    for name, file in files.items():
        run = nan_where_it_fails(open_model(file, name, specs[name]), specs[name])
        original = source.originals[name]
        for title, pictures in sets.items():
            # One torch model stands behind both formats; run it once.
            key = (original, title)
            if key not in wanted:
                wanted[key] = run_on(
                    original, pictures, step=f"run original, {title}", progress=progress
                )
            found[name, title] = run_on(
                run, pictures, step=f"run {name} {precision}, {title}", progress=progress
            )
            comparisons.append(
                compare(
                    f"{name} {precision}",
                    found[name, title],
                    source.original_name(name),
                    wanted[key],
                    images=title,
                    threshold=source.specs[name].threshold,
                    tolerance=tolerance,
                )
            )
    if len(files) == 2:
        first, second = files
        comparisons.append(
            compare(
                f"{first} {precision}",
                found[first, "held out"],
                f"{second} {precision}",
                found[second, "held out"],
                images="held out",
                threshold=source.specs[first].threshold,
                tolerance=tolerance,
            )
        )
    return tuple(comparisons)


def _through(
    gate: Gate,
    source: Source,
    files: Mapping[ModelFormat, bytes],
    specs: Mapping[ModelFormat, ModelSpec],
    targets: Mapping[ModelFormat, Path],
    progress: Progress,
) -> tuple[Verification, ...]:
    """Each file against its original on the gate's pictures."""
    found = []
    for name, file in files.items():
        made = Model.from_run(
            f"{targets[name]} ({specs[name].model_id})",
            specs[name],
            open_model(file, name, specs[name], threads=available_cores()),
        )
        parent = Model.from_run(
            source.original_name(name), source.specs[name], source.originals[name]
        )
        found.append(
            verify_pair(
                Pair(made, parent),
                gate.pictures,
                limits=gate.limits,
                data=gate.data,
                split=gate.split,
                worst=0,
                progress=progress,
            )
        )
    return tuple(found)


def _describe(
    name: ModelFormat,
    target: Path,
    file: bytes,
    source: Source,
    precision: Precision,
    clock: _Clock,
) -> ConvertedModel:
    operators = list_operators(file, name)
    typed = operators if name == "tflite" else executed_operators(file)
    is_int8 = computes_in_integers(precision, name)
    pieces = xnnpack_partitions(file) if name == "tflite" else None
    taken = {index for piece in pieces or () for index in piece.operators}
    left = float_operators(typed) if is_int8 else ()
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
        float_operators=tuple(sorted({operator.name for operator in left})),
        delegate_partitions=None if pieces is None else len(pieces),
        undelegated_operators=tuple(
            operator.name
            for index, operator in enumerate(operators)
            if pieces is not None and index not in taken
        ),
        seconds=clock.laps()[f"make {name}"],
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
