from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from edgedf.errors import ConfigError
from edgedf.quantize.accuracy.gate import Limits
from edgedf.quantize.accuracy.verify import Verification
from edgedf.quantize.auto.ladder import MOST_KEPT, climb
from edgedf.quantize.calibration.ranges import METHODS
from edgedf.quantize.making.kept_layers import Keep
from edgedf.quantize.recipe import Recipe
from edgedf.runtime.interleaved import LatencyRatio, Speed
from tests.quantize.accuracy.test_wording import verification

SPEED = Speed(1.0, 1.1, 0.9)
TOO_STRICT = Limits(map_error=0.0, map_error_bound=0.0)


@dataclass
class Bench:
    """A workshop whose candidates are their recipes."""

    distance_of: Callable[[Recipe], float]
    enough: float
    layers: Sequence[str] = tuple(f"layer{n}" for n in range(40))
    broken: Callable[[Recipe], bool] = lambda recipe: False
    dead: Callable[[Recipe], bool] = lambda recipe: False
    hostile: Sequence[str] = ()
    judged: list[Recipe] = field(default_factory=list)

    def make(self, recipe: Recipe) -> Recipe:
        if self.broken(recipe):
            raise ConfigError("It cannot be made.")
        return recipe

    def distance(self, made: Recipe) -> float:
        return self.distance_of(made)

    def objection(self, made: Recipe) -> str:
        return "it is dead" if self.dead(made) else ""

    def judge(self, made: Recipe) -> Verification:
        self.judged.append(made)
        passes = self.distance_of(made) <= self.enough
        return verification(Limits() if passes else TOO_STRICT)

    def worst_layers(self, made: Recipe) -> Sequence[str]:
        return self.layers

    def hostile_layers(self) -> Sequence[str]:
        return self.hostile

    def size(self, made: Recipe) -> int:
        return 1000

    def latency(self, made: Recipe) -> LatencyRatio:
        return LatencyRatio(SPEED, SPEED, 1.0, 0.9, 1.1, 10)


def usual(recipe: Recipe) -> float:
    """Each remedy helps a little."""
    better = {"minmax": 0, "mse": 3, "percentile": 1, "entropy": 2}[recipe.method]
    return 10 - better - 2 * recipe.equalize - recipe.correct_biases - 0.25 * len(recipe.keep)


def test_a_model_that_passes_in_int8_goes_no_further() -> None:
    bench = Bench(usual, enough=10.0)
    ladder, made = climb("tflite", bench)
    assert [rung.name for rung in ladder.rungs] == ["int8"]
    assert made == Recipe()
    assert ladder.passed is ladder.rungs[0]


def test_the_best_of_several_ranges_is_judged_alone() -> None:
    bench = Bench(usual, enough=7.0)
    ladder, made = climb("tflite", bench)
    assert made == Recipe(method="mse")
    assert bench.judged == [Recipe(), Recipe(method="mse")]
    assert ladder.rungs[1].note == "the closest of 3"


def test_remedies_add_up() -> None:
    ladder, made = climb("tflite", Bench(usual, enough=3.5))
    assert made == Recipe(
        method="mse",
        equalize=True,
        correct_biases=True,
        keep=(Keep("fp32", "layer0"), Keep("fp32", "layer1")),
    )
    assert [rung.name for rung in ladder.rungs] == ["int8", "ranges", "equalized", "kept", "kept"]


def test_what_comes_no_closer_is_not_judged_and_not_built_upon() -> None:
    bench = Bench(lambda recipe: 1.0 + (recipe != Recipe()) - 0.1 * len(recipe.keep), enough=0.0)
    ladder, made = climb("tflite", bench)
    assert made is None
    assert ladder.passed is None
    by_name = {rung.name: rung for rung in ladder.rungs}
    assert by_name["ranges"].verification is None
    assert "no closer" in by_name["ranges"].note
    kept = [rung.recipe for rung in ladder.rungs if rung.name == "kept"]
    assert [len(recipe.keep) for recipe in kept if recipe] == [1, 2, 4, 8, MOST_KEPT]
    assert all(recipe and recipe.method == "minmax" and not recipe.equalize for recipe in kept)
    assert by_name["trained"].note == "no training"


def test_training_comes_last_and_brings_a_workshop_of_its_own() -> None:
    trained = Bench(lambda recipe: 0.0, enough=1.0)
    ladder, made = climb("onnx", Bench(usual, enough=-1.0), train=lambda: trained)
    assert made == Recipe()
    assert ladder.rungs[-1].name == "trained"
    assert trained.judged == [Recipe()]


def test_a_candidate_that_cannot_be_made_is_passed_over() -> None:
    bench = Bench(usual, enough=8.0, broken=lambda recipe: recipe.method == "mse")
    ladder, made = climb("tflite", bench)
    assert made == Recipe(method="entropy")
    nothing = Bench(usual, enough=8.0, broken=lambda recipe: True)
    ladder, made = climb("tflite", nothing)
    assert made is None
    assert ladder.rungs[0].note == "cannot be made: It cannot be made."


def test_layers_that_the_lint_objects_to_are_kept_first() -> None:
    hostile = Keep("fp32", "gate")

    def distance(recipe: Recipe) -> float:
        return 5.0 - (len(recipe.keep) if hostile in recipe.keep else 0)

    broken = Bench(
        distance, enough=3.0, broken=lambda recipe: hostile not in recipe.keep, hostile=["gate"]
    )
    ladder, made = climb("tflite", broken)
    assert made == Recipe(keep=(hostile, Keep("fp32", "layer0")))
    assert [rung.name for rung in ladder.rungs[3:]] == ["kept", "kept"]
    assert ladder.rungs[3].recipe == Recipe(keep=(hostile,))


def test_what_a_few_images_rule_out_is_not_shown_to_the_gate() -> None:
    bench = Bench(usual, enough=10.0, dead=lambda recipe: recipe.method == "minmax")
    ladder, made = climb("tflite", bench)
    assert bench.judged == [Recipe(method="mse")]
    assert ladder.rungs[0].note == "it is dead"
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
    bench = Bench(
        lambda r: distances[r.method] + equalized * r.equalize - 0.3 * len(r.keep),
        enough,
        layers=[f"layer{n}" for n in range(layers)],
    )
    ladder, made = climb("tflite", bench)
    passing = [rung for rung in ladder.rungs if rung.passed]
    assert len(passing) == (made is not None)
    if made is not None:
        assert ladder.rungs[-1] is passing[0]
        assert bench.distance_of(made) <= enough
        assert passing[0].recipe == made
    assert len(bench.judged) == sum(rung.verification is not None for rung in ladder.rungs)
