from edgedf.formats.onnx.container import OnnxNode
from edgedf.formats.onnx.executed_names import name_executed

NODES = (
    OnnxNode("node_conv2d", "Conv", ("image", "net.stem.weight"), ("conv2d",)),
    OnnxNode("node_relu6", "Clip", ("conv2d", "low", "high"), ("relu6",)),
    OnnxNode(
        "dq", "DequantizeLinear", ("net.head.weight_quantized", "s", "z"), ("head_dequantized",)
    ),
    OnnxNode("node_conv2d_1", "Conv", ("relu6", "head_dequantized"), ("conv2d_1",)),
    OnnxNode("node_add", "Add", ("conv2d_1", "relu6"), ("add",)),
)


def names(*executed: tuple[str, str], graph: tuple[OnnxNode, ...] = ()) -> list[str]:
    return name_executed(executed, graph, NODES)


def test_the_weights_that_the_executed_graph_names_come_first() -> None:
    taken = ("x", "s", "z", "net.head.weight_quantized", "s", "z")
    graph = (OnnxNode("QLinearConv_token_7", "QLinearConv", taken, ("y",)),)
    executed = ("node_conv2d", "Conv"), ("QLinearConv_token_7", "QLinearConv")
    assert names(*executed, graph=graph) == ["stem", "head"]


def test_a_layer_is_called_after_its_weights_however_it_was_fused() -> None:
    assert names(("node_conv2d", "Conv"), ("node_conv2d_1_token_37", "QLinearConv")) == [
        "stem",
        "head",
    ]
    assert names(("relu6_nchwc", "Conv"), ("node_conv2d_1", "Conv")) == ["stem", "head"]


def test_without_weights_it_has_the_name_in_the_file_else_the_runtimes() -> None:
    assert names(("node_add_token_3", "QLinearAdd"), ("ReorderOutput", "ReorderOutput")) == [
        "node_add",
        "ReorderOutput",
    ]


def test_all_names_differ() -> None:
    assert names(("node_add_1x", "Add"), ("node_add_2x", "Add"), ("", "Cast")) == [
        "node_add@1",
        "node_add@2",
        "Cast",
    ]
