from ai_edge_litert import schema_py_generated as schema

from edgedf.formats import open_graph
from edgedf.formats.layers import KeptLayers
from edgedf.formats.tflite.lint import REMEDIES
from edgedf.runtime.models import shipped_model


def test_every_remedy_is_for_an_operator() -> None:
    assert all(hasattr(schema.BuiltinOperator, name) for name in REMEDIES)
    assert all(REMEDIES.values())


def test_a_float_model_is_all_float_in_one_partition() -> None:
    graph = open_graph(shipped_model("tflite").read_bytes(), "tflite")
    layers = graph.slow_layers({}, KeptLayers())
    assert {layer.problem for layer in layers} == {"stays float"}
    assert graph.slow_layers({layers[0].name: "name"}, KeptLayers())[0].keep == "name"
