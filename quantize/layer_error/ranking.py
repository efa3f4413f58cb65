"""Which layer hurts: the error of every tensor of an artifact, and what single layers cost.

Every layer is looked at in three ways. Its *SQNR* says how far its tensor is from the parent's;
most of that is usually inherited from the layers before it. Its *added noise* is what it adds
itself: the parent's operator is given the artifact's own inputs, and what the artifact makes of the
same is compared with that. And the *effect*, of a few layers, is what happens to logit and map when
this layer alone is quantized in the otherwise float parent, with the weights, the scale and the
zero point of the artifact. Nothing is calibrated again, so it is this artifact that is judged,
whatever images it was calibrated with.

Whose effect to measure is told by an estimate: the noise that a layer adds, times how much noise
grows from there to the outputs, which inherited and total noise of the layers behind it tell. It
finds a tensor with one huge channel, too. That adds little noise for its size, and ruins the next.

Measuring a layer's sensitivity by quantizing it alone is common practice (e.g. Wu et al., "Integer
Quantization for Deep Learning Inference", 2020, arXiv 2004.09602, section 5).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edgedf.errors import ConfigError
from edgedf.formats.layers import Answer, Graphs, Layer, Seen
from edgedf.imaging import RGBImage
from edgedf.progress import Progress, silent
from edgedf.quantize.layer_error.noise import ChannelNoise, NoiseSums, channel_noise
from edgedf.quantize.layer_error.opening import Opened

__all__ = [
    "DEFAULT_CANDIDATES",
    "Effect",
    "LayerError",
    "LayerRanking",
    "WeightError",
    "growth_to_outputs",
    "rank",
]

DEFAULT_CANDIDATES = 8

# What adds less than this of its signal only passes on what it is given, but for float rounding.
_LEAST_ADDED = 1e-5


@dataclass(frozen=True)
class Effect:
    """Drift of the outputs, in standard deviations of what the parent answers.

    Args:
        logit: Root mean square of the change of the logit, divided by the standard deviation of the
            parent's logits over the pictures; None where those do not vary.
        map: The same of the defocus map, over all pixels of all pictures.
    """

    logit: float | None
    map: float | None

    @property
    def largest(self) -> float:
        """The larger of the two, by which layers are ranked."""
        return max(self.logit or 0.0, self.map or 0.0)


@dataclass(frozen=True)
class WeightError:
    """What rounding did to the weights of a layer.

    Args:
        tensor: Name of the weights in the parent.
        sqnr: In dB; None without noise.
        worst: The output channel with the lowest SQNR; None without channels or without noise.
    """

    tensor: str
    sqnr: float | None
    worst: ChannelNoise | None


@dataclass(frozen=True)
class LayerError:
    """One layer of the artifact against the parent.

    Args:
        order: Its place in the artifact's order of execution, from 0; operators that only change
            the type are not counted.
        operator: Such as ``CONV_2D`` or ``Conv``.
        tensor: Name of the tensor it makes, in the parent.
        name: A shorter one, for people and for ``edgedf convert --keep``.
        quantized: Whether its tensor or its weights are quantized in the artifact.
        sqnr: Of its tensor, in dB; None without noise or without signal.
        added: Root mean square of the noise that it adds to what it inherits, divided by that of
            the parent's tensor; None without signal.
        rounding: The part of that which is rounding and clipping of its tensor; the rest comes from
            rounded weights. None for a float tensor or without signal.
        propagated: Estimate of what that noise grows to at the outputs, relative to their signal.
        mean_abs: Mean absolute difference of its tensor from the parent's.
        max_abs: Largest one.
        low: Smallest value of the parent's tensor over the pictures.
        high: Largest one.
        range_low: Smallest value that the artifact's tensor can hold, as calibrated; None for a
            float tensor.
        range_high: Largest one.
        clipped: Share of the parent's values outside that range by more than half a step; None
            for a float tensor.
        weights: Its quantized weights, biases left out.
        effect: What it does to the outputs alone; None where that was not measured.
    """

    order: int
    operator: str
    tensor: str
    name: str
    quantized: bool
    sqnr: float | None
    added: float | None
    rounding: float | None
    propagated: float
    mean_abs: float
    max_abs: float
    low: float
    high: float
    range_low: float | None
    range_high: float | None
    clipped: float | None
    weights: tuple[WeightError, ...]
    effect: Effect | None


@dataclass(frozen=True)
class LayerRanking:
    """Layers in the order in which they hurt.

    Args:
        pictures: How many it was measured on.
        matched: Tensors of the artifact that have a counterpart in the parent.
        unmatched: Names of the others.
        matched_weights: Quantized constants of the artifact that have one, biases included.
        unmatched_weights: Names of the others.
        artifact: What the artifact does to the outputs, with all its layers.
        layers: The worst first: those whose effect was measured, by the larger of its two figures;
            then the others, by their propagated noise.
    """

    pictures: int
    matched: int
    unmatched: tuple[str, ...]
    matched_weights: int
    unmatched_weights: tuple[str, ...]
    artifact: Effect
    layers: tuple[LayerError, ...]


def rank(
    opened: Opened,
    images: Sequence[RGBImage],
    *,
    candidates: int = DEFAULT_CANDIDATES,
    progress: Progress = silent,
) -> LayerRanking:
    """Compare two opened models layer by layer.

    Args:
        opened: From :func:`~edgedf.quantize.layer_error.opening.open_layers`.
        images: uint8 RGB of the model's size, at least one.
        candidates: Of how many layers to measure the effect on the outputs.
        progress: Told about pictures and layers.

    Raises:
        ConfigError: The parent's tensors have other shapes.
    """
    graphs = opened.graphs
    errors = _errors(graphs, images, progress)
    reference = _Reference(graphs.isolated(()), images)
    chosen = sorted(
        (e for e in errors if e.quantized and (e.added or 0.0) > _LEAST_ADDED), key=_by_noise
    )[: max(candidates, 0)]
    measured = {}
    for done, error in enumerate(chosen, 1):
        measured[error.tensor] = reference.effect(graphs.isolated({error.tensor}), images)
        progress("effect of layers", done, len(chosen))
    layers = [replace(error, effect=measured.get(error.tensor)) for error in errors]
    return LayerRanking(
        pictures=len(images),
        matched=len(graphs.layers),
        unmatched=graphs.unmatched,
        matched_weights=len({w.name for layer in graphs.layers for w in layer.weights}),
        unmatched_weights=graphs.unmatched_weights,
        artifact=reference.effect(opened.artifact, images),
        layers=tuple(sorted(layers, key=_badness)),
    )


class _Tensor:
    """Running sums over one layer's tensor."""

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        self.total, self.own = NoiseSums(), NoiseSums()
        self.inherited, self.rounding = NoiseSums(), NoiseSums()
        self.clipped = 0

    def error(self, growth: float) -> LayerError:
        layer, total = self.layer, self.total
        low, high = (None, None) if layer.steps is None else layer.steps.range
        return LayerError(
            order=layer.order,
            operator=layer.operator,
            tensor=layer.tensor,
            name=layer.name,
            quantized=layer.quantized,
            sqnr=total.sqnr,
            added=self.share(self.own),
            rounding=None if layer.steps is None else self.share(self.rounding),
            propagated=growth * (self.share(self.own) or 0.0),
            mean_abs=total.mean_abs,
            max_abs=total.max_abs,
            low=total.low,
            high=total.high,
            range_low=low,
            range_high=high,
            clipped=None if layer.steps is None else self.clipped / max(total.count, 1),
            weights=tuple(
                WeightError(
                    weight.name,
                    NoiseSums().add(weight.parent, weight.artifact).sqnr,
                    channel_noise(weight.parent, weight.artifact, weight.axis),
                )
                for weight in layer.weights
                if not weight.is_bias
            ),
            effect=None,
        )

    def add(self, seen: Seen) -> None:
        self.total.add(seen.parent, seen.artifact)
        self.own.add(seen.own, seen.artifact)
        self.inherited.add(seen.parent, seen.own)
        steps = self.layer.steps
        if steps is not None:
            self.rounding.add(seen.own, steps.rounded(seen.own))
            self.clipped += steps.clipped(seen.parent)

    def share(self, sums: NoiseSums) -> float | None:
        signal = self.total.signal
        return float((sums.noise / signal) ** 0.5) if signal > 0.0 else None


