"""Candidates of the ladder, made and looked at for real: see :mod:`edgedf.quantize.auto.ladder`."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgedf.artifact import ModelFormat
from edgedf.imaging import RGBImage
from edgedf.progress import Progress, silent
from edgedf.quantize.accuracy.parity import reasons
from edgedf.quantize.accuracy.verify import Gate, Verification
from edgedf.quantize.auto.ladder import MOST_KEPT
from edgedf.quantize.layer_error.ranking import opened_layers, rank
from edgedf.quantize.lint.report import lint_model
from edgedf.quantize.making.make import MadeFile, make_file
from edgedf.quantize.making.proof import Originals, Proof, through_gate, with_own_threshold
from edgedf.quantize.models.pair import Model
from edgedf.quantize.models.run import Outputs
from edgedf.quantize.recipe import Recipe
from edgedf.runtime.int8_speed import turns_of
from edgedf.runtime.interleaved import LatencyRatio, take_turns

__all__ = ["Bench", "Made", "distance"]

_RANKED_ON = 16
_ROUNDS = 60


@dataclass(frozen=True, eq=False)
class Made:
    """A candidate.

    Args:
        made: The file and what it was made from.
        recipe: How it was made.
        proof: What it says of the images.
    """

    made: MadeFile
    recipe: Recipe
    proof: Proof


class Bench:
    """A :class:`~edgedf.quantize.auto.ladder.Workshop` for one format of one model.

    Args:
        originals: The float models and the images.
        model_format: Which of them.
        gate: What a candidate has to pass.
        title: What the file is called.
        base: What holds for every candidate, such as the input's type.
        progress: Told about each step.
    """

    def __init__(
        self,
        originals: Originals,
        model_format: ModelFormat,
        gate: Gate,
        title: str,
        base: Recipe,
        *,
        progress: Progress = silent,
    ) -> None:
        self._originals, self._format, self._gate = originals, model_format, gate
        self._title, self._base, self._progress = title, base, progress
        self._parent = _remembering(originals.source.original(model_format))

    def make(self, recipe: Recipe) -> Made:
        """See :meth:`edgedf.quantize.auto.ladder.Workshop.make`, as for all methods."""
        source, name = self._originals.source, self._format
        whole = replace(
            recipe,
            precision=self._base.precision,
            input_type=self._base.input_type,
            keep=(*self._base.keep, *recipe.keep),
        )
        images = self._originals.images
        made = make_file(
            source.models[name],
            source.specs[name],
            whole,
            images.calibration,
            images.summary,
            learned=source.ranges.get(name, {}) if whole.takes_learned_ranges else {},
            progress=self._progress,
        )
        proof = Proof(self._originals, progress=self._progress)
        proof.add(made.file, name, made.spec)
        return Made(with_own_threshold(made, images, proof.logits(name)), whole, proof)

    def distance(self, made: Made) -> float:
        """Of the outputs on held-out images: see :func:`distance`."""
        wanted = self._originals.outputs(self._format, "held out")
        return distance(wanted, made.proof.outputs(self._format, "held out"))

    def objection(self, made: Made) -> str:
        """The first thing that the proof finds fault with."""
        for comparison in made.proof.comparisons({self._format: made.made.spec}):
            for reason in reasons(comparison):
                return f"on {comparison.n} {comparison.images} images {reason}"
        return ""

    def judge(self, made: Made) -> Verification:
        """What the gate says."""
        return through_gate(
            self._gate,
            self._title,
            made.made,
            self._parent,
            diagnosed=False,  # twenty seconds a candidate, and the next one may pass
            progress=self._progress,
        )

    def worst_layers(self, made: Made) -> Sequence[str]:
        """As ``edgedf verify --layers`` ranks them, against what was quantized."""
        found = made.made
        side = found.spec.input.height
        opened = opened_layers(found.graph, found.prepared, side)
        shown = self._originals.images.held_out[:_RANKED_ON]
        ranking = rank(opened, shown, candidates=MOST_KEPT, progress=self._progress)
        return [layer.name for layer in ranking.layers if layer.quantized]

    def hostile_layers(self) -> Sequence[str]:
        """Those that the lint objects to."""
        report = lint_model(self._originals.source.models[self._format].file, self._format)
        found = [layer.keep for layer in report.layers if layer.keep and not layer.tolerated]
        return list(dict.fromkeys(found))

    def size(self, made: Made) -> int:
        """Of the file, in bytes."""
        return len(made.made.file)

    def latency(self, made: Made) -> LatencyRatio:
        """One thread, by turns with the float model, on held-out images."""
        models = (self._originals.source.models[self._format].file, made.made.file)
        first, second = turns_of(models, self._format, self._originals.images.held_out)
        return take_turns(first, second, rounds=_ROUNDS, progress=self._progress)


def distance(wanted: Sequence[Outputs], found: Sequence[Outputs]) -> float:
    """How far outputs are from what they should be, in standard deviations of that.

    Args:
        wanted: Of the original, at least one.
        found: Of a candidate, of the same images.

    Returns:
        The larger of two: root mean square error of the logit, divided by the logit's standard
        deviation over the images, and the same of the map over all pixels. Infinite where a value
        is no finite number.
    """
    shares = []
    for name in ("fake_logit", "defocus_map"):
        first, second = (_stacked(outputs, name) for outputs in (wanted, found))
        error, spread = float(np.sqrt(np.mean((second - first) ** 2))), float(first.std())
        if not math.isfinite(error):
            return math.inf
        # What does not vary has no unit but its own.
        shares.append(error / spread if spread > 0.0 else error)
    return max(shares)


def _stacked(outputs: Sequence[Outputs], name: str) -> NDArray[np.float64]:
    return np.stack([entry[name] for entry in outputs]).astype(np.float64)


def _remembering(model: Model) -> Model:
    """The same model, which runs but once on each picture: every rung shows the gate's again."""
    known: dict[bytes, tuple[float, NDArray[np.float32]]] = {}

    def answer(pixels: RGBImage) -> tuple[float, NDArray[np.float32]]:
        key = hashlib.sha256(np.ascontiguousarray(pixels).data).digest()
        if key not in known:
            logit, dense = model.answer(pixels)
            known[key] = logit, dense.copy()
        return known[key]

    return replace(model, answer=answer)
