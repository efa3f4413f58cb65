"""Candidates of the search, built and measured: see :mod:`edgedf.quantize.auto.search`."""

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
from edgedf.quantize.auto.search import MOST_KEPT
from edgedf.quantize.layer_error.opening import opened_layers
from edgedf.quantize.layer_error.ranking import rank
from edgedf.quantize.lint.report import lint_model
from edgedf.quantize.making.make import MadeFile, make_file
from edgedf.quantize.making.proof import Originals, Proof, through_gate, with_own_threshold
from edgedf.quantize.models.pair import Model
from edgedf.quantize.models.run import Outputs
from edgedf.quantize.recipe import Recipe
from edgedf.runtime.int8_speed import turns_of
from edgedf.runtime.interleaved import LatencyRatio, take_turns

__all__ = ["Builder", "Candidate", "distance"]

_RANKED_ON = 16
_ROUNDS = 60


@dataclass(frozen=True, eq=False)
class Candidate:
    """An int8 file that may be what is searched for.

    Args:
        file: The file and what it was made from.
        proof: Its outputs for the images.
    """

    file: MadeFile
    proof: Proof


class Builder:
    """A :class:`~edgedf.quantize.auto.search.CandidateBuilder` for one format of one model.

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

    def build(self, recipe: Recipe) -> Candidate:
        """See :meth:`edgedf.quantize.auto.search.CandidateBuilder.build`, as for all methods."""
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
        return Candidate(with_own_threshold(made, images, proof.logits(name)), proof)

    def distance(self, candidate: Candidate) -> float:
        """The distance of the outputs for held-out images: see :func:`distance`."""
        wanted = self._originals.outputs(self._format, "held out")
        return distance(wanted, candidate.proof.outputs(self._format, "held out"))

    def objection(self, candidate: Candidate) -> str:
        """The first thing that the proof finds fault with."""
        for comparison in candidate.proof.comparisons({self._format: candidate.file.spec}):
            for reason in reasons(comparison):
                return f"on {comparison.n} {comparison.images} images {reason}"
        return ""

    def judge(self, candidate: Candidate) -> Verification:
        """What the gate says of the file."""
        return through_gate(
            self._gate,
            self._title,
            candidate.file,
            self._parent,
            diagnosed=False,  # twenty seconds a candidate, and the next one may pass
            progress=self._progress,
        )

    def worst_layers(self, candidate: Candidate) -> Sequence[str]:
        """Layers as ``edgedf verify --layers`` ranks them, against what was quantized."""
        made = candidate.file
        opened = opened_layers(made.graph, made.prepared, made.spec.input.height)
        shown = self._originals.images.held_out[:_RANKED_ON]
        ranking = rank(opened, shown, candidates=MOST_KEPT, progress=self._progress)
        return [layer.name for layer in ranking.layers if layer.quantized]

    def hostile_layers(self) -> Sequence[str]:
        """Layers that the lint objects to."""
        report = lint_model(self._originals.source.models[self._format])
        names = [layer.keep for layer in report.layers if layer.keep and not layer.tolerated]
        return list(dict.fromkeys(names))

    def size(self, candidate: Candidate) -> int:
        """Size of the file in bytes."""
        return len(candidate.file.file)

    def latency(self, candidate: Candidate) -> LatencyRatio:
        """Latency on one thread, by turns with the float model, on held-out images."""
        models = (self._originals.source.models[self._format].file, candidate.file.file)
        first, second = turns_of(models, self._format, self._originals.images.held_out)
        return take_turns(first, second, rounds=_ROUNDS, progress=self._progress)


def distance(wanted: Sequence[Outputs], outputs: Sequence[Outputs]) -> float:
    """How far outputs are from what they should be, in standard deviations of that.

    Args:
        wanted: Outputs of the original, at least one.
        outputs: Outputs of a candidate for the same images.

    Returns:
        The larger of two: root mean square error of the logit, divided by the logit's standard
        deviation over the images, and the same of the map over all pixels. Infinite where a value
        is no finite number.
    """
    shares = []
    for name in ("fake_logit", "defocus_map"):
        first, second = _stacked(wanted, name), _stacked(outputs, name)
        error, spread = float(np.sqrt(np.mean((second - first) ** 2))), float(first.std())
        if not math.isfinite(error):
            return math.inf
        # What does not vary has no unit but its own.
        shares.append(error / spread if spread > 0.0 else error)
    return max(shares)


def _stacked(outputs: Sequence[Outputs], name: str) -> NDArray[np.float64]:
    return np.stack([entry[name] for entry in outputs]).astype(np.float64)


def _remembering(model: Model) -> Model:
    """The same model, which runs but once on each picture: every stage shows the gate's again."""
    known: dict[bytes, tuple[float, NDArray[np.float32]]] = {}

    def answer(pixels: RGBImage) -> tuple[float, NDArray[np.float32]]:
        key = hashlib.sha256(np.ascontiguousarray(pixels).data).digest()
        if key not in known:
            logit, defocus = model.answer(pixels)
            known[key] = logit, defocus.copy()
        return known[key]

    return replace(model, answer=answer)