def _errors(
    graphs: Graphs, images: Sequence[RGBImage], progress: Progress
) -> tuple[LayerError, ...]:
    tensors = {layer.tensor: _Tensor(layer) for layer in graphs.layers}
    for done, image in enumerate(images, 1):
        for seen in graphs.compare(image):
            if not seen.parent.shape == seen.artifact.shape == seen.own.shape:
                raise ConfigError(
                    f"The tensor {seen.layer.tensor} has the shape {seen.artifact.shape} in the "
                    f"artifact and {seen.parent.shape} in the parent.",
                    expected="the float model that the artifact was made from",
                    next_step="name it with --against",
                )
            tensors[seen.layer.tensor].add(seen)
        progress("layers", done, len(images))
    growths = growth_to_outputs(
        {name: tensor.layer.inputs for name, tensor in tensors.items()},
        {name: tensor.share(tensor.total) or 0.0 for name, tensor in tensors.items()},
        {name: tensor.share(tensor.inherited) or 0.0 for name, tensor in tensors.items()},
    )
    return tuple(tensor.error(growths[name]) for name, tensor in tensors.items())


def growth_to_outputs(
    inputs: Mapping[str, Sequence[str]],
    total: Mapping[str, float],
    inherited: Mapping[str, float],
) -> dict[str, float]:
    """How much noise grows from each tensor to the outputs.

    Through one operator it grows by what its output inherits over the noisiest of its inputs, each
    relative to its own signal; along a chain these multiply, and of several ways the worst counts.

    Args:
        inputs: Tensors that each is made from, in order of execution.
        total: Noise of each, relative to its signal.
        inherited: The part of that which it has from its inputs.

    Returns:
        A factor for each; 1 for those that nothing is made from, which are the outputs.

    Example:
        >>> growth_to_outputs({"a": (), "b": ("a",)}, {"a": 0.01, "b": 0.05}, {"a": 0, "b": 0.04})
        {'b': 1.0, 'a': 4.0}
    """
    factors: dict[str, float] = {}
    behind: dict[str, list[float]] = {}
    for name in reversed(list(inputs)):
        factors[name] = max(behind.get(name, [1.0]))
        noisiest = max((total[taken] for taken in inputs[name]), default=0.0)
        growth = inherited[name] / noisiest if noisiest > 0.0 else 0.0
        for taken in inputs[name]:
            behind.setdefault(taken, []).append(growth * factors[name])
    return factors


