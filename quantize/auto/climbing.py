"""``--precision auto``: the ladder for every format of a source, training included."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgedf.artifact import ModelFormat
from edgedf.files import scratch_folder
from edgedf.progress import Progress, silent
from edgedf.quantize.accuracy.verify import Gate
from edgedf.quantize.auto.bench import Bench, Made
from edgedf.quantize.auto.ladder import Ladder, climb
from edgedf.quantize.making.proof import Originals
from edgedf.quantize.recipe import Recipe
from edgedf.quantize.sources.source import Source, load_source
from edgedf.runtime.models import shipped_model

__all__ = ["Trainer", "Training", "checkpoint_of", "climb_formats"]

Trainer = Callable[[Path, Sequence[Path], Path, Progress], Path]
"""Trains a checkpoint for int8 on pictures without labels: checkpoint, pictures, a folder to work
in, whom to tell → the new checkpoint. :func:`edgedf.distill.qat.qat.fine_tune` is behind the usual
one; this stage does not know it, as it runs without torch."""


@dataclass(frozen=True)
class Training:
    """The last rung.

    Args:
        trainer: Does it; None for no training.
        checkpoint: The student to train; None where there is no checkpoint.
        pictures: What to train on.
    """

    trainer: Trainer | None = None
    checkpoint: Path | None = None
    pictures: Sequence[Path] = ()

    def refusal(self) -> str:
        """Why there is no training; empty where there is."""
        if self.trainer is None:
            return "no training: --qat-minutes gives it a budget"
        return "" if self.checkpoint else "no training: that takes a checkpoint (.safetensors)"


def checkpoint_of(source: str | Path | None) -> Path | None:
    """The checkpoint behind a source of :func:`edgedf.convert`; None where there is none."""
    path = shipped_model("tflite").with_suffix(".safetensors") if source is None else Path(source)
    return path if path.suffix.lower() == ".safetensors" and path.is_file() else None


def climb_formats(
    originals: Originals,
    gate: Gate,
    titles: Mapping[ModelFormat, str],
    base: Recipe,
    training: Training,
    *,
    progress: Progress = silent,
) -> tuple[tuple[Ladder, ...], dict[ModelFormat, Made]]:
    """Climb for each format by itself; training is done once for all.

    Args:
        originals: The float models and the images.
        gate: What a file has to pass.
        titles: What the file of each format is called.
        base: What holds for every candidate.
        training: The last rung.
        progress: Told about each step.

    Returns:
        A ladder for each format, and what passed, by format.

    Raises:
        EdgedfError: The gate cannot be used, or training fails.
    """
    ladders: list[Ladder] = []
    passed: dict[ModelFormat, Made] = {}
    with _trained_once(originals.source, training, tuple(titles), progress) as trained:

        def bench(found: Originals, name: ModelFormat) -> Bench:
            return Bench(found, name, gate, titles[name], base, progress=progress)

        def after_training(name: ModelFormat) -> Callable[[], Bench]:
            return lambda: bench(Originals(trained(), originals.images, progress=progress), name)

        for name in titles:
            train = training.refusal() or after_training(name)
            outcome = climb(name, bench(originals, name), train=train)
            ladders.append(outcome[0])
            if outcome[1] is not None:
                passed[name] = outcome[1]
    return tuple(ladders), passed


@contextlib.contextmanager
def _trained_once(
    source: Source, training: Training, formats: Sequence[ModelFormat], progress: Progress
) -> Iterator[Callable[[], Source]]:
    """Trains when it is called first; what it leaves is gone at the end of the block."""
    found: list[Source] = []
    with scratch_folder() as folder:

        def trained() -> Source:
            if not found and training.trainer is not None and training.checkpoint is not None:
                checkpoint = training.trainer(
                    training.checkpoint, training.pictures, folder, progress
                )
                made = load_source(checkpoint, formats, progress=progress)
                # What was trained still has to agree with what it was before.
                found.append(replace(made, originals=source.originals))
            return found[0]

        yield trained
