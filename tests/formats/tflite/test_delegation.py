from edgedf.formats.tflite.delegation import read_delegation
from edgedf.runtime.models import shipped_model
from tests.runtime.tiny import bare_tflite


def test_operators_have_the_names_of_what_they_make() -> None:
    found = read_delegation(bare_tflite())
    assert [(operator.name, operator.kind, operator.in_float) for operator in found.operators] == [
        ("float", "CAST", False),
        ("pooled", "AVERAGE_POOL_2D", True),
        ("StatefulPartitionedCall:1", "CONV_2D", True),
        ("means", "MEAN", True),
        ("StatefulPartitionedCall:0", "FULLY_CONNECTED", True),
    ]


def test_what_no_piece_holds_is_left_out() -> None:
    found = read_delegation(shipped_model("tflite").read_bytes())
    (partition,) = found.partitions
    assert len(partition.operators) == len(found.operators) - 1
    assert found.left_out == ("CAST",)
