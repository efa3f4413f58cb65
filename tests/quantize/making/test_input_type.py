from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedf.artifact import ModelFormat
from edgedf.errors import ConfigError
from edgedf.formats import REGISTRY as FORMATS
from edgedf.formats import open_backend
from edgedf.formats.onnx.parsed import without_metadata
from edgedf.formats.operators import boundary_operators
from edgedf.precision import PRECISIONS
from edgedf.quantize.making.input_type import check_input_type, described_input, input_type_named
from edgedf.spec import INPUT_TYPES, InputType
from tests.contract.specs import make_spec
from tests.formats.stages import list_operators, tflite, with_input_type, xnnpack_partitions
from tests.quantize.students import SMALL, small_exports, small_images, small_int8


@given(st.text(max_size=12).filter(lambda name: name not in INPUT_TYPES))
def test_any_other_name_is_refused_with_the_valid_ones(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        input_type_named(name)
    assert caught.value.expected == "one of uint8, int8, float32"


def test_the_nearest_name_is_suggested() -> None:
    with pytest.raises(ConfigError) as caught:
        input_type_named("unit8")
    assert caught.value.next_step == "--io uint8"


def test_int8_input_is_for_int8_alone() -> None:
    for precision in PRECISIONS:
        for wanted in INPUT_TYPES:
            if wanted == "int8" and precision != "int8":
                with pytest.raises(ConfigError, match=f"no int8 input for {precision}"):
                    check_input_type(wanted, precision)
            else:
                check_input_type(wanted, precision)


def test_the_spec_says_what_a_grey_level_is() -> None:
    described = [described_input(make_spec().input, wanted) for wanted in INPUT_TYPES]
    assert [(d.dtype, d.scale, d.zero_point) for d in described] == [
        ("uint8", 1.0, 0),
        ("int8", 1.0, -128),
        ("float32", 1.0, 0),
    ]


@pytest.mark.parametrize("model_format", FORMATS)
@pytest.mark.parametrize("wanted", INPUT_TYPES)
@pytest.mark.parametrize("quantized", [True, False])
def test_the_answers_are_the_same_to_the_last_bit(
    model_format: ModelFormat, wanted: InputType, quantized: bool
) -> None:
    model = small_int8(model_format) if quantized else small_exports().models[model_format]
    changed = with_input_type(model, model_format, wanted)
    assert changed == with_input_type(model, model_format, wanted)
    assert (changed == model) == (wanted == "uint8")
    before, after = open_backend(model, model_format), open_backend(changed, model_format)
    ((name, shape, dtype),) = [(t.name, t.shape, t.dtype) for t in after.inputs]
    assert (name, shape, dtype) == ("image", (1, SMALL, SMALL, 3), wanted)
    assert after.outputs == before.outputs
    for image in small_images()[:2]:
        (logit, dense), (new_logit, new_dense) = before.run(image), after.run(image)
        assert new_logit == logit
        np.testing.assert_array_equal(new_dense, dense)


def test_an_int8_tflite_begins_with_the_first_convolution() -> None:
    model = with_input_type(small_int8("tflite"), "tflite", "int8")
    operators = list_operators(model, "tflite")
    assert operators[0].name == "CONV_2D"
    assert [str(op) for op in boundary_operators(operators)] == ["DEQUANTIZE int8 → float32"] * 2
    (piece,) = xnnpack_partitions(model)
    assert len(piece.operators) == len(operators)


def test_a_kept_first_layer_gets_its_grey_levels_from_an_int8_input() -> None:
    float_model = small_exports().models["tflite"]
    kept = tflite.to_int8(float_model, small_images()[:2], keep=["fp32:Conv_conv"])
    changed = with_input_type(kept, "tflite", "int8")
    assert list_operators(changed, "tflite")[0].name == "DEQUANTIZE"
    before, after = open_backend(kept, "tflite"), open_backend(changed, "tflite")
    assert before.run(small_images()[0])[0] == after.run(small_images()[0])[0]


@pytest.mark.parametrize("model_format", FORMATS)
def test_a_model_without_the_cast_is_refused(model_format: ModelFormat) -> None:
    changed = with_input_type(small_exports().models[model_format], model_format, "float32")
    with pytest.raises(ConfigError, match="cannot be changed"):
        with_input_type(changed, model_format, "float32")


def test_a_float_graph_keeps_its_weights() -> None:
    """Nothing but the first operator changes: what is quantized afterwards is the same."""
    import onnx as onnx_package

    model = small_exports().models["onnx"]
    graphs = [
        onnx_package.load_model_from_string(m).graph
        for m in (model, with_input_type(model, "onnx", "float32"))
    ]
    constants: list[dict[str, Any]] = [
        {t.name: t.SerializeToString() for t in graph.initializer} for graph in graphs
    ]
    assert constants[0] == constants[1]
    assert [n.op_type for n in graphs[0].node][1:] == [n.op_type for n in graphs[1].node]
    assert without_metadata(onnx_package.load_model_from_string(model)).graph.input