class _Reference:
    """What the parent says, and how far another model is from that."""

    def __init__(self, parent: Answer, images: Iterable[RGBImage]) -> None:
        answers = [parent(image) for image in images]
        self._logits = np.array([logit for logit, _ in answers])
        self._maps = [dense for _, dense in answers]
        self._spreads = (
            float(self._logits.std()),
            float(np.stack(self._maps).std(dtype=np.float64)),
        )

    def effect(self, model: Answer, images: Iterable[RGBImage]) -> Effect:
        logits, maps = NoiseSums(), NoiseSums()
        for image, logit_of_parent, map_of_parent in zip(
            images, self._logits, self._maps, strict=True
        ):
            logit, dense_map = model(image)
            logits.add(_one(logit_of_parent), _one(logit))
            maps.add(map_of_parent, dense_map)
        return Effect(_relative(logits, self._spreads[0]), _relative(maps, self._spreads[1]))


def _one(value: float) -> NDArray[np.float64]:
    return np.array([value], np.float64)


def _relative(sums: NoiseSums, spread: float) -> float | None:
    return float((sums.noise / sums.count) ** 0.5 / spread) if spread > 0.0 else None


def _by_noise(error: LayerError) -> tuple[float, int]:
    return -error.propagated, error.order


def _badness(error: LayerError) -> tuple[float, float, int]:
    effect = -1.0 if error.effect is None else error.effect.largest
    return -effect, *_by_noise(error)
