import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgedf.formats.operators import Operator, boundary_operators, count_operators, float_operators
from edgedf.quantize.sources.description import Description
from edgedf.quantize.sources.own_onnx import adopt
from tests.formats.stages import executed_operators, list_operators, xnnpack_partitions
from tests.formats.stages import onnx as onnx_stage
from tests.quantize.own_models import MEAN, STD, own_model
from tests.quantize.students import small_exports, small_images, small_int8
from tests.runtime.tiny import bare_onnx, bare_tflite


@cache
def own_float() -> bytes:
    """A model of somebody's own with SiLU."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "own.onnx"
        path.write_bytes(own_model(curve="silu").SerializeToString())
        return adopt(path, Description(mean=MEAN, std=STD)).model


def test_every_operator_of_an_int8_tflite_is_int8_but_those_at_its_ends() -> None:
    operators = list_operators(small_int8("tflite"), "tflite")
    assert float_operators(operators) == ()
    assert [str(operator) for operator in boundary_operators(operators)] == [
        "CAST uint8 → float32",
        "QUANTIZE float32 → int8",
        "DEQUANTIZE int8 → float32",
        "DEQUANTIZE int8 → float32",
    ]
    kinds = {
        kind
        for operator in operators
        if not operator.boundary
        for kind in (*operator.inputs, *operator.outputs)
    }
    assert kinds == {"int8", "int32"}


def test_one_delegate_partition_holds_every_int8_operator() -> None:
    operators = list_operators(small_int8("tflite"), "tflite")
    (partition,) = xnnpack_partitions(small_int8("tflite"))
    left = [op.name for i, op in enumerate(operators) if i not in partition.operators]
    assert left == ["CAST"]


def test_a_float_model_has_float_operators() -> None:
    names = {operator.name for operator in float_operators(list_operators(bare_tflite(), "tflite"))}
    assert names == {"AVERAGE_POOL_2D", "CONV_2D", "MEAN", "FULLY_CONNECTED"}


def test_counts_come_most_frequent_first() -> None:
    kinds = [Operator(name, (), ()) for name in ("B", "A", "C", "C", "A", "C")]
    assert list(count_operators(kinds).items()) == [("C", 3), ("A", 2), ("B", 1)]
    assert count_operators(list_operators(bare_onnx(), "onnx"))["Transpose"] == 2


def test_a_type_change_in_the_middle_is_not_at_the_boundary() -> None:
    """A float island between DEQUANTIZE and QUANTIZE is found, converters and all."""
    model = small_int8("tflite")
    operators = list(list_operators(model, "tflite"))
    island = [
        Operator("DEQUANTIZE", ("int8",), ("float32",)),
        Operator("LOGISTIC", ("float32",), ("float32",)),
        Operator("QUANTIZE", ("float32",), ("int8",)),
    ]
    operators[10:10] = island
    assert list(float_operators(operators)) == island


def test_onnx_runtime_computes_convolutions_in_integers() -> None:
    executed = executed_operators(small_int8("onnx"))
    counts = count_operators(executed)
    written = count_operators(list_operators(small_int8("onnx"), "onnx"))
    assert counts["QLinearConv"] == written["Conv"]
    assert counts["QLinearGlobalAveragePool"] == written["GlobalAveragePool"]
    assert {op.name for op in float_operators(executed)} <= {
        "Resize",
        "DequantizeLinear",
        "QuantizeLinear",
    }
    assert [str(operator) for operator in boundary_operators(executed)] == [
        "Cast uint8 → float32",
        "QuantizeLinear float32 → uint8",
        "DequantizeLinear uint8 → float32",
        "DequantizeLinear uint8 → float32",
    ]


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8-weights", "int8-a16", "int8"])
def test_what_onnx_runtime_fuses_has_the_type_that_it_computes_in(precision: str) -> None:
    """A name says nothing: QuickGelu, which it makes of SiLU, is computed in float."""
    model = own_float()
    if precision == "fp16":
        model = onnx_stage.to_fp16(model)
    elif precision == "int8-weights":
        model = onnx_stage.to_int8_weights(model)
    elif precision != "fp32":
        bits: Any = 16 if precision == "int8-a16" else 8
        model = onnx_stage.to_int8(model, small_images()[:4], activation_bits=bits)
    executed = executed_operators(model)
    floats = {op.name for op in float_operators(executed)}
    if precision == "int8":
        assert floats == set()
        assert {"QLinearSigmoid", "QLinearMul", "QGemm"} <= {op.name for op in executed}
    elif precision == "int8-a16":
        assert {"Conv", "Sigmoid", "Mul"} <= floats
    else:
        assert {"Conv", "QuickGelu", "Gemm", "GlobalAveragePool"} <= floats
    assert not any(name.startswith("QLinear") for name in floats)


def test_an_executed_operator_names_the_tensor_of_the_file_that_it_makes() -> None:
    found = {op.name: op.tensor for op in executed_operators(own_float())}
    # Fused, and in another layout: from there on to the end on some processors, not on others.
    assert found["QuickGelu"] == "features"
    assert found["Gemm"] == "score"


def test_what_onnx_runtime_computes_in_float_is_found() -> None:
    executed = executed_operators(small_exports().models["onnx"])
    assert "Conv" in {operator.name for operator in float_operators(executed)}


@pytest.mark.parametrize("precision", ["float", "int8"])
def test_no_operator_of_an_export_changes_the_layout_of_features(precision: str) -> None:
    models = small_exports().models
    model = models["tflite"] if precision == "float" else small_int8("tflite")
    assert "TRANSPOSE" not in count_operators(list_operators(model, "tflite"))
    # Of the input and of the map.
    onnx = models["onnx"] if precision == "float" else small_int8("onnx")
    counts = count_operators(list_operators(onnx, "onnx"))
    assert counts["Transpose"] == 2
    assert "ReduceMean" not in counts
    assert "Gather" not in counts
    assert np.sum(list(counts.values())) > 50
