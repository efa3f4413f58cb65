"""The cure: from plain int8 upwards, rung by rung, until one passes the gate.

1. int8, with the smallest and largest value as the range of an activation;
2. other ranges, of which the best is tried;
3. channels made equally large, with and without corrected biases, of which the better is tried;
4. layers kept in float: first those that the lint objects to, then those that hurt most, one of
   them, twice as many, and so on;
5. quantization-aware training, where there is a budget for it.

What is the best of several is told by images that calibration never saw, without their labels. The
gate, which takes longer, is asked about one candidate a rung, and its pictures choose nothing but
the rung. A rung none of whose candidates comes closer to the original than the rungs below is not
tried: it would cost a gate and change nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Literal, Protocol, TypeVar

from edgedf.errors import EdgedfError
from edgedf.quantize.accuracy.verify import Verification
from edgedf.quantize.calibration.ranges import Method
from edgedf.quantize.making.kept_layers import Keep
from edgedf.quantize.recipe import Recipe
from edgedf.runtime.interleaved import LatencyRatio

__all__ = ["MOST_KEPT", "Ladder", "Rung", "RungName", "Workshop", "climb"]

RungName = Literal["int8", "ranges", "equalized", "kept", "trained"]

_OTHER_METHODS: tuple[Method, ...] = ("mse", "percentile", "entropy")
MOST_KEPT = 16
"""Layers kept in float at most; with more, another architecture or fp16 is the better answer."""

M = TypeVar("M")


class Workshop(Protocol[M]):
    """Makes candidates and looks at them."""

    def make(self, recipe: Recipe) -> M:
        """A candidate.

        Raises:
            EdgedfError: The model cannot be made that way.
        """
        ...

    def distance(self, made: M) -> float:
        """How far it is from the original on images that calibration never saw; 0 is the same."""
        ...

    def objection(self, made: M) -> str:
        """Why it need not be shown to the gate, as a few images tell; empty where it should."""
        ...

    def judge(self, made: M) -> Verification:
        """What the gate says."""
        ...

    def worst_layers(self, made: M) -> Sequence[str]:
        """Names of layers, for ``--keep``, those that hurt most first."""
        ...

    def hostile_layers(self) -> Sequence[str]:
        """Names of layers that are not made for int8, whatever their ranges are."""
        ...

    def size(self, made: M) -> int:
        """Of the file, in bytes."""
        ...

    def latency(self, made: M) -> LatencyRatio:
        """Against the float model."""
        ...


@dataclass(frozen=True)
class Rung:
    """One rung.

    Args:
        name: Which one.
        recipe: What was tried; None where nothing was.
        note: What was compared, or why nothing was tried; for people.
        distance: From the original; see :meth:`Workshop.distance`.
        bytes: Size of the file.
        latency: Against the float model.
        verification: What the gate says; None where it was not asked.
    """

    name: RungName
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
class Ladder:
    """The rungs that were tried.

    Args:
        model: Which file they are about, such as ``tflite``.
        rungs: From the lowest.
    """

    model: str
    rungs: tuple[Rung, ...]

    @property
    def passed(self) -> Rung | None:
        """The rung that passed; None where none did."""
        return next((rung for rung in self.rungs if rung.passed), None)


@dataclass(frozen=True)
class _Candidate(Generic[M]):
    recipe: Recipe
    made: M
    distance: float


def climb(
    model: str,
    workshop: Workshop[M],
    *,
    train: Callable[[], Workshop[M]] | str = "no training",
) -> tuple[Ladder, M | None]:
    """Try rung after rung until one passes.

    Args:
        model: Name of the file, for the ladder.
        workshop: Makes candidates and judges them.
        train: Trains the model for int8 and gives the workshop for what came of it; or why that
            cannot be.

    Returns:
        The ladder, and the candidate that passed, or None.

    Raises:
        EdgedfError: The gate or a file cannot be used. A candidate that cannot be made is no
            error: the rung says why.
    """
    climber = _Climber(workshop)
    rungs: list[Rung] = []
    steps: tuple[Callable[[], Iterator[Rung]], ...] = (
        climber.plain,
        climber.other_ranges,
        climber.equalized,
        climber.kept,
        lambda: climber.trained(train),
    )
    for tried in steps:
        for rung in tried():
            rungs.append(rung)
            if rung.passed:
                return Ladder(model, tuple(rungs)), climber.last
    return Ladder(model, tuple(rungs)), None


class _Climber(Generic[M]):
    """Remembers the best candidate so far."""

    def __init__(self, workshop: Workshop[M]) -> None:
        self._workshop = workshop
        self._best: _Candidate[M] | None = None
        self.last: M | None = None

    def plain(self) -> Iterator[Rung]:
        yield self._tried("int8", [Recipe()])

    def other_ranges(self) -> Iterator[Rung]:
        yield self._tried("ranges", [Recipe(method=method) for method in _OTHER_METHODS])

    def equalized(self) -> Iterator[Rung]:
        # Equal channels have other ranges, so the plain ones get another chance.
        methods: dict[Method, None] = {"minmax": None, self._best_recipe().method: None}
        yield self._tried(
            "equalized",
            [
                Recipe(method=method, equalize=True, correct_biases=corrected)
                for method in methods
                for corrected in (False, True)
            ],
        )

    def kept(self) -> Iterator[Rung]:
        hostile = tuple(Keep("fp32", name) for name in self._workshop.hostile_layers())
        if hostile:
            # On top of both: a model with none of its layers in place says little of either.
            recipes = [Recipe(keep=hostile), replace(self._best_recipe(), keep=hostile)]
            yield self._tried("kept", list(dict.fromkeys(recipes)), always=True)
        if self._best is None:
            yield Rung("kept", note="nothing to rank the layers of")
            return
        base = self._best
        try:
            layers = self._workshop.worst_layers(base.made)
        except EdgedfError as error:
            yield Rung("kept", note=f"its layers cannot be ranked: {error.message}")
            return
        count, most = 1, min(MOST_KEPT, len(layers))
        while count <= most:
            worst = [Keep("fp32", name) for name in layers[:count]]
            keep = (*base.recipe.keep, *(entry for entry in worst if entry not in base.recipe.keep))
            yield self._tried("kept", [replace(base.recipe, keep=keep)], always=True)
            count = min(2 * count, most) if count < most else most + 1

    def trained(self, train: Callable[[], Workshop[M]] | str) -> Iterator[Rung]:
        if isinstance(train, str):
            yield Rung("trained", note=train)
            return
        self._workshop = train()
        yield self._tried("trained", [Recipe()], always=True)

    def _best_recipe(self) -> Recipe:
        return Recipe() if self._best is None else self._best.recipe

    def _tried(self, name: RungName, recipes: Sequence[Recipe], *, always: bool = False) -> Rung:
        """The best of some candidates, at the gate if it is worth it."""
        found: list[_Candidate[M]] = []
        reasons = []
        for recipe in recipes:
            try:
                made = self._workshop.make(recipe)
            except EdgedfError as error:
                reasons.append(error.message)
                continue
            found.append(_Candidate(recipe, made, self._workshop.distance(made)))
        if not found:
            return Rung(name, note=f"cannot be made: {reasons[0]}")
        best = min(found, key=lambda candidate: candidate.distance)
        note = f"the closest of {len(found)}" if len(found) > 1 else ""
        before = self._best
        if before is not None and best.distance >= before.distance and not always:
            return Rung(
                name,
                best.recipe,
                f"{note + ' ' if note else ''}is no closer to the original than a rung below",
                best.distance,
            )
        if before is None or best.distance < before.distance:
            self._best = best
        self.last = best.made
        objection = self._workshop.objection(best.made)
        return Rung(
            name,
            best.recipe,
            ": ".join(part for part in (note, objection) if part),
            best.distance,
            self._workshop.size(best.made),
            self._workshop.latency(best.made),
            None if objection else self._workshop.judge(best.made),
        )
