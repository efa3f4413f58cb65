from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedf.artifact import Artifact, ModelFormat
from edgedf.formats.operators import DYNAMIC, LayerPrecision
from edgedf.quantize.inspection.structure import Structure, structure_of
from tests.formats.stages import onnx as onnx_stage
from tests.formats.stages import tflite
from tests.quantize.students import small_exports, small_images, small_int8
from tests.runtime.tiny import bare_onnx, bare_tflite, tiny_spec


@cache
def made(model_format: ModelFormat, precision: str) -> Structure:
    """The small student in one precision, taken apart."""
    model = small_exports().models[model_format]
    stage: Any = tflite if model_format == "tflite" else onnx_stage
    if precision == "int8":
        model = small_int8(model_format)
    elif precision == "int8-a16":
        model = stage.to_int8(model, small_images()[:4], activation_bits=16)
    elif precision == "int8-dynamic":
        model = stage.to_int8_weights(model, dynamic=True)
    elif precision == "int8-weights":
        model = stage.to_int8_weights(model)
    elif precision == "fp16":
        model = stage.to_fp16(model)
    return take_apart(model, model_format)


def take_apart(model: bytes, model_format: ModelFormat) -> Structure:
    return structure_of(Artifact(Path("made"), model_format, model, tiny_spec()))


@pytest.mark.parametrize(
    ("model_format", "precision", "convolutions", "others"),
    [
        ("tflite", "fp32", {"float32"}, {"float32"}),
        ("tflite", "fp16", {"float32, weights float16"}, {"float32"}),
        ("tflite", "int8-weights", {"float32, weights int8"}, {"float32"}),
        # Depthwise convolutions are not quantized at run time.
        ("tflite", "int8-dynamic", {DYNAMIC, "float32, weights int8"}, {"float32"}),
        ("tflite", "int8", {"int8"}, {"int8"}),
        ("tflite", "int8-a16", {"int16, weights int8"}, {"int16"}),
        ("onnx", "fp32", {"float32"}, {"float32"}),
        ("onnx", "fp16", {"float32, weights float16"}, {"float32"}),
        ("onnx", "int8-weights", {"float32, weights int8"}, {"float32"}),
        # ONNX Runtime scales maps in float whatever the file says, ...
        ("onnx", "int8", {"uint8, weights int8"}, {"uint8", "float32"}),
        # ... and has no 16-bit kernels.
        ("onnx", "int8-a16", {"float32, weights int8"}, {"float32"}),
    ],
)
def test_what_each_layer_computes_in(
    model_format: ModelFormat, precision: str, convolutions: set[str], others: set[str]
) -> None:
    found = made(model_format, precision)
    with_weights = [layer for layer in found.layers if layer.weights is not None]
    assert len(with_weights) == 58
    assert {layer.precision for layer in with_weights} == convolutions
    without = [layer for layer in found.layers if layer.weights is None]
    assert {layer.precision for layer in without} == others
    assert found.precisions == Counter(layer.precision for layer in found.layers)
    if precision == "int8" and model_format == "onnx":
        floats = {layer.operator for layer in found.layers if layer.precision == "float32"}
        assert floats == {"Resize"}


@pytest.mark.parametrize("model_format", ["tflite", "onnx"])
def test_layers_have_the_same_names_in_every_precision(model_format: ModelFormat) -> None:
    names = [layer.tensor for layer in made(model_format, "fp32").layers]
    assert len(set(names)) == len(names)
    precisions = ["fp16", "int8", "int8-weights", "int8-a16"]
    for precision in precisions:
        found = made(model_format, precision)
        assert {layer.tensor for layer in found.layers} == set(names)
        called = {layer.tensor: layer.name for layer in found.layers}
        assert called == {layer.tensor: layer.name for layer in made(model_format, "fp32").layers}


def test_pieces_of_the_delegate() -> None:
    assert (made("tflite", "int8").pieces, made("tflite", "int8").undelegated) == (1, 1)
    a16 = made("tflite", "int8-a16")
    assert (a16.pieces, a16.undelegated) == (0, sum(a16.operators.values()))
    assert (made("onnx", "int8").pieces, made("onnx", "int8").undelegated) == (None, None)


def test_operators_that_move_or_convert_are_counted_and_no_layers() -> None:
    for model, model_format in ((bare_tflite(), "tflite"), (bare_onnx(), "onnx")):
        found = take_apart(model, model_format)  # type: ignore[arg-type]
        assert {"CAST", "Cast"} & found.operators.keys()
        layers = {layer.operator for layer in found.layers}
        assert not layers & {"CAST", "Cast", "Transpose", "Flatten", "Clip"}
        assert layers & {"CONV_2D", "Conv"}
        assert found.precisions == {"float32": 4}


def test_an_activation_belongs_to_the_layer_before_unless_others_need_what_it_takes() -> None:
    def graph(*nodes: Any, outputs: tuple[str, ...]) -> bytes:
        def value(name: str) -> Any:
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 4, 4])

        weight = numpy_helper.from_array(np.ones((1, 1, 1, 1), np.float32), "a.weight")
        made = helper.make_graph(nodes, "g", [value("x")], [value(n) for n in outputs], [weight])
        model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString())

    conv = helper.make_node("Conv", ["x", "a.weight"], ["c"])
    relu = helper.make_node("Relu", ["c"], ["r"])
    (layer,) = take_apart(graph(conv, relu, outputs=("r",)), "onnx").layers
    assert layer == LayerPrecision("r", "a", "Conv", "float32", "float32")
    shared = graph(conv, relu, helper.make_node("Add", ["c", "r"], ["s"]), outputs=("s",))
    assert [layer.operator for layer in take_apart(shared, "onnx").layers] == [
        "Conv",
        "Relu",
        "Add",
    ]
    (alone,) = take_apart(
        graph(helper.make_node("Relu", ["x"], ["r"]), outputs=("r",)), "onnx"
    ).layers
    assert alone.operator == "Relu"


@pytest.mark.parametrize(
    ("model_format", "kept", "behind"),
    [
        ("tflite", "Conv_stem", "Conv_depthwise"),
        ("onnx", "student.encoder.stem", "student.encoder.stages.0.0.depthwise"),
    ],
)
def test_a_layer_that_was_kept_in_float_is_told_with_the_one_that_takes_what_it_makes(
    model_format: ModelFormat, kept: str, behind: str
) -> None:
    stage: Any = tflite if model_format == "tflite" else onnx_stage
    model = small_exports().models[model_format]
    model = stage.to_int8(model, small_images()[:4], keep=[f"fp32:{kept}"])
    found = take_apart(model, model_format)
    with_weights = [layer for layer in found.layers if layer.weights is not None]
    assert [la.name for la in with_weights if la.precision == "float32"] == [kept, behind]
    assert {layer.tensor for layer in found.layers} == {
        layer.tensor for layer in made(model_format, "fp32").layers
    }
