from typing import Any

import numpy as np
import onnx
import pytest

from edgedf.artifact import ModelFormat
from edgedf.formats import REGISTRY as FORMATS
from edgedf.formats import open_backend
from tests.formats.stages import executed_operators, list_operators, tflite, xnnpack_partitions
from tests.formats.stages import onnx as onnx_stage
from tests.quantize.students import small_exports, small_images


def float_model(model_format: ModelFormat) -> bytes:
    return small_exports().models[model_format]


def answers(model: bytes, model_format: ModelFormat) -> tuple[np.ndarray, np.ndarray]:
    backend = open_backend(model, model_format)
    found = [backend.run(image) for image in small_images()]
    return np.array([logit for logit, _ in found]), np.stack([dense for _, dense in found])


@pytest.mark.parametrize("model_format", FORMATS)
def test_int8_weights_round_to_a_127th_of_each_channel_and_nothing_else(
    model_format: ModelFormat,
) -> None:
    stage: Any = tflite if model_format == "tflite" else onnx_stage
    model = stage.to_int8_weights(float_model(model_format))
    assert len(model) < 0.4 * len(float_model(model_format))
    logits, maps = answers(model, model_format)
    wanted_logits, wanted_maps = answers(float_model(model_format), model_format)
    # The student's convolutions lie on the grid already: rounding them again is nothing.
    assert np.abs(maps - wanted_maps).max() < 1e-3
    # Its verdict does not.
    assert 0 < np.abs(logits - wanted_logits).max() < 0.1 * np.ptp(wanted_logits)


def test_onnx_weights_are_within_half_a_step_of_what_they_were() -> None:
    before = {
        t.name: onnx.numpy_helper.to_array(t)
        for t in onnx.load_model_from_string(float_model("onnx")).graph.initializer
    }
    graph = onnx.load_model_from_string(onnx_stage.to_int8_weights(float_model("onnx"))).graph
    after = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    quantized = [name.removesuffix("_int8") for name in after if name.endswith("_int8")]
    assert len(quantized) == sum(
        values.ndim > 1 and values.dtype == np.float32 for values in before.values()
    )
    for name in quantized:
        whole, scales = after[f"{name}_int8"], after[f"{name}_scale"]
        assert whole.dtype == np.int8
        assert whole.min() >= -127
        assert scales.shape == (len(whole), *[1] * (whole.ndim - 1))
        assert (np.abs(whole * scales - before[name]) <= 0.5001 * scales).all()


def test_onnx_runtime_turns_int8_weights_back_once() -> None:
    names = {op.name for op in executed_operators(onnx_stage.to_int8_weights(float_model("onnx")))}
    assert "Conv" in names or "FusedConv" in names
    assert not {"Mul", "DequantizeLinear"} & names


def test_a_dynamic_model_has_int8_weights_and_float_in_between() -> None:
    model = tflite.to_int8_weights(float_model("tflite"), dynamic=True)
    kinds = [op.inputs[:2] for op in list_operators(model, "tflite") if op.name == "CONV_2D"]
    assert set(kinds) == {("float32", "int8")}
    depthwise = [op for op in list_operators(model, "tflite") if op.name == "DEPTHWISE_CONV_2D"]
    assert {op.inputs[:2] for op in depthwise} == {("float32", "float32")}
    assert len(model) < 0.37 * len(float_model("tflite"))  # their weights are stored as int8
    assert len(xnnpack_partitions(model)) == 1
    logits, maps = answers(model, "tflite")
    wanted_logits, wanted_maps = answers(float_model("tflite"), "tflite")
    assert np.corrcoef(logits, wanted_logits)[0, 1] > 0.98
    assert np.corrcoef(maps.ravel(), wanted_maps.ravel())[0, 1] > 0.98


@pytest.mark.parametrize("model_format", FORMATS)
def test_16_bits_leave_nothing_of_the_error_of_activations(model_format: ModelFormat) -> None:
    stage: Any = tflite if model_format == "tflite" else onnx_stage
    errors = {}
    _, wanted = answers(float_model(model_format), model_format)
    for bits in (8, 16):
        model = stage.to_int8(float_model(model_format), small_images(), activation_bits=bits)
        errors[bits] = np.abs(answers(model, model_format)[1] - wanted).mean()
    assert errors[16] < 0.05 * errors[8]
    if model_format == "tflite":
        operators = list_operators(model, "tflite")
        convolutions = [op for op in operators if op.name == "CONV_2D"]
        assert {op.inputs[:2] for op in convolutions} == {("int16", "int8")}
        assert {op.outputs for op in convolutions} == {("int16",)}
        # Said on the page: there are no kernels for it in the CPU's delegate.
        assert xnnpack_partitions(model) == ()
