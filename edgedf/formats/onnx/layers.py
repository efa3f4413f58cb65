"""Layers of a QDQ ``.onnx`` and of its parent, through graphs that show or cut their tensors.

onnxruntime.quantization.qdq_loss_debug has the same aim. It keeps the activations of all pictures
in memory, and with graph optimization off it runs other kernels than a device does; here the
integers are read where QuantizeLinear makes them, and the runtime fuses as it always does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgedf.formats.backend import as_input, unpack
from edgedf.formats.layer_names import WEIGHTS, names_of_layers, numbered
from edgedf.formats.layers import Answer, Layer, NamedLayer, Seen, Steps, Weight
from edgedf.formats.onnx.backend import NUMPY_NAMES, OnnxBackend
from edgedf.formats.onnx.float_island import SHIELD_SUFFIX
from edgedf.formats.onnx.parsed import copied
from edgedf.formats.onnx.session import open_session
from edgedf.imaging import RGBImage

__all__ = ["OUTPUT_SUFFIX", "Graph", "OnnxGraphs", "named_layers"]

_CONVERSIONS = ("QuantizeLinear", "DequantizeLinear")
OUTPUT_SUFFIX = "_QuantizeLinear_Input"
"""What onnxruntime appends to the name of a model output which it quantizes."""
# Likewise to those of weights.
_WEIGHT_SUFFIX = "_quantized"
_CHANNEL_AXES = {"Conv": 0, "ConvTranspose": 1}
# The quantizer takes these into the layer in front of them: its range says it all.
_ACTIVATIONS = ("Clip", "Relu")


class OnnxGraphs:
    """See :class:`~edgedf.formats.layers.Graphs`.

    Args:
        artifact: A quantized ``ModelProto``.
        parent: The float one that it was made from.
        threads: For the sessions, at least 1.
    """

    def __init__(self, artifact: Any, parent: Any, *, threads: int = 1) -> None:
        self._artifact, self._parent = artifact, parent
        self._threads = threads
        self._places: dict[str, str] = {}  # in the artifact, of the tensor that is looked at
        self._find()
        self._runs: tuple[Graph, Graph, Graph] | None = None

    def compare(self, image: RGBImage) -> Iterator[Seen]:
        """See :meth:`edgedf.formats.layers.Graphs.compare`."""
        if self._runs is None:
            names = [layer.tensor for layer in self.layers]
            self._runs = (
                self._shown(self._parent, names),
                self._shown(self._artifact, [self._places[name] for name in names]),
                self._cut(names),
            )
        parent, artifact, cut = self._runs
        wanted, found = parent.run(parent.feed(image)), artifact.run(artifact.feed(image))
        values = {layer.tensor: self._real(layer, found) for layer in self.layers}
        given = {_given(name): values[name] for name in values}
        own = cut.run({**cut.feed(image), **given})
        for layer in self.layers:
            name = layer.tensor
            yield Seen(layer, wanted[name], values[name], own[name])

    def isolated(self, tensors: Collection[str]) -> Answer:
        """See :meth:`edgedf.formats.layers.Graphs.isolated`."""
        model = copied(self._parent)
        constants = {tensor.name: tensor for tensor in model.graph.initializer}
        for layer in self.layers:
            if layer.tensor not in tensors:
                continue
            for weight in layer.weights:
                made = onnx.numpy_helper.from_array(weight.artifact, weight.name)
                constants[weight.name].CopyFrom(made)
            if layer.steps is not None:
                self._round(model, layer)
        graph = Graph(model.SerializeToString(), self._threads, integers=False)

        def answer(image: RGBImage) -> tuple[float, NDArray[np.float32]]:
            found = graph.run(graph.feed(image))
            return unpack(found["fake_logit"], found["defocus_map"], OnnxBackend.name)

        return answer

    def _find(self) -> None:
        """Match the artifact's tensors with the parent's, by name."""
        helper = onnx.numpy_helper
        floats = self._float_tensors()
        wanted = {tensor.name: tensor for tensor in self._parent.graph.initializer}
        graph = self._artifact.graph
        constants = {tensor.name: tensor for tensor in graph.initializer}
        producers = {name: node for node in graph.node for name in node.output}
        quantizers = {node.input[0]: node for node in graph.node if node.op_type == _CONVERSIONS[0]}
        names = {tensor: la.name for la in named_layers(self._parent) for tensor in la.tensors}
        unmatched: list[str] = []
        unmatched_weights: dict[str, None] = {}
        layers: list[Layer] = []
        order = -1

        def weights(node: Any) -> Iterator[Weight]:
            for name in node.input:
                conversion = producers.get(name)
                if conversion is None or conversion.op_type != _CONVERSIONS[1]:
                    continue
                integers, *_ = conversion.input
                if integers not in constants:
                    continue
                steps = self._steps(conversion, constants)
                original = integers.removesuffix(_WEIGHT_SUFFIX)
                stored = helper.to_array(constants[integers])
                if original not in wanted or list(wanted[original].dims) != list(stored.shape):
                    unmatched_weights[original] = None
                    continue
                axis = steps.axis if steps.scale.size > 1 else _CHANNEL_AXES.get(node.op_type)
                yield Weight(
                    original,
                    np.asarray(helper.to_array(wanted[original]), np.float32),
                    steps.values(stored),
                    8 * stored.dtype.itemsize,
                    axis if axis is not None and axis < stored.ndim else None,
                )

        def source(name: str) -> str:
            """The tensor that an operator takes, in front of what changes its type."""
            while name in producers and _is_conversion(producers[name]):
                name = producers[name].input[0]
            return name.removesuffix(OUTPUT_SUFFIX)

        for node in graph.node:
            if _is_conversion(node):
                continue
            order += 1
            found = tuple(weights(node))
            inputs = tuple(name for name in map(source, node.input) if name in self._places)
            for place in filter(None, node.output):
                name = place.removesuffix(OUTPUT_SUFFIX)
                if name not in floats:
                    unmatched.append(name)
                    continue
                quantizer = quantizers.get(place)
                steps = None if quantizer is None else self._steps(quantizer, constants)
                self._places[name] = place if quantizer is None else quantizer.output[0]
                layers.append(Layer(order, node.op_type, name, names[name], inputs, steps, found))
        self.layers = tuple(layers)
        self.unmatched = tuple(unmatched)
        self.unmatched_weights = tuple(unmatched_weights)

    def _float_tensors(self) -> set[str]:
        """What the parent's operators make, of type float32."""
        inferred = onnx.shape_inference.infer_shapes(self._parent).graph
        kinds = {
            value.name: value.type.tensor_type.elem_type
            for value in (*inferred.value_info, *inferred.output)
        }
        made = {name for node in inferred.node for name in node.output}
        return {name for name in made if kinds.get(name) == onnx.TensorProto.FLOAT}

    def _steps(self, conversion: Any, constants: dict[str, Any]) -> Steps:
        """Of a QuantizeLinear or DequantizeLinear."""
        to_array = onnx.numpy_helper.to_array
        scale = to_array(constants[conversion.input[1]])
        zero_point = to_array(constants[conversion.input[2]])
        axis = next((int(a.i) for a in conversion.attribute if a.name == "axis"), 1)
        return Steps(
            np.asarray(scale, np.float32).reshape(-1),
            np.asarray(zero_point, np.int64).reshape(-1),
            zero_point.dtype,
            axis,
        )

    def _real(self, layer: Layer, found: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        values = found[self._places[layer.tensor]]
        return values if layer.steps is None else layer.steps.values(values)

    def _shown(self, proto: Any, names: Sequence[str]) -> Graph:
        model = copied(proto)
        self._show(model, names)
        return Graph(model.SerializeToString(), self._threads)

    def _show(self, model: Any, names: Sequence[str]) -> None:
        del model.graph.output[:]
        # Without a type: the runtime infers it.
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)

    def _cut(self, names: Sequence[str]) -> Graph:
        """The parent, each operator of which takes its inputs from outside."""
        helper, kind = onnx.helper, onnx.TensorProto.FLOAT
        model = copied(self._parent)
        for node in model.graph.node:
            for at, name in enumerate(node.input):
                if name in self._places:
                    node.input[at] = _given(name)
        used = {name for node in model.graph.node for name in node.input}
        model.graph.input.extend(
            helper.make_tensor_value_info(_given(name), kind, None)
            for name in names
            if _given(name) in used
        )
        self._show(model, names)
        return Graph(model.SerializeToString(), self._threads)

    def _round(self, model: Any, layer: Layer) -> None:
        """Send a float tensor through the integers that the artifact has in its place."""
        helper, steps = onnx.helper, layer.steps
        if steps is None:
            return
        name = layer.tensor
        raw, integers, scale, zero_point = (
            f"{name}_{part}" for part in ("raw", "integers", "scale", "zero_point")
        )
        # That domain has 16 bits whatever the opset of the parent.
        domain = "com.microsoft"
        if all(entry.domain != domain for entry in model.opset_import):
            model.opset_import.append(helper.make_opsetid(domain, 1))
        nodes = list(model.graph.node)
        (at,) = (number for number, node in enumerate(nodes) if name in node.output)
        nodes[at].output[list(nodes[at].output).index(name)] = raw
        model.graph.initializer.extend(
            [
                onnx.numpy_helper.from_array(steps.scale.reshape(()), scale),
                onnx.numpy_helper.from_array(
                    steps.zero_point.astype(steps.dtype).reshape(()), zero_point
                ),
            ]
        )
        pair = [
            helper.make_node(_CONVERSIONS[0], [raw, scale, zero_point], [integers], domain=domain),
            helper.make_node(_CONVERSIONS[1], [integers, scale, zero_point], [name], domain=domain),
        ]
        nodes[at + 1 : at + 1] = pair
        del model.graph.node[:]
        model.graph.node.extend(nodes)


