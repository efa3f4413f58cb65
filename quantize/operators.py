"""What a model consists of: its operators, and how a delegate divides them.

A model that "is int8" may still have float islands, and a delegate that takes nine tenths of the
operators in thirty pieces is slower than none. Both are counted here rather than believed.
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgedf.artifact import ModelFormat, strip_tflite

__all__ = [
    "BOUNDARY_OPERATORS",
    "Operator",
    "Partition",
    "count_operators",
    "float_operators",
    "list_operators",
    "xnnpack_partitions",
]

# Allowed to touch floats in an int8 model: they change the type at the input and the outputs.
BOUNDARY_OPERATORS = frozenset({"CAST", "QUANTIZE", "DEQUANTIZE"})


@dataclass(frozen=True)
class Operator:
    """One operator of a model.

    Args:
        name: Such as ``CONV_2D`` (TFLite) or ``Conv`` (ONNX).
        inputs: Types of its inputs, weights included; empty where the file does not say.
        outputs: Types of its outputs.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Partition:
    """What one delegate node replaces.

    Args:
        operators: Indices into :func:`list_operators`, in order of execution.
    """

    operators: tuple[int, ...]


def list_operators(model: bytes, model_format: ModelFormat) -> tuple[Operator, ...]:
    """All operators of a model in order of execution.

    Args:
        model: A ``.tflite`` or ``.onnx`` file.
        model_format: Which of the two.
    """
    return _of_tflite(model) if model_format == "tflite" else _of_onnx(model)


def count_operators(operators: Sequence[Operator]) -> dict[str, int]:
    """How often each operator occurs, the most frequent first."""
    counts = collections.Counter(operator.name for operator in operators)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def float_operators(operators: Sequence[Operator]) -> tuple[Operator, ...]:
    """Operators that compute in floating point; empty for a full-integer ``.tflite``."""
    return tuple(
        operator
        for operator in operators
        if operator.name not in BOUNDARY_OPERATORS
        and any("float" in kind for kind in (*operator.inputs, *operator.outputs))
    )


def xnnpack_partitions(model: bytes) -> tuple[Partition, ...]:
    """The pieces of a ``.tflite`` that the CPU's default delegate takes over.

    After delegation the interpreter has one DELEGATE node per piece. What it replaces is what
    lies between that node's inputs and its outputs in the original graph.

    Args:
        model: A ``.tflite`` file.

    Returns:
        One entry per delegate node.
    """
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=strip_tflite(model), num_threads=1)
    interpreter.allocate_tensors()
    nodes = interpreter._get_ops_details()  # the only place where Python sees delegation
    original = [node for node in nodes if node["op_name"] != "DELEGATE"]
    producer = {
        int(tensor): index for index, node in enumerate(original) for tensor in node["outputs"]
    }
    partitions = []
    for delegate in (node for node in nodes if node["op_name"] == "DELEGATE"):
        known = {int(tensor) for tensor in delegate["inputs"]}
        waiting = [int(tensor) for tensor in delegate["outputs"]]
        found: set[int] = set()
        while waiting:
            tensor = waiting.pop()
            index = producer.get(tensor)
            if tensor in known or index is None or index in found:
                continue
            found.add(index)
            waiting.extend(int(t) for t in original[index]["inputs"] if t >= 0)
        partitions.append(Partition(tuple(sorted(found))))
    return tuple(partitions)


def _of_tflite(model: bytes) -> tuple[Operator, ...]:
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_quantizer.utils import tfl_flatbuffer_utils

    kinds = {value: name.lower() for name, value in _constants(schema.TensorType)}
    names = {value: name for name, value in _constants(schema.BuiltinOperator)}
    flatbuffer = tfl_flatbuffer_utils.read_model(strip_tflite(model))
    graph = flatbuffer.subgraphs[0]

    def types(indices: Any) -> tuple[str, ...]:
        return tuple(kinds[graph.tensors[index].type] for index in indices if index >= 0)

    found = []
    for op in graph.operators:
        code = flatbuffer.operatorCodes[op.opcodeIndex]
        # Codes above 127 do not fit the old byte field; the larger of the two is the right one.
        name = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
        found.append(Operator(name, types(op.inputs), types(op.outputs)))
    return tuple(found)


def _of_onnx(model: bytes) -> tuple[Operator, ...]:
    import onnx

    # Without type inference: QDQ says "float" everywhere, whatever a runtime makes of it.
    graph = onnx.load_model_from_string(model).graph
    return tuple(Operator(node.op_type, (), ()) for node in graph.node)


def _constants(enumeration: Any) -> list[tuple[str, int]]:
    return [(name, value) for name, value in vars(enumeration).items() if isinstance(value, int)]
