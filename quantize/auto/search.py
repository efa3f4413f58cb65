"""The search behind ``--precision auto``: stage by stage, until an int8 candidate passes the gate.

1. int8, with the smallest and largest value as the range of an activation;
2. other ranges, of which the best is tried;
3. channels made equally large, with and without corrected biases, of which the better is tried;
4. layers kept in float: first those that the lint objects to, then those that hurt most, one of
   them, twice as many, and so on;
5. quantization-aware training, where there is a budget for it.

The best of several candidates is the one whose outputs are closest to the original's on images that
calibration never saw, without their labels. The gate, which takes longer, judges one candidate a
stage, and its pictures choose nothing but the stage. A stage none of whose candidates is closer to
the original than those of earlier stages does not go to the gate: it would change nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Literal, Protocol, TypeVar

from edgedf.errors import EdgedfError
from edgedf.quantize.accuracy.verify import Verification
from edgedf.quantize.calibration.settings import Method
from edgedf.quantize.making.keep import Keep
from edgedf.quantize.recipe import Recipe
from edgedf.runtime.interleaved import LatencyRatio

__all__ = [
    "MOST_KEPT",
    "CandidateBuilder",
    "SearchResult",
    "SearchStage",
    "StageName",
    "find_candidate",
]

StageName = Literal["int8", "ranges", "equalized", "kept", "trained"]

_OTHER_METHODS: tuple[Method, ...] = ("mse", "percentile", "entropy")
MOST_KEPT = 16
"""Layers kept in float at most; with more, another architecture or fp16 is the better answer."""

C = TypeVar("C")


class CandidateBuilder(Protocol[C]):
    """Builds candidates of one model in one format, and measures them."""

    def build(self, recipe: Recipe) -> C:
        """Build a candidate.

        Raises:
            EdgedfError: The model cannot be made that way.
        """
        ...

    def distance(self, candidate: C) -> float:
        """How far its outputs are from the original's on images that calibration never saw."""
        ...

    def objection(self, candidate: C) -> str:
        """Why it need not be shown to the gate, as a few images tell; empty where it should."""
        ...

    def judge(self, candidate: C) -> Verification:
        """What the gate says of it."""
        ...

    def worst_layers(self, candidate: C) -> Sequence[str]:
        """Names of layers, for ``--keep``, those that hurt most first."""
        ...

    def hostile_layers(self) -> Sequence[str]:
        """Names of layers that are not made for int8, whatever their ranges are."""
        ...

    def size(self, candidate: C) -> int:
        """Size of its file in bytes."""
        ...

    def latency(self, candidate: C) -> LatencyRatio:
        """Its latency beside that of the float model."""
        ...


@dataclass(frozen=True)
class SearchStage:
    """One stage of the search, and the candidate that came closest to the original in it.

    Args:
        name: Which stage.
        recipe: What made the candidate; None where there is none.
        note: What was compared, or why nothing was tried; for people.
        distance: From the original; see :meth:`CandidateBuilder.distance`.
        bytes: Size of the file.
        latency: Beside that of the float model.
        verification: What the gate says; None where it was not asked.
    """

    name: StageName
    recipe: Recipe | None = None
    note: str = ""
    distance: float | None = None
    bytes: int | None = None
    latency: LatencyRatio | None = None
    verification: Verification | None = None

    @property
    def passed(self) -> bool:
        """Whether the gate was asked and lets it through."""
        return self.verification is not None and self.verification.passed


@dataclass(frozen=True)
class SearchResult:
    """The stages that were tried for one file.

    Args:
        model: Which file they are about, such as ``tflite``.
        stages: In the order in which they were tried.
    """

    model: str
    stages: tuple[SearchStage, ...]

    @property
    def passed(self) -> SearchStage | None:
        """The stage that passed; None where none did."""
        return next((stage for stage in self.stages if stage.passed), None)


