from edgedf.formats.layers import KeptLayers, NamedLayer
from edgedf.formats.operators import Operator
from edgedf.quantize.making.keep import Keep
from tests.formats.stages import found_kept

INT8 = Operator("CONV_2D", ("int8", "int8"), ("int8",))
FLOAT = Operator("CONV_2D", ("float32", "float32"), ("float32",))
WIDE = Operator("CONV_2D", ("int16", "int8"), ("int16",))
QUANTIZE = Operator("QUANTIZE", ("float32",), ("int8",))
FUSED = Operator("FusedConv", ("float32",), ("float32",), tensor="a")


def keeping(precision: str, *operators: str, tensor: str = "a") -> KeptLayers:
    keep = Keep(precision, "a")  # type: ignore[arg-type]
    layer = NamedLayer("a", operators, (tensor,), ())
    return KeptLayers((), {tensor: keep.precision}, {}, {keep.precision: (layer,)})


def test_what_was_asked_for_is_no_finding() -> None:
    found = found_kept([INT8, FLOAT, QUANTIZE], keeping("fp32", "CONV_2D"), "tflite")
    assert (found.misplaced, found.missing) == ((), ())
    assert found.operators == {"CONV_2D": 1, "QUANTIZE": 1}


def test_one_float_operator_more_than_asked_for_is() -> None:
    found = found_kept([FLOAT, FLOAT], keeping("fp32", "CONV_2D"), "tflite")
    assert found.misplaced == ("CONV_2D",)


def test_without_kept_layers_every_float_operator_is() -> None:
    found = found_kept([FLOAT, QUANTIZE, INT8], KeptLayers(), "tflite")
    assert found.misplaced == ("CONV_2D", "QUANTIZE")
    assert found.operators == {}


def test_a_kept_layer_that_is_int8_after_all_is_missing() -> None:
    assert found_kept([INT8], keeping("fp32", "CONV_2D"), "tflite").missing == ("CONV_2D",)
    assert found_kept([INT8], keeping("int8-a16", "CONV_2D"), "tflite").missing == ("CONV_2D",)
    assert found_kept([WIDE], keeping("int8-a16", "CONV_2D"), "tflite").missing == ()
    quantized = Operator("QLinearConv", ("uint8",), ("uint8",))
    assert found_kept([quantized], keeping("fp32", "Conv"), "onnx").missing == ("Conv",)


def test_onnx_runtime_runs_16_bits_in_float_and_fuses() -> None:
    found = found_kept([FUSED], keeping("int8-a16", "Conv", "Clip"), "onnx")
    assert (found.misplaced, found.missing) == ((), ())
    assert found.operators == {"Conv": 1}


def test_what_onnx_runtime_makes_of_several_operators_is_told_by_its_tensor() -> None:
    gelu = Operator("QuickGelu", ("float32",), ("float32",), tensor="a")
    kept = keeping("fp32", "Sigmoid")
    assert found_kept([gelu], kept, "onnx").misplaced == ()
    assert found_kept([gelu], keeping("fp32", "Sigmoid", tensor="b"), "onnx").misplaced == (
        "QuickGelu",
    )
    # A product with weights of 8 bits may become an operator of the runtime's own.
    product = Operator("MatMulNBits", ("float32",), ("float32",), tensor="a")
    assert found_kept([product], keeping("int8-a16", "Gemm"), "onnx").missing == ()
