"""``--precision auto``: the search for every format of a source, training included."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgedf.artifact import ModelFormat
from edgedf.errors import ConfigError
from edgedf.files import scratch_folder
from edgedf.progress import Progress, silent
from edgedf.quantize.accuracy.verify import Gate
from edgedf.quantize.auto.candidate import Builder, Candidate
from edgedf.quantize.auto.search import SearchResult, find_candidate
from edgedf.quantize.making.proof import Originals
from edgedf.quantize.recipe import Recipe
from edgedf.quantize.sources.source import load_source
from edgedf.runtime.models import shipped_model

__all__ = ["Search", "Trainer", "check_search", "checkpoint_of", "search_formats"]

Trainer = Callable[[Path, Sequence[Path], Path, Progress], Path]
"""Trains a checkpoint for int8 on pictures without labels: checkpoint, pictures, a folder to work
in, whom to tell → the new checkpoint. :func:`edgedf.distill.qat.qat.fine_tune` is behind the usual
one; this stage does not know it, as it runs without torch."""


@dataclass(frozen=True)
class Search:
    """A search for the int8 file that passes a gate, in place of one recipe.

    Args:
        trainer: Trains a checkpoint for int8 where nothing else helps; None for no training.
    """

    trainer: Trainer | None = None

    def refusal(self, checkpoint: Path | None) -> str:
        """Why there is no training of that checkpoint; empty where there is."""
        if self.trainer is None:
            return "no training: --qat-minutes gives it a budget"
        return "" if checkpoint else "no training: that takes a checkpoint (.safetensors)"


def check_search(recipe: Recipe, gate: Gate | None) -> Gate:
    """Refuse what a search cannot work with.

    Args:
        recipe: What holds for every candidate.
        gate: What a file has to pass.

    Returns:
        The gate.

    Raises:
        ConfigError: There is no gate, or the recipe has what the search chooses itself.
    """
    if gate is None:
        raise ConfigError(
            "Nothing says when --precision auto is good enough.",
            expected="pictures to judge by: --gate DIR, best with labels",
            next_step="name some with --gate, or convert to --precision int8",
        )
    chosen = {
        "--method": recipe.method is not None,
        "--equalize": recipe.equalize,
        "--correct-biases": recipe.correct_biases,
        f"--precision {recipe.precision}": recipe.precision != "int8",
    }
    given = [option for option, is_given in chosen.items() if is_given]
    if given:
        raise ConfigError(
            f"{given[0]} is chosen by --precision auto itself.",
            expected=f"auto without {' and '.join(given)}",
            next_step=f"leave {given[0]} out, or convert to --precision int8",
        )
    return gate


def checkpoint_of(source: str | Path | None) -> Path | None:
    """The checkpoint behind a source of :func:`edgedf.convert`; None where there is none."""
    path = shipped_model("tflite").with_suffix(".safetensors") if source is None else Path(source)
    return path if path.suffix.lower() == ".safetensors" and path.is_file() else None


def search_formats(
    originals: Originals,
    gate: Gate,
    titles: Mapping[ModelFormat, str],
    base: Recipe,
    search: Search,
    checkpoint: Path | None,
    pictures: Sequence[Path],
    *,
    progress: Progress = silent,
) -> tuple[tuple[SearchResult, ...], dict[ModelFormat, Candidate]]:
    """Search for each format by itself; training is done once for all.

    Args:
        originals: The float models and the images.
        gate: What a file has to pass.
        titles: What the file of each format is called.
        base: What holds for every candidate.
        search: Has the trainer of the last stage.
        checkpoint: The student to train; None where there is no checkpoint.
        pictures: What to train on.
        progress: Told about each step.

    Returns:
        A result for each format, and the candidates that passed, by format.

    Raises:
        EdgedfError: The gate cannot be used, or training fails.
    """
    results: list[SearchResult] = []
    passed: dict[ModelFormat, Candidate] = {}
    with scratch_folder() as folder:

        @functools.cache
        def trained() -> Originals:
            if search.trainer is None or checkpoint is None:
                raise AssertionError(search.refusal(checkpoint))
            path = search.trainer(checkpoint, pictures, folder, progress)
            loaded = load_source(path, tuple(titles), progress=progress)
            # What was trained still has to agree with what it was before.
            loaded = replace(loaded, originals=originals.source.originals)
            return Originals(loaded, originals.images, progress=progress)

        def builder(of: Originals, name: ModelFormat) -> Builder:
            return Builder(of, name, gate, titles[name], base, progress=progress)

        def after_training(name: ModelFormat) -> Callable[[], Builder]:
            return lambda: builder(trained(), name)

        for name in titles:
            train = search.refusal(checkpoint) or after_training(name)
            outcome = find_candidate(name, builder(originals, name), train=train)
            results.append(outcome[0])
            if outcome[1] is not None:
                passed[name] = outcome[1]
    return tuple(results), passed
