"""From the name of a node that ONNX Runtime executes to what it is called in the file.

A node that the runtime makes of several is called after one of them, or after a tensor that it
makes, with something behind: ``node_conv2d_3_token_37``, ``relu6_3_nchwc``. A layer with weights is
then called after those, as everywhere else in edgedf: they have a module's name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edgedf.artifact import OnnxNode
from edgedf.runtime.layer_names import WEIGHTS, names_of_layers, numbered

__all__ = ["name_executed"]

_ACTIVATIONS = frozenset({"Clip", "Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid"})
_DEQUANTIZE = "DequantizeLinear"
_QUANTIZED = "_quantized"  # what onnxruntime's quantizer appends to the names of weights


def name_executed(executed: Iterable[tuple[str, str]], nodes: Sequence[OnnxNode]) -> list[str]:
    """Names for the nodes of an optimized graph.

    Args:
        executed: Name and operator of each, as the runtime gives them.
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
    found: list[str] = []
    modules: list[str | None] = []
    for name, kind in executed:
        known = _longest(name, by_name, makers)
        source = by_name.get(known) or makers.get(known)
        found.append(known or name or kind)
        modules.append(None if source is None else _module(source, kind, makers))
    return list(numbered(names_of_layers(found, modules)))


def _longest(name: str, *known: dict[str, OnnxNode]) -> str:
    """The longest part from the start of a name, up to one of its ``_``, that the file knows."""
    while name:
        if any(name in names for names in known):
            return name
        name = name.rpartition("_")[0]
    return ""


def _module(node: OnnxNode, kind: str, makers: dict[str, OnnxNode]) -> str | None:
    """Name of the weights that a node uses, or the one in front of an activation function."""
    if node.kind in _ACTIVATIONS and kind not in _ACTIVATIONS and node.inputs:
        node = makers.get(node.inputs[0], node)
    for name in node.inputs[1:]:
        maker = makers.get(name)
        if maker is not None and maker.kind == _DEQUANTIZE:
            name = maker.inputs[0]
        if name.endswith(_QUANTIZED):
            name = name[: -len(_QUANTIZED)]
        if name.endswith(WEIGHTS):
            return name
    return None
