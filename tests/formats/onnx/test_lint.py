import onnx

from edgedf.formats import open_graph
from edgedf.formats.layers import KeptLayers
from edgedf.formats.onnx.lint import REMEDIES
from edgedf.runtime.models import shipped_model


def test_every_remedy_is_for_an_operator() -> None:
    assert set(REMEDIES) <= {definition.name for definition in onnx.defs.get_all_schemas()}
    assert all(REMEDIES.values())


def test_float_operators_are_called_as_in_the_file() -> None:
    graph = open_graph(shipped_model("onnx").read_bytes(), "onnx")
    layers = graph.slow_layers({}, KeptLayers())
    assert {"Conv", "Resize"} <= {layer.operator for layer in layers}
    assert not {layer.operator for layer in layers} & {"FusedConv", "ReorderInput"}
    assert len({layer.name for layer in layers}) == len(layers)
