import shlex

from edgedf.quantize.making.kept_layers import Keep
from edgedf.quantize.recipe import Recipe


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