class Graph:
    """A session all of whose outputs are wanted, by name.

    With ``integers``, operators between DequantizeLinear and QuantizeLinear are fused into integer
    ones, as on a device. Without, they are computed in float: where float weights stand beside
    quantized activations, onnxruntime 1.32 fuses into something else than what was there. Without
    ``optimize``, nothing is fused.
    """

    def __init__(
        self, model: bytes, threads: int, *, integers: bool = True, optimize: bool = True
    ) -> None:
        self._session: Any = open_session(
            model, threads=threads, integers=integers, optimize=optimize
        )
        inputs = self._session.get_inputs()
        self._inputs = {node.name for node in inputs}
        self._image = inputs[0].name, NUMPY_NAMES[inputs[0].type]
        self._outputs = [node.name for node in self._session.get_outputs()]

    def feed(self, image: RGBImage) -> dict[str, NDArray[Any]]:
        """The picture as the first input takes it."""
        name, dtype = self._image
        return {name: as_input(image, dtype)}

    def run(self, feed: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """All outputs by name; what the graph does not take is left out of the feed."""
        used = {name: values for name, values in feed.items() if name in self._inputs}
        return dict(zip(self._outputs, self._session.run(None, used), strict=True))


def _given(name: str) -> str:
    return f"{name}_given"


def _is_conversion(node: Any) -> bool:
    """Whether it changes the type, or is there for one that does."""
    return node.op_type in _CONVERSIONS or node.output[0].endswith(SHIELD_SUFFIX)


def named_layers(proto: Any) -> tuple[NamedLayer, ...]:
    """The layers of a float model, in order of execution.

    One with weights is called after them, as they have a module's name and tensors have a number;
    what is shared by the names of all such layers is left out. The activation function behind it
    belongs to it.

    Args:
        proto: A float ``ModelProto``.
    """
    graph = proto.graph
    constants = {tensor.name for tensor in graph.initializer}
    takers: dict[str, list[Any]] = {output.name: [None] for output in graph.output}
    for node in graph.node:
        for name in node.input:
            takers.setdefault(name, []).append(node)
    modules: list[str | None] = []
    found: list[tuple[list[str], list[str], list[str]]] = []
    behind: set[str] = set()  # outputs of activation functions that a layer has taken in
    for node in graph.node:
        if node.output[0] in behind:
            continue
        weights = (n for n in node.input if n in constants and n.endswith(WEIGHTS))
        module = next(weights, None)
        operators, tensors = [node.op_type], list(filter(None, node.output))
        following = takers.get(tensors[-1], [])
        if module and len(following) == 1 and getattr(following[0], "op_type", "") in _ACTIVATIONS:
            operators.append(following[0].op_type)
            tensors.append(following[0].output[0])
            behind.add(tensors[-1])
        inputs = [name for name in node.input if name and name not in constants]
        found.append((operators, tensors, inputs))
        modules.append(module)
    names = numbered(names_of_layers([tensors[-1] for _, tensors, _ in found], modules))
    return tuple(
        NamedLayer(name, tuple(operators), tuple(tensors), tuple(inputs))
        for name, (operators, tensors, inputs) in zip(names, found, strict=True)
    )
