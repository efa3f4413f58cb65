"""What is made held against what it is made from: on a few images, and at the gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from edgedf.formats import ModelFormat
from edgedf.imaging import RGBImage
from edgedf.machine import available_cores
from edgedf.precision import PRECISIONS
from edgedf.progress import Progress, silent
from edgedf.quantize.accuracy.diagnosis import Diagnosis, diagnose
from edgedf.quantize.accuracy.parity import Comparison, compare, run_on
from edgedf.quantize.accuracy.verify import Gate, Verification, verify_pair
from edgedf.quantize.calibration.images import CalibrationSet
from edgedf.quantize.making.make import MadeFile
from edgedf.quantize.making.thresholds import recalibrated
from edgedf.quantize.models.pair import Model, Pair
from edgedf.quantize.models.run import Outputs, Run, nan_where_it_fails, open_model
from edgedf.quantize.sources.source import Source
from edgedf.spec import ModelSpec

__all__ = ["Originals", "Proof", "called", "diagnosed", "through_gate", "with_own_threshold"]

_SETS = ("calibration", "held out")


class Originals:
    """What the originals say of the images; each runs once, whatever is held against it.

    Args:
        source: The float models.
        images: What they are shown.
        progress: Told about each image.
    """

    def __init__(
        self, source: Source, images: CalibrationSet, *, progress: Progress = silent
    ) -> None:
        self.source, self.images = source, images
        self._progress = progress
        # One torch model stands behind both formats.
        self._found: dict[tuple[Run, str], list[Outputs]] = {}

    def shown(self, title: str) -> Sequence[RGBImage]:
        """The images of that name, ``calibration`` or ``held out``."""
        return self.images.calibration if title == _SETS[0] else self.images.held_out

    def outputs(self, model_format: ModelFormat, title: str) -> list[Outputs]:
        """What the original of that format says of those images."""
        run = self.source.originals[model_format]
        key = run, title
        if key not in self._found:
            step = f"run original, {title}"
            self._found[key] = run_on(run, self.shown(title), step=step, progress=self._progress)
        return self._found[key]


class Proof:
    """Files against their originals, and against each other.

    Args:
        originals: What they have to agree with.
        progress: Told about each image.
    """

    def __init__(self, originals: Originals, *, progress: Progress = silent) -> None:
        self._originals, self._progress = originals, progress
        self._found: dict[tuple[ModelFormat, str], list[Outputs]] = {}
        self._names: dict[ModelFormat, str] = {}

    def add(self, file: bytes, model_format: ModelFormat, spec: ModelSpec) -> None:
        """Show a file all images.

        Args:
            file: The finished file.
            model_format: Of the file.
            spec: The spec inside it.
        """
        name = self._names[model_format] = called(model_format, spec)
        run = nan_where_it_fails(open_model(file, model_format, spec), spec)
        for title in _SETS:
            self._found[model_format, title] = run_on(
                run,
                self._originals.shown(title),
                step=f"run {name}, {title}",
                progress=self._progress,
            )

    def outputs(self, model_format: ModelFormat, title: str) -> list[Outputs]:
        """What the file of that format says of those images."""
        return self._found[model_format, title]

    def logits(self, model_format: ModelFormat) -> tuple[list[float], list[float]]:
        """What original and file say of the images, those of the calibration first."""
        originals = [o for title in _SETS for o in self._originals.outputs(model_format, title)]
        found = [o for title in _SETS for o in self._found[model_format, title]]
        first, second = (
            [float(entry["fake_logit"][0]) for entry in outputs] for outputs in (originals, found)
        )
        return first, second

    def comparisons(self, specs: Mapping[ModelFormat, ModelSpec]) -> tuple[Comparison, ...]:
        """All comparisons.

        Args:
            specs: Of the files.
        """
        if not specs:
            return ()
        source, record = self._originals.source, PRECISIONS[next(iter(specs.values())).precision]
        comparisons = [
            compare(
                self._names[name],
                self._found[name, title],
                source.original_name(name),
                self._originals.outputs(name, title),
                images=title,
                threshold=source.specs[name].threshold,
                tolerance=record.tolerance,
            )
            for name in specs
            for title in _SETS
        ]
        if len(specs) == 2:
            first, second = specs
            comparisons.append(
                compare(
                    self._names[first],
                    self._found[first, _SETS[1]],
                    self._names[second],
                    self._found[second, _SETS[1]],
                    images=_SETS[1],
                    threshold=source.specs[first].threshold,
                    tolerance=record.tolerance,
                )
            )
        return tuple(comparisons)


def with_own_threshold(
    made: MadeFile,
    images: CalibrationSet,
    logits: tuple[Sequence[float], Sequence[float]],
) -> MadeFile:
    """The file with thresholds of its own, where there are labels enough.

    Args:
        made: A file with its parent's thresholds.
        images: The images, some of them labelled.
        logits: Of the original and of the file, as :meth:`Proof.logits` gives them.

    Returns:
        The file, changed or not.
    """
    if made.spec.precision == "fp32":
        return made
    found = recalibrated([*images.labels, *images.held_out_labels], *logits, made.spec.threshold)
    if found is None:
        return made
    threshold, recalibration = found
    changed = made.spec.with_changes(threshold=threshold, recalibration=recalibration)
    return made.with_spec(changed)


def through_gate(
    gate: Gate,
    title: str,
    made: MadeFile,
    parent: Model,
    *,
    diagnosed: bool = True,
    progress: Progress = silent,
) -> Verification:
    """A file against its original on the gate's pictures.

    Args:
        gate: The pictures and the limits.
        title: What the file is called.
        made: The file.
        parent: The original.
        diagnosed: Whether to tell the model from the processor where the file fails.
        progress: Told about each picture.
    """
    model = Model.from_file(
        f"{title} ({made.spec.model_id})",
        made.spec,
        made.file,
        made.format,
        threads=available_cores(),
    )
    return verify_pair(
        Pair(model if diagnosed else replace(model, reference=None), parent),
        gate,
        worst=0,
        progress=progress,
    )


def diagnosed(
    made: MadeFile,
    original: Model,
    pictures: Sequence[RGBImage],
    comparisons: Sequence[Comparison],
    *,
    progress: Progress = silent,
) -> Diagnosis | None:
    """What is to blame where a file is not like its original: the model or the processor.

    Args:
        made: The file.
        original: What it was made from.
        pictures: Of the model's size, at least one.
        comparisons: The proof.
        progress: Told about each picture.

    Returns:
        None where the file agrees with its original, or computes in float.
    """
    name = called(made.format, made.spec)
    with_original = (c for c in comparisons if (c.model, c.reference) == (name, original.name))
    if all(comparison.passed for comparison in with_original):
        return None
    model = Model.from_file(name, made.spec, made.file, made.format, threads=available_cores())
    if model.reference is None:
        return None
    return diagnose(original.answer, model.answer, model.reference(), pictures, progress=progress)


def called(model_format: ModelFormat, spec: ModelSpec) -> str:
    """What a file is called in the proof."""
    return f"{model_format} {spec.precision}"
