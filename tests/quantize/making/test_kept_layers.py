from collections import Counter
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedf.artifact import ModelFormat
from edgedf.errors import ConfigError
from edgedf.formats import REGISTRY as FORMATS
from edgedf.formats import open_backend, open_graph
from edgedf.formats.layers import NamedLayer
from edgedf.formats.onnx import quantizer
from edgedf.formats.operators import float_operators
from edgedf.precision import KEPT_PRECISIONS, PRECISIONS
from edgedf.quantize.making.keep import Keep, parse_keep
from edgedf.quantize.making.kept_layers import choose_layers, matches
from edgedf.spec import LayerOverride
from tests.formats.stages import (
    executed_operators,
    found_kept,
    kept_layers,
    list_operators,
    onnx,
    tflite,
)
from tests.formats.stages import graphs as graphs_of
from tests.formats.stages import onnx as layers_onnx
from tests.formats.stages import tflite as layers_tflite
from tests.quantize.students import HOSTILE, hostile, small_exports, small_images, small_int8

PATTERNS = {
    "tflite": ("fp32:Conv_project;22", "int8-a16:Sequential_mix4/*"),
    "onnx": ("fp32:stages.0.0.project", "int8-a16:decoder.mix4.*"),
}


def float_model(model_format: ModelFormat) -> bytes:
    return small_exports().models[model_format]


@cache
def kept(model_format: ModelFormat) -> bytes:
    """The small student in int8, one layer of it in float and two with 16-bit activations."""
    stage: Any = tflite if model_format == "tflite" else onnx
    return bytes(
        stage.to_int8(float_model(model_format), small_images()[:8], keep=PATTERNS[model_format])
    )


def chain(*names: str) -> tuple[NamedLayer, ...]:
    """Layers one behind the other."""
    above = ("image", *names)
    return tuple(
        NamedLayer(name, ("CONV_2D",), (name,), (before,))
        for before, name in zip(above, names, strict=False)
    )


# What is asked for


