"""From the name of a node that ONNX Runtime executes to what it is called in the file.

A layer with weights is called after those, as everywhere else in edgedf: they have a module's name.
The graph that the runtime executes still says which weights a node takes, unless it has laid them
out anew. Then its name helps: a node made of several is called after one of them, or after a
tensor that it makes, with something behind: ``node_conv2d_3_token_37``, ``relu6_3_nchwc``.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

from edgedf.formats.layer_names import WEIGHTS, names_of_layers, numbered
from edgedf.formats.onnx.container import OnnxNode

__all__ = ["longest_known", "name_executed"]

_ACTIVATIONS = frozenset({"Clip", "Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid"})
_DEQUANTIZE = "DequantizeLinear"
_QUANTIZED = "_quantized"  # what onnxruntime's quantizer appends to the names of weights


def name_executed(
    executed: Sequence[tuple[str, str]], graph: Sequence[OnnxNode], nodes: Sequence[OnnxNode]
) -> list[str]:
    """Names for the nodes of an optimized graph.

    Args:
        executed: Name and operator of each, as the runtime's profile gives them.
        graph: The optimized graph.
        nodes: Of the file.

    Returns:
        A name for each, all different: of the weights' module, else of the node or tensor in the
        file, else the one that the runtime gave.
    """
    by_name: dict[str, OnnxNode] = {}
    makers: dict[str, OnnxNode] = {}
    for node in nodes:
        if node.name:
            by_name[node.name] = node
        for output in filter(None, node.outputs):
            makers[output] = node
    in_graph = {node.name: node for node in graph if node.name}
    found: list[str] = []
    modules: list[str | None] = []
    for name, kind in executed:
        known = longest_known(name, by_name, makers)
        source = by_name.get(known) or makers.get(known)
        found.append(known or name or kind)
        module = _weights(in_graph[name], {}) if name in in_graph else None
        if module is None and source is not None:
            module = _module(source, kind, makers)
        modules.append(module)
    return list(numbered(names_of_layers(found, modules)))


def longest_known(name: str, *known: Container[str]) -> str:
    """The longest part from the start of a name that the file knows; empty where there is none.

    Args:
        name: As the runtime has it: parts are put behind ``_`` and ``/``.
        known: Names in the file.
    """
    while name and not any(name in names for names in known):
        name = name[: max(name.rfind("_"), name.rfind("/"), 0)]
    return name


def _module(node: OnnxNode, kind: str, makers: dict[str, OnnxNode]) -> str | None:
    """Name of the weights that a node uses, or the one in front of an activation function."""
    if node.kind in _ACTIVATIONS and kind not in _ACTIVATIONS and node.inputs:
        node = makers.get(node.inputs[0], node)
    return _weights(node, makers)


def _weights(node: OnnxNode, makers: dict[str, OnnxNode]) -> str | None:
    for name in node.inputs[1:]:
        maker = makers.get(name)
        if maker is not None and maker.kind == _DEQUANTIZE:
            name = maker.inputs[0]
        if name.endswith(_QUANTIZED):
            name = name[: -len(_QUANTIZED)]
        if name.endswith(WEIGHTS):
            return name
    return None
