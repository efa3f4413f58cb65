"""A float model as a list of nodes, for the rules of the lint."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgedf.errors import ArtifactUnreadable
from edgedf.files import scratch_folder
from edgedf.formats.onnx.session import open_session
from edgedf.formats.tflite.container import strip
from edgedf.quantize.lint.rules import Node
from edgedf.quantize.sources.plain_graph import check_names

__all__ = ["Graph", "onnx_graph", "tflite_graph"]

# Constants that a rule may look at: axes, steps, an epsilon, a bias.
_SMALL_CONSTANT = 4096


class Graph:
    """Nodes in order of execution, and the tensors at the model's ends.

    Args:
        nodes: The operators.
        inputs: Names of the model's inputs.
        outputs: Names of its outputs.
    """

    def __init__(
        self, nodes: tuple[Node, ...], inputs: frozenset[str], outputs: frozenset[str]
    ) -> None:
        self.nodes = nodes
        self.inputs = inputs
        self.outputs = outputs


def tflite_graph(model: bytes) -> Graph:
    """Read a float ``.tflite``.

    Tensors may share a name there, so each is called ``name``, or ``name#index`` where it is not
    the only one.

    Raises:
        ArtifactUnreadable: The flatbuffer is damaged.
    """
    try:
        return _tflite_nodes(model)
    except ImportError:
        raise
    except Exception as error:  # whatever a damaged table of offsets leads to
        raise ArtifactUnreadable(
            "The .tflite model is damaged.",
            expected="a float .tflite",
            next_step="copy or download it again, or export it again",
        ) from error


def _tflite_nodes(model: bytes) -> Graph:
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_quantizer.utils import tfl_flatbuffer_utils

    flatbuffer = tfl_flatbuffer_utils.read_model(strip(model))
    graph = flatbuffer.subgraphs[0]
    operators = {v: name for name, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
    kinds = {schema.TensorType.FLOAT32: np.float32, schema.TensorType.INT32: np.int32}
    made = {int(tensor) for op in graph.operators for tensor in op.outputs}
    ends = {int(tensor) for tensor in graph.inputs}
    plain = [tensor.name.decode() for tensor in graph.tensors]
    seen: dict[str, int] = {}
    for name in plain:
        seen[name] = seen.get(name, 0) + 1
    names = [name if seen[name] == 1 else f"{name}#{i}" for i, name in enumerate(plain)]

    def constant(index: int) -> Any:
        tensor = graph.tensors[index]
        data, kind = flatbuffer.buffers[tensor.buffer].data, kinds.get(tensor.type)
        if data is None or kind is None or len(data) > _SMALL_CONSTANT:
            return None
        return np.frombuffer(bytes(bytearray(data)), kind)

    nodes = []
    for op in graph.operators:
        code = flatbuffer.operatorCodes[op.opcodeIndex]
        given = [(place, int(index)) for place, index in enumerate(op.inputs) if index >= 0]
        fixed = [(place, i) for place, i in given if i not in made and i not in ends]
        values = {place: value for place, i in fixed if (value := constant(i)) is not None}
        data = [i for place, i in given if (place, i) not in fixed]
        results = [int(index) for index in op.outputs]
        options = vars(op.builtinOptions) if op.builtinOptions is not None else {}
        nodes.append(
            Node(
                operator=operators[max(code.builtinCode, code.deprecatedBuiltinCode)],
                name=names[results[0]],
                inputs=tuple(names[i] for i in data),
                outputs=tuple(names[i] for i in results),
                floats=frozenset(
                    names[i]
                    for i in (*data, *results)
                    if graph.tensors[i].type == schema.TensorType.FLOAT32
                ),
                absent=frozenset(place for place, i in enumerate(op.inputs) if i < 0),
                constants=values,
                fixed=frozenset(place for place, _ in fixed),
                rank=max(len(_shape(graph.tensors[i])) for i in (*data, *results)),
                attributes={k: v for k, v in options.items() if isinstance(v, (bool, int, float))},
            )
        )
    return Graph(
        tuple(nodes), frozenset(names[i] for i in ends), frozenset(names[i] for i in graph.outputs)
    )


def onnx_graph(model: bytes) -> Graph:
    """Read a float ``.onnx`` as ONNX Runtime's quantizer will see it, constants and norms folded.

    Raises:
        ArtifactUnreadable: ONNX Runtime does not accept the model.
    """
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with scratch_folder(for_libraries=True) as folder:
        plain, prepared = folder / "a.onnx", folder / "b.onnx"
        plain.write_bytes(model)
        try:
            check_names(onnx.load_model_from_string(model))
            open_session(model)  # what it refuses, the quantizer only writes about
            quant_pre_process(str(plain), str(prepared), skip_symbolic_shape=True)
            graph = onnx.load(str(prepared)).graph
        except ArtifactUnreadable:
            raise
        except Exception as error:  # ONNX Runtime's exceptions share no base but Exception
            raise ArtifactUnreadable(
                f"ONNX Runtime refuses the .onnx model: {str(error).partition(chr(10))[0]}.",
                expected="a complete float .onnx",
                next_step="copy or download it again, or export it again",
            ) from error
    weights = {tensor.name for tensor in graph.initializer}
    constants = {n.output[0] for n in graph.node if n.op_type == "Constant"} | weights
    kinds = {
        value.name: value.type.tensor_type.elem_type
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    floats = (0, onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)  # 0: the file does not say
    nodes = []
    for node in graph.node:
        if node.op_type == "Constant":
            continue
        data = [name for name in node.input if name and name not in constants]
        nodes.append(
            Node(
                operator=node.op_type,
                name=node.name or node.output[0],
                inputs=tuple(data),
                outputs=tuple(name for name in node.output if name),
                floats=frozenset(n for n in (*data, *node.output) if kinds.get(n, 0) in floats),
                absent=frozenset(place for place, name in enumerate(node.input) if not name),
                constants={},
                fixed=frozenset(p for p, name in enumerate(node.input) if name in constants),
                rank=0,
                attributes={a.name: onnx.helper.get_attribute_value(a) for a in node.attribute},
            )
        )
    return Graph(
        tuple(nodes),
        frozenset(value.name for value in graph.input) - weights,
        frozenset(value.name for value in graph.output),
    )


def _shape(tensor: Any) -> Any:
    return () if tensor.shape is None else tensor.shape
