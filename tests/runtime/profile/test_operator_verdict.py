from dataclasses import replace

from edgedf.runtime.profile.events import Operators, OperatorTime
from edgedf.runtime.profile.operator_verdict import delegation_verdict

NODES = tuple(OperatorTime(f"n{number}", "QLinearConv", 1.0) for number in range(3))
ONNX = Operators(0, "", NODES, 9, 3.0, 3.0, in_float=())
TFLITE = Operators(0, "", NODES, 3, 3.0, 3.0, delegated=3, partitions=1, in_float=())


def test_what_no_delegate_took_is_counted_and_named() -> None:
    assert delegation_verdict(TFLITE) == "0 of 3 operators left the delegate"
    left = replace(TFLITE, in_file=64, left_out=("PACK", "CAST", "PACK"), partitions=4)
    assert delegation_verdict(left) == (
        "3 of 64 operators left the delegate: 2 PACK, CAST; it has the others in 4 partitions"
    )


def test_a_few_that_compute_in_float_are_named_and_a_float_model_is_not_reproached() -> None:
    island = replace(TFLITE, in_file=64, in_float=("LOGISTIC",))
    assert delegation_verdict(island) == (
        "0 of 64 operators left the delegate; 1 computes in float: LOGISTIC"
    )
    everything = replace(TFLITE, in_float=("CONV_2D",) * 3)
    assert delegation_verdict(everything) == "0 of 3 operators left the delegate"


def test_without_delegates_what_computes_in_float_is_named() -> None:
    assert delegation_verdict(ONNX) == "all 3 nodes compute in integers"
    resizes = replace(ONNX, in_float=("Resize", "Resize"))
    assert delegation_verdict(resizes) == "2 of 3 nodes compute in float: 2 Resize"
    assert delegation_verdict(replace(ONNX, in_float=None)) == (
        "3 nodes executed for 9 in the file"
    )
