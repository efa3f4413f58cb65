import shlex
from typing import Any

import pytest

from edgedf.errors import ConfigError
from edgedf.formats import REGISTRY as FORMATS
from edgedf.precision import PRECISIONS
from edgedf.quantize.making.keep import Keep
from edgedf.quantize.recipe import Recipe, check_available


def test_a_recipe_is_written_as_options() -> None:
    keep = (Keep("fp32", "Conv_project;22"), Keep("int8-a16", "decoder.*"))
    recipe = Recipe(method="mse", equalize=True, correct_biases=True, keep=keep)
    assert shlex.split(recipe.options()) == [
        "--method",
        "mse",
        "--equalize",
        "--correct-biases",
        "--keep",
        "fp32:Conv_project;22",
        "--keep",
        "int8-a16:decoder.*",
    ]
    assert ";22'" in recipe.options()  # a shell would end the command there


def test_defaults_are_left_out() -> None:
    assert Recipe().options() == ""
    assert Recipe("fp16", "float32").options() == "--precision fp16 --io float32"


@pytest.mark.parametrize(
    ("choices", "said", "expected"),
    [
        ({"precision": "int4"}, "no precision 'int4'", "one of fp32, fp16, int8"),
        ({"method": "mean"}, "no calibration method 'mean'", "one of minmax, percentile"),
        ({"method": "mse", "precision": "fp16"}, "nothing to calibrate in fp16", "int8"),
        ({"input_type": "int4"}, "no input type 'int4'", "one of uint8, int8, float32"),
        ({"input_type": "int8", "precision": "fp16"}, "no int8 input for fp16", "--io uint8"),
        ({"equalize": True, "precision": "fp16"}, "--equalize prepares for", "int8 or int8-a16"),
        ({"correct_biases": True, "precision": "fp32"}, "--correct-biases prepares", "int8"),
        ({"keep": (Keep("fp32", "*"),), "precision": "fp16"}, "kept out of fp16", "--keep beside"),
    ],
)
def test_choices_that_do_not_exist_or_go_together_are_refused(
    choices: dict[str, Any], said: str, expected: str
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        Recipe(**choices)
    assert expected in caught.value.expected


def test_learned_ranges_hold_for_8_bits_weights_as_they_were_and_no_method() -> None:
    assert Recipe().takes_learned_ranges
    assert Recipe(keep=(Keep("fp32", "*"),)).takes_learned_ranges
    for recipe in (
        Recipe("int8-a16"),
        Recipe(method="minmax"),
        Recipe(equalize=True),
        Recipe(correct_biases=True),
    ):
        assert not recipe.takes_learned_ranges


def test_what_a_format_does_not_have_is_refused_with_what_it_has() -> None:
    for precision in PRECISIONS:
        check_available(precision, ["tflite"])
        if precision != "int8-dynamic":
            check_available(precision, FORMATS)
    with pytest.raises(ConfigError) as both:
        check_available("int8-dynamic", FORMATS)
    assert "no int8-dynamic for .onnx" in both.value.message
    assert "int8-dynamic" not in both.value.expected
    assert "int8-weights" in both.value.expected
    assert both.value.next_step.startswith("--to tflite")
    with pytest.raises(ConfigError) as alone:
        check_available("int8-dynamic", ["onnx"])
    assert alone.value.next_step == "--precision int8"