def find_candidate(
    model: str,
    builder: CandidateBuilder[C],
    *,
    train: Callable[[], CandidateBuilder[C]] | str = "no training",
) -> tuple[SearchResult, C | None]:
    """Try stage after stage until a candidate passes.

    Args:
        model: Name of the file, for the result.
        builder: Builds candidates and measures them.
        train: Trains the model for int8 and gives the builder for what came of it; or why that
            cannot be.

    Returns:
        The stages, and the candidate that passed, or None.

    Raises:
        EdgedfError: The gate or a file cannot be used. A candidate that cannot be built is no
            error: the stage says why.
    """
    stages: list[SearchStage] = []
    run = _Search(builder)
    for stage in run.stages(train):
        stages.append(stage)
        if stage.passed:
            return SearchResult(model, tuple(stages)), run.last
    return SearchResult(model, tuple(stages)), None


class _Search(Generic[C]):
    """Remembers the candidate closest to the original so far: recipe, candidate, distance."""

    def __init__(self, builder: CandidateBuilder[C]) -> None:
        self._builder = builder
        self._best: tuple[Recipe, C, float] | None = None
        self.last: C | None = None

    def stages(self, train: Callable[[], CandidateBuilder[C]] | str) -> Iterator[SearchStage]:
        yield self._tried("int8", [Recipe()])
        yield self._tried("ranges", [Recipe(method=method) for method in _OTHER_METHODS])
        # Equal channels have other ranges, so the plain ones get another chance.
        methods = dict.fromkeys((None, self._best_recipe().method))
        equalized = [Recipe(method=method, equalize=True) for method in methods]
        corrected = [replace(recipe, correct_biases=True) for recipe in equalized]
        both = [recipe for pair in zip(equalized, corrected, strict=True) for recipe in pair]
        yield self._tried("equalized", both)
        yield from self._kept()
        if isinstance(train, str):
            yield SearchStage("trained", note=train)
        else:
            self._builder = train()
            yield self._tried("trained", [Recipe()], always=True)

    def _kept(self) -> Iterator[SearchStage]:
        hostile = tuple(Keep("fp32", name) for name in self._builder.hostile_layers())
        if hostile:
            # On top of both: a model with none of its layers in place says little of either.
            recipes = [Recipe(keep=hostile), replace(self._best_recipe(), keep=hostile)]
            yield self._tried("kept", list(dict.fromkeys(recipes)), always=True)
        if self._best is None:
            yield SearchStage("kept", note="nothing to rank the layers of")
            return
        base, candidate, _ = self._best
        try:
            layers = self._builder.worst_layers(candidate)
        except EdgedfError as error:
            yield SearchStage("kept", note=f"its layers cannot be ranked: {error.message}")
            return
        count, most = 1, min(MOST_KEPT, len(layers))
        while count <= most:
            worst = (Keep("fp32", name) for name in layers[:count])
            keep = tuple(dict.fromkeys((*base.keep, *worst)))
            yield self._tried("kept", [replace(base, keep=keep)], always=True)
            count = min(2 * count, most) if count < most else most + 1

    def _best_recipe(self) -> Recipe:
        return Recipe() if self._best is None else self._best[0]

    def _tried(
        self, name: StageName, recipes: Sequence[Recipe], *, always: bool = False
    ) -> SearchStage:
        """The best candidate of some recipes, judged if it is worth it."""
        candidates: list[tuple[Recipe, C, float]] = []
        problems = []
        for recipe in recipes:
            try:
                built = self._builder.build(recipe)
            except EdgedfError as error:
                problems.append(error.message)
                continue
            candidates.append((recipe, built, self._builder.distance(built)))
        if not candidates:
            return SearchStage(name, note=f"cannot be made: {problems[0]}")
        best = recipe, candidate, distance = min(candidates, key=lambda entry: entry[2])
        recipe = replace(recipe, method=recipe.measured_by)  # the report leaves nothing open
        note = f"the closest of {len(candidates)}" if len(candidates) > 1 else ""
        closer = self._best is None or distance < self._best[2]
        if not (closer or always):
            note = f"{note + ' ' if note else ''}is no closer to the original than a stage before"
            return SearchStage(name, recipe, note, distance)
        if closer:
            self._best = best
        self.last = candidate
        objection = self._builder.objection(candidate)
        return SearchStage(
            name,
            recipe,
            ": ".join(part for part in (note, objection) if part),
            distance,
            self._builder.size(candidate),
            self._builder.latency(candidate),
            None if objection else self._builder.judge(candidate),
        )
