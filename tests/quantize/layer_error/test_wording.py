import dataclasses
from typing import Any

import pytest

from edgedf.quantize.layer_error.noise import ChannelNoise
from edgedf.quantize.layer_error.ranking import Effect, LayerError, LayerRanking, WeightError
from edgedf.quantize.layer_error.wording import HEADINGS, conclusion, matching, section, shown


def error(order: int, effect: float | None = None, **changes: Any) -> LayerError:
    """A layer that moves the logit by ``effect``, and the map half as far."""
    values: dict[str, Any] = {
        "order": order,
        "operator": "Conv",
        "tensor": f"tensor{order}",
        "name": f"layer{order}",
        "quantized": True,
        "sqnr": 21.25,
        "added": 0.04,
        "rounding": 0.04,
        "propagated": 0.1,
        "mean_abs": 0.1,
        "max_abs": 0.5,
        "low": 0.0,
        "high": 6.0,
        "range_low": 0.0,
        "range_high": 6.0,
        "clipped": 0.0,
        "weights": (),
        "effect": None if effect is None else Effect(effect, effect / 2),
    }
    return LayerError(**{**values, **changes})


def ranking(layers: list[LayerError], **changes: Any) -> LayerRanking:
    values: dict[str, Any] = {
        "pictures": 4,
        "matched": 2,
        "unmatched": (),
        "matched_weights": 1,
        "unmatched_weights": (),
        "artifact": Effect(0.3, 0.2),
        "layers": tuple(layers),
    }
    return LayerRanking(**{**values, **changes})


def test_the_worst_layer_is_named_with_what_it_does_and_what_would_help() -> None:
    found = ranking([error(7, 0.2), error(3, 0.05), error(4)])
    said = conclusion(found)
    assert said.startswith("Worst is layer 7, Conv layer7: quantized alone, it moves the logit by")
    assert "the logit by 20.00% and the map by 10.00% of a standard deviation" in said
    assert "(all layers together: the logit by 30.00% and the map by 20.00%" in said
    assert "4.0 times as much as the next" in said
    assert "rounding its activations, and it stands out: look at its range" in said


def test_several_of_a_size_are_no_case_for_an_exception() -> None:
    said = conclusion(ranking([error(7, 0.2), error(3, 0.15)]))
    assert "and the next is close: --precision int8-a16 would help" in said


def test_wider_activations_do_not_help_against_rounded_weights() -> None:
    said = conclusion(ranking([error(7, 0.2, rounding=0.01)]))
    assert "comes from its rounded weights: train them on int8's grid; 16-bit" in said
    assert "would not help there" in said
    assert "times as much" not in said
    assert "rounded weights" in conclusion(ranking([error(7, 0.2, rounding=None)]))


def test_without_effects_the_noise_is_all_there_is_to_tell() -> None:
    said = conclusion(ranking([error(7), error(3)]))
    assert "from layer 7, Conv layer7, which adds 4.00% of its signal" in said
    assert conclusion(ranking([error(7, quantized=False)])) == "No layer adds noise."


def test_a_layer_without_effect_is_no_culprit() -> None:
    assert "None of the 1 layers" in conclusion(ranking([error(7, 0.0)]))


def test_outputs_that_do_not_vary_are_left_out() -> None:
    found = ranking([error(7, effect=None, **{})], artifact=Effect(None, 0.1))
    found = dataclasses.replace(
        found, layers=(dataclasses.replace(found.layers[0], effect=Effect(None, 0.1)),)
    )
    assert "moves the map by 10.00% of a standard deviation" in conclusion(found)
    assert section(found).rows[0][-2:] == ("-", "10.00%")


def test_what_could_not_be_compared_is_said() -> None:
    found = ranking([])
    assert matching(found) == (
        "Compared on 4 pictures: 2 tensors and 1 constant of the artifact by name; none is without "
        "a counterpart in the parent."
    )
    missing = dataclasses.replace(found, unmatched=("a", "b"), unmatched_weights=("c",))
    assert matching(missing).endswith("; 3 without a counterpart in the parent, such as a.")


def test_the_table_has_the_measured_layers_or_else_the_first() -> None:
    measured = [error(n, 0.1) for n in range(3)]
    others = [error(n) for n in range(3, 20)]
    assert len(shown(ranking([*measured, *others]))) == 3
    assert [layer.order for layer in shown(ranking(others))] == list(range(3, 11))


@pytest.mark.parametrize(
    ("changes", "heading", "text"),
    [
        ({}, "SQNR", "21.2 dB"),
        ({"sqnr": None}, "SQNR", "-"),
        ({"sqnr": None, "mean_abs": 0.0}, "SQNR", "exact"),
        ({"added": None}, "added", "-"),
        ({"clipped": 1e-6}, "clipped", "<0.01%"),
        ({"clipped": None}, "clipped", "float"),
        ({}, "weights", ""),
        ({"weights": (WeightError("w", None, None),)}, "weights", "exact"),
        ({"weights": (WeightError("w", 40.0, None),)}, "weights", "40.0 dB"),
        (
            {
                "weights": (
                    WeightError("w", 40.0, ChannelNoise(5, 9.5)),
                    WeightError("v", None, None),
                )
            },
            "weights",
            "40.0 dB (5: 9.5)",
        ),
        ({}, "logit", ""),
    ],
)
def test_cells(changes: dict[str, Any], heading: str, text: str) -> None:
    (row,) = section(ranking([error(0, **changes)])).rows
    assert row[HEADINGS.index(heading)] == text
