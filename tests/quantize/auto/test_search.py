from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from edgedf.errors import ConfigError
from edgedf.quantize.accuracy.limits import Limits
from edgedf.quantize.accuracy.verify import Verification
from edgedf.quantize.auto.search import MOST_KEPT, find_candidate
from edgedf.quantize.calibration.settings import METHODS
from edgedf.quantize.making.keep import Keep
from edgedf.quantize.recipe import Recipe
from edgedf.runtime.interleaved import LatencyRatio, Speed
from tests.quantize.accuracy.test_wording import verification

SPEED = Speed(1.0, 1.1, 0.9)
TOO_STRICT = Limits(map_error=0.0, map_error_bound=0.0)


@dataclass
class Builder:
    """A builder whose candidates are their recipes."""

    distance_of: Callable[[Recipe], float]
    enough: float
    layers: Sequence[str] = tuple(f"layer{n}" for n in range(40))
    broken: Callable[[Recipe], bool] = lambda recipe: False
    dead: Callable[[Recipe], bool] = lambda recipe: False
    hostile: Sequence[str] = ()
    judged: list[Recipe] = field(default_factory=list)

    def build(self, recipe: Recipe) -> Recipe:
        if self.broken(recipe):
            raise ConfigError("It cannot be made.")
        return recipe

    def distance(self, candidate: Recipe) -> float:
        return self.distance_of(candidate)

    def objection(self, candidate: Recipe) -> str:
        return "it is dead" if self.dead(candidate) else ""

    def judge(self, candidate: Recipe) -> Verification:
        self.judged.append(candidate)
        passes = self.distance_of(candidate) <= self.enough
        return verification(Limits() if passes else TOO_STRICT)

    def worst_layers(self, candidate: Recipe) -> Sequence[str]:
        return self.layers

    def hostile_layers(self) -> Sequence[str]:
        return self.hostile

    def size(self, candidate: Recipe) -> int:
        return 1000

    def latency(self, candidate: Recipe) -> LatencyRatio:
        return LatencyRatio(SPEED, SPEED, 1.0, 0.9, 1.1, 10)


def usual(recipe: Recipe) -> float:
    """Each remedy helps a little."""
    better = {"minmax": 0, "mse": 3, "percentile": 1, "entropy": 2}[recipe.measured_by]
    return 10 - better - 2 * recipe.equalize - recipe.correct_biases - 0.25 * len(recipe.keep)


def test_a_model_that_passes_in_int8_goes_no_further() -> None:
    builder = Builder(usual, enough=10.0)
    result, made = find_candidate("tflite", builder)
    assert [stage.name for stage in result.stages] == ["int8"]
    assert made == Recipe()
    assert result.passed is result.stages[0]


def test_the_best_of_several_ranges_is_judged_alone() -> None:
    builder = Builder(usual, enough=7.0)
    result, made = find_candidate("tflite", builder)
    assert made == Recipe(method="mse")
    assert builder.judged == [Recipe(), Recipe(method="mse")]
    assert result.stages[1].note == "the closest of 3"


def test_remedies_add_up() -> None:
    result, made = find_candidate("tflite", Builder(usual, enough=3.5))
    assert made == Recipe(
        method="mse",
        equalize=True,
        correct_biases=True,
        keep=(Keep("fp32", "layer0"), Keep("fp32", "layer1")),
    )
    names = [stage.name for stage in result.stages]
    assert names == ["int8", "ranges", "equalized", "kept", "kept"]


def test_what_comes_no_closer_is_not_judged_and_not_built_upon() -> None:
    builder = Builder(lambda r: 1.0 + (r != Recipe()) - 0.1 * len(r.keep), enough=0.0)
    result, made = find_candidate("tflite", builder)
    assert made is None
    assert result.passed is None
    by_name = {stage.name: stage for stage in result.stages}
    assert by_name["ranges"].verification is None
    assert "no closer" in by_name["ranges"].note
    kept = [stage.recipe for stage in result.stages if stage.name == "kept"]
    assert [len(recipe.keep) for recipe in kept if recipe] == [1, 2, 4, 8, MOST_KEPT]
    assert all(recipe and recipe.method == "minmax" and not recipe.equalize for recipe in kept)
    assert by_name["trained"].note == "no training"


def test_training_comes_last_and_brings_a_builder_of_its_own() -> None:
    trained = Builder(lambda recipe: 0.0, enough=1.0)
    result, made = find_candidate("onnx", Builder(usual, enough=-1.0), train=lambda: trained)
    assert made == Recipe()
    assert result.stages[-1].name == "trained"
    assert trained.judged == [Recipe()]


def test_a_candidate_that_cannot_be_made_is_passed_over() -> None:
    builder = Builder(usual, enough=8.0, broken=lambda recipe: recipe.method == "mse")
    result, made = find_candidate("tflite", builder)
    assert made == Recipe(method="entropy")
    nothing = Builder(usual, enough=8.0, broken=lambda recipe: True)
    result, made = find_candidate("tflite", nothing)
    assert made is None
    assert result.stages[0].note == "cannot be made: It cannot be made."


def test_layers_that_the_lint_objects_to_are_kept_first() -> None:
    hostile = Keep("fp32", "gate")

    def distance(recipe: Recipe) -> float:
        return 5.0 - (len(recipe.keep) if hostile in recipe.keep else 0)

    broken = Builder(
        distance, enough=3.0, broken=lambda recipe: hostile not in recipe.keep, hostile=["gate"]
    )
    result, made = find_candidate("tflite", broken)
    assert made == Recipe(keep=(hostile, Keep("fp32", "layer0")))
    assert [stage.name for stage in result.stages[3:]] == ["kept", "kept"]
    assert result.stages[3].recipe == Recipe(method="minmax", keep=(hostile,))


def test_what_a_few_images_rule_out_is_not_shown_to_the_gate() -> None:
    builder = Builder(usual, enough=10.0, dead=lambda recipe: recipe.measured_by == "minmax")
    result, made = find_candidate("tflite", builder)
    assert builder.judged == [Recipe(method="mse")]
    assert result.stages[0].note == "it is dead"
    assert made == Recipe(method="mse")


@given(
    st.dictionaries(st.sampled_from(METHODS), st.floats(0, 10), min_size=4),
    st.floats(-3, 3),
    st.floats(0, 10),
    st.integers(0, 20),
)
def test_only_what_passed_is_handed_on(
    distances: dict[str, float], equalized: float, enough: float, layers: int
) -> None:
    builder = Builder(
        lambda r: distances[r.measured_by] + equalized * r.equalize - 0.3 * len(r.keep),
        enough,
        layers=[f"layer{n}" for n in range(layers)],
    )
    result, made = find_candidate("tflite", builder)
    passing = [stage for stage in result.stages if stage.passed]
    assert len(passing) == (made is not None)
    if made is not None:
        assert result.stages[-1] is passing[0]
        assert builder.distance_of(made) <= enough
        assert passing[0].recipe == replace(made, method=made.measured_by)
    assert len(builder.judged) == sum(stage.verification is not None for stage in result.stages)