@pytest.mark.parametrize("precision", KEPT_PRECISIONS)
def test_a_pattern_may_have_colons_of_its_own(precision: str) -> None:
    assert Keep.parse(f"{precision}:a:b*") == Keep(precision, "a:b*")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("decoder.*", "PRECISION:PATTERN"),
        ("fp32:", "PRECISION:PATTERN"),
        ("fp23:decoder.*", "one of fp32, int8-a16"),
        ("int8:decoder.*", "one of fp32, int8-a16"),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_can(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_keep([text], "int8")
    assert said in str(caught.value.expected)


def test_only_calibrated_precisions_have_something_to_keep_out_of() -> None:
    for precision in PRECISIONS:
        assert parse_keep([], precision) == ()
        if precision in ("int8", "int8-a16"):
            assert parse_keep(["fp32:a"], precision) == (Keep("fp32", "a"),)
        else:
            with pytest.raises(ConfigError, match=f"out of {precision}"):
                parse_keep(["fp32:a"], precision)
    assert parse_keep("fp32:a", "int8") == (Keep("fp32", "a"),)
    with pytest.raises(ConfigError, match="changes nothing"):
        parse_keep(["int8-a16:a"], "int8-a16")


# Which layers that is


@given(st.from_regex(r"[a-c./]{0,9}", fullmatch=True), st.from_regex(r"[a-c./*?]{1,6}"))
def test_a_pattern_is_held_against_every_end_that_begins_a_part(name: str, pattern: str) -> None:
    parts = [name[at:] for at in range(len(name) + 1) if at == 0 or name[at - 1] in "./"]
    assert matches(pattern, name) == any(fnmatchcase(part, pattern) for part in parts)


def test_case_matters() -> None:
    assert matches("Conv_*", "Decoder/Conv_1")
    assert not matches("conv_*", "Decoder/Conv_1")


def test_what_takes_the_tensor_of_a_kept_layer_follows_and_no_more() -> None:
    found = choose_layers(chain(*"abcde"), [Keep("fp32", "b")], "onnx")
    assert found.overrides == (LayerOverride("fp32", "b", ("b",), ("c",)),)
    assert found.tensors("fp32") == {"b", "c"}
    assert found.operators("fp32") == Counter(CONV_2D=2)


def test_the_last_pattern_counts_and_a_follower_may_be_kept_itself() -> None:
    keep = [Keep("fp32", "[bc]"), Keep("int8-a16", "c")]
    found = choose_layers(chain(*"abcde"), keep, "onnx")
    assert found.matched == {"b": "fp32", "c": "int8-a16"}
    assert found.followed == {"d": "int8-a16"}
    assert [entry.layers for entry in found.overrides] == [("b",), ("c",)]


def test_what_takes_float_and_16_bits_is_float() -> None:
    both = (*chain("a"), NamedLayer("b", ("ADD",), ("b",), ("image",)))
    layers = (*both, NamedLayer("sum", ("ADD",), ("sum",), ("a", "b")), *chain("z"))
    found = choose_layers(layers, [Keep("fp32", "a"), Keep("int8-a16", "b")], "onnx")
    assert found.followed == {"sum": "fp32"}


def test_a_name_to_the_letter_means_that_layer_alone() -> None:
    layers = chain("mix", "decoder.mix", "x", "y")
    assert choose_layers(layers, [Keep("fp32", "mix")], "onnx").overrides[0].layers == ("mix",)
    everywhere = choose_layers(layers, [Keep("fp32", "mi?")], "onnx").overrides[0]
    assert everywhere.layers == ("mix", "decoder.mix")


def test_to_keep_everything_is_refused() -> None:
    with pytest.raises(ConfigError, match="Nothing would be left"):
        choose_layers(chain(*"ab"), [Keep("fp32", "*")], "onnx")


@pytest.mark.parametrize("model_format", FORMATS)
def test_a_pattern_that_matches_nothing_names_the_nearest_layers(model_format: ModelFormat) -> None:
    mistyped = {"tflite": "Conv_projekt;22", "onnx": "stages.0.0.projekt"}[model_format]
    nearest = {"tflite": "Conv_project;22", "onnx": "student.encoder.stages.0.0.project"}
    with pytest.raises(ConfigError) as caught:
        kept_layers(float_model(model_format), model_format, [f"fp32:{mistyped}"], "int8")
    assert nearest[model_format] in str(caught.value.expected)
    assert "--layers" in str(caught.value.next_step)


@pytest.mark.parametrize("model_format", FORMATS)
def test_layers_have_the_names_that_the_ranking_prints_and_each_its_own(
    model_format: ModelFormat,
) -> None:
    model = float_model(model_format)
    artifact = small_int8(model_format)
    named = open_graph(model, model_format).named_layers()
    shown = graphs_of(artifact, model, model_format).layers
    names = [layer.name for layer in named]
    assert len(set(names)) == len(names) > 60
    assert {layer.name for layer in shown} == set(names)
    assert len({layer.name for layer in shown}) == len(shown)


# What comes of it


def test_a_tflite_has_float_and_16_bit_operators_where_asked_and_int8_elsewhere() -> None:
    operators = list_operators(kept("tflite"), "tflite")
    floats = Counter(op.name for op in float_operators(operators))
    assert floats == Counter(CONV_2D=2, DEQUANTIZE=1, QUANTIZE=1)
    wide = Counter(op.name for op in operators if "int16" in op.inputs and not op.boundary)
    # The last of them is the convolution that makes the map, which takes what mix4 makes.
    assert wide == Counter(CONV_2D=2, DEPTHWISE_CONV_2D=1)
    convolutions = [op for op in operators if op.name in ("CONV_2D", "DEPTHWISE_CONV_2D")]
    assert Counter(op.inputs[0] for op in convolutions) == {"int8": 53, "int16": 3, "float32": 2}


def test_an_onnx_computes_in_float_where_asked_and_in_integers_elsewhere() -> None:
    counted = Counter(op.name for op in executed_operators(kept("onnx")))
    # Those with 16-bit activations run between conversions: there are no kernels for them.
    assert counted["Conv"] + counted["FusedConv"] == 5
    assert counted["QLinearConv"] == 53


def test_onnx_runtime_would_quantize_a_float_layer_that_is_not_shielded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the Clip in front of it is for; when this fails, it is no longer needed."""
    monkeypatch.setattr(quantizer, "shield_floats", lambda *_: None)
    # Behind the first of the two stands a QuantizeLinear, to 16 bits.
    keep = ["fp32:stages.0.0.depthwise", "int8-a16:stages.0.0.project"]
    model = onnx.to_int8(float_model("onnx"), small_images()[:2], keep=keep)
    counted = Counter(op.name for op in executed_operators(model))
    assert (counted["QLinearConv"], counted["Conv"] + counted["FusedConv"]) == (56, 2)
    found = found_kept(
        executed_operators(model), kept_layers(float_model("onnx"), "onnx", keep, "int8"), "onnx"
    )
    assert found.missing == ("Conv",)


@pytest.mark.parametrize("pattern", ["decoder.*", "blur", "stages.0.*"])
def test_kept_layers_in_a_row_are_found_whatever_the_runtime_renames(pattern: str) -> None:
    """In another layout neither nodes nor tensors have their names in the file, up to the end."""
    keep = [f"fp32:{pattern}"]
    model = onnx.to_int8(float_model("onnx"), small_images()[:2], keep=keep)
    wanted = kept_layers(float_model("onnx"), "onnx", keep, "int8")
    found = found_kept(executed_operators(model), wanted, "onnx")
    assert (found.misplaced, found.missing) == ((), ())
    assert found.operators["Conv"] >= wanted.operators("fp32")["Conv"] > 0


@pytest.mark.parametrize("model_format", FORMATS)
def test_a_file_with_kept_layers_runs_and_the_ranking_shows_that_they_add_nothing(
    model_format: ModelFormat,
) -> None:
    backend = open_backend(kept(model_format), model_format)
    wanted = open_backend(float_model(model_format), model_format)
    graphs = graphs_of(kept(model_format), float_model(model_format), model_format)
    for image in small_images()[:2]:
        assert np.abs(backend.run(image)[1] - wanted.run(image)[1]).mean() < 0.2
        (seen,) = (
            seen
            for seen in graphs.compare(image)
            if seen.layer.name.endswith(("Conv_project;22", "stages.0.0.project"))
        )
        np.testing.assert_allclose(seen.artifact, seen.own, atol=1e-4)
        assert not seen.layer.quantized


@pytest.mark.parametrize("model_format", FORMATS)
def test_keeping_the_layer_that_int8_ruins_heals_the_model(model_format: ModelFormat) -> None:
    """Its weights in float would not do: its tensor has to stay float as well."""
    artifact, parent = (path.read_bytes() for path in hostile(model_format))
    stage: Any = tflite if model_format == "tflite" else onnx
    named: Any = layers_tflite if model_format == "tflite" else layers_onnx
    (name,) = (
        layer.name
        for layer in named.named_layers(parent)
        if layer.name.endswith(("Conv_project;22", HOSTILE["onnx"]))
    )
    images = small_images()[:8]
    wanted = [open_backend(parent, model_format).run(image)[1] for image in images]
    errors = {}
    for precision in ("int8", *KEPT_PRECISIONS):
        model = artifact
        if precision != "int8":
            model = stage.to_int8(parent, images, keep=[f"{precision}:{name}"])
        backend = open_backend(model, model_format)
        found = [backend.run(image)[1] for image in images]
        errors[precision] = float(np.abs(np.stack(found) - np.stack(wanted)).mean())
    assert errors["fp32"] < 0.5 * errors["int8"]
    assert errors["int8-a16"] < 0.5 * errors["int8"]


@pytest.mark.parametrize("model_format", FORMATS)
def test_an_output_of_a_kept_layer_has_no_scale(model_format: ModelFormat) -> None:
    stage: Any = tflite if model_format == "tflite" else onnx
    name = {"tflite": "serving_default_defocus_map_output", "onnx": "student.blur"}[model_format]
    images = small_images()[:2]
    model = stage.to_int8(float_model(model_format), images, keep=[f"fp32:{name}"])
    assert set(stage.output_quantization(model)) == {"fake_logit"}
