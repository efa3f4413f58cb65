"""What a model consists of: its operators, and how a delegate divides them.

A model that "is int8" may still have float islands, and a delegate that takes nine tenths of the
operators in thirty pieces is slower than none. Both are counted here rather than believed.

A TFLite file says of each tensor what type it has. An ONNX file with QuantizeLinear and
DequantizeLinear says "float" everywhere; what is computed in integers is decided by the runtime,
so it is asked: :func:`executed_operators`.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from edgedf.artifact import ModelFormat, strip_tflite
from edgedf.errors import OutputError
from edgedf.files import scratch_folder
from edgedf.formats.onnx.backend import NUMPY_NAMES
from edgedf.formats.onnx.session import open_session
from edgedf.formats.tflite.delegation import Partition, xnnpack_partitions
from edgedf.quantize.sources.describe import CURVE_PREFIX
from edgedf.runtime.profile.operators.onnx_names import longest_known

__all__ = [
    "BOUNDARY_OPERATORS",
    "Operator",
    "Partition",
    "boundary_operators",
    "count_operators",
    "executed_nodes",
    "executed_operators",
    "float_operators",
    "list_operators",
    "xnnpack_partitions",
]

# What activations are quantized to.
_QUANTIZED_TYPES = frozenset({"uint8", "int8", "uint16", "int16"})
# Allowed to touch floats in an int8 model where they change the type at the input or the outputs.
BOUNDARY_OPERATORS = frozenset(
    {"CAST", "QUANTIZE", "DEQUANTIZE", "Cast", "QuantizeLinear", "DequantizeLinear"}
)


@dataclass(frozen=True)
class Operator:
    """One operator of a model.

    Args:
        name: Such as ``CONV_2D`` (TFLite) or ``Conv`` (ONNX).
        inputs: Types of its inputs, weights included; empty where the file does not say.
        outputs: Types of its outputs.
        boundary: Whether it does nothing but change the type between the model's input or outputs
            and what lies behind them, or make the logit of a probability.
        tensor: Of what ONNX Runtime executes: the tensor of the file that it makes, or goes to make
            where it is a part of that; else empty.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    boundary: bool = False
    tensor: str = ""

    def __str__(self) -> str:
        kinds = " → ".join(dict.fromkeys((*self.inputs[:1], *self.outputs[:1])))
        return f"{self.name} {kinds}".rstrip()


def list_operators(model: bytes, model_format: ModelFormat) -> tuple[Operator, ...]:
    """All operators of a model in order of execution.

    Args:
        model: A ``.tflite`` or ``.onnx`` file.
        model_format: Which of the two.
    """
    return _of_tflite(model) if model_format == "tflite" else _of_onnx(model)


def executed_operators(model: bytes) -> tuple[Operator, ...]:
    """What ONNX Runtime makes of a model on this machine's CPU, after fusing.

    A convolution between DequantizeLinear and QuantizeLinear becomes one ``QLinearConv``. One that
    stays a ``Conv`` is computed in float, whatever the file looks like.

    Args:
        model: An ``.onnx`` file.

    Returns:
        The operators of the optimized graph, with their types.

    Raises:
        OutputError: The folder for temporary files is full.
    """
    return tuple(operator for _, operator in executed_nodes(model))


def executed_nodes(model: bytes) -> tuple[tuple[str, Operator], ...]:
    """The same, each with the name of its node.

    What the runtime leaves as it is keeps the name that it has in the file; what it fuses gets
    another one.

    Args:
        model: An ``.onnx`` file.

    Raises:
        OutputError: The folder for temporary files is full.
    """
    import onnx

    with scratch_folder() as folder:
        path = folder / "optimized.onnx"
        try:
            open_session(model, optimized_model=path)
            optimized = onnx.load(str(path))
        except Exception as error:  # its exception types share no base but Exception
            raise OutputError(
                f"ONNX Runtime cannot write its optimized graph into {folder}: "
                f"{str(error).partition(chr(10))[0]}.",
                expected="free space in the folder for temporary files",
                next_step="free some space, or set TMPDIR to another folder",
            ) from error
    names = [node.name for node in optimized.graph.node]
    written = onnx.load_model_from_string(model).graph.node
    return tuple(zip(names, _typed_onnx(optimized, written), strict=True))


def count_operators(operators: Sequence[Operator]) -> dict[str, int]:
    """How often each operator occurs, the most frequent first."""
    counts = collections.Counter(operator.name for operator in operators)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def float_operators(operators: Sequence[Operator]) -> tuple[Operator, ...]:
    """Operators that compute in floating point; empty for a full-integer ``.tflite``."""
    return tuple(
        operator
        for operator in operators
        if not operator.boundary
        and any("float" in kind for kind in (*operator.inputs, *operator.outputs))
    )


def boundary_operators(operators: Sequence[Operator]) -> tuple[Operator, ...]:
    """Operators that change the type at the input and the outputs."""
    return tuple(operator for operator in operators if operator.boundary)


def _of_tflite(model: bytes) -> tuple[Operator, ...]:
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_quantizer.utils import tfl_flatbuffer_utils

    kinds = {value: name.lower() for name, value in _constants(schema.TensorType)}
    names = {value: name for name, value in _constants(schema.BuiltinOperator)}
    flatbuffer = tfl_flatbuffer_utils.read_model(strip_tflite(model))
    graph = flatbuffer.subgraphs[0]

    def types(indices: Any) -> tuple[str, ...]:
        return tuple(kinds[graph.tensors[index].type] for index in indices if index >= 0)

    ends = _Ends(graph.inputs, graph.outputs)
    found = []
    for op in graph.operators:
        code = flatbuffer.operatorCodes[op.opcodeIndex]
        # Codes above 127 do not fit the old byte field; the larger of the two is the right one.
        name = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
        boundary = ends.has(name, op.inputs, op.outputs)
        found.append(Operator(name, types(op.inputs), types(op.outputs), boundary))
    return tuple(found)


def _of_onnx(model: bytes) -> tuple[Operator, ...]:
    import onnx

    # Without type inference: QDQ says "float" everywhere, whatever a runtime makes of it.
    graph = onnx.load_model_from_string(model).graph
    return tuple(Operator(node.op_type, (), ()) for node in graph.node)


def _typed_onnx(optimized: Any, written: Sequence[Any]) -> tuple[Operator, ...]:
    """The operators of an optimized graph, with the types that the runtime gives their tensors.

    Args:
        optimized: A model as the runtime wrote it; its outputs are replaced.
        written: The nodes of the file that it was made from.
    """
    import onnx

    graph = optimized.graph
    curve = {n for node in written if node.name.startswith(CURVE_PREFIX) for n in node.output}
    taken = [n for node in graph.node if node.output[0] in curve for n in node.input]
    ends = _Ends([i.name for i in graph.input], [*(o.name for o in graph.output), *taken])
    constants = {tensor.name for tensor in graph.initializer}
    takers: dict[str, Any] = {}
    for node in graph.node:
        for name in node.input:
            takers.setdefault(name, node)
    # All as outputs and without a type: the runtime infers it, also of operators of its own.
    del graph.output[:]
    graph.output.extend(
        onnx.ValueInfoProto(name=name) for node in graph.node for name in node.output if name
    )
    kinds = _tensor_types(optimized.SerializeToString())
    kinds |= {
        tensor.name: onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).name
        for tensor in graph.initializer
    }

    made_by = {node.name: node.output[0] for node in written if node.name}
    known = {name for node in written for name in node.output}

    def goes_to_make(node: Any) -> str:
        # What changes the layout renames tensors and, like what fuses, puts something behind the
        # names of nodes. How many tensors that concerns depends on the processor.
        while node.name not in made_by and node.output[0] not in known:
            start = longest_known(node.name, made_by, known)
            if start:
                return str(made_by.get(start, start))
            if node.output[0] not in takers:
                break
            node = takers[node.output[0]]
        return str(made_by.get(node.name, node.output[0]))

    found = []
    for node in graph.node:
        given = [name for name in node.input if name]
        # Scales, zero points and weights are constants, and say nothing of what is computed.
        data = [name for name in given if name not in constants] or given
        inputs = tuple(kinds[name] for name in data)
        outputs = tuple(kinds[name] for name in node.output if name)
        tensor = goes_to_make(node)
        boundary = ends.has(node.op_type, node.input, node.output) or tensor in curve
        if node.op_type not in BOUNDARY_OPERATORS and inputs and set(inputs) <= _QUANTIZED_TYPES:
            outputs = inputs[:1]  # some turn their integers into floats at the end
        found.append(Operator(node.op_type, inputs, outputs, boundary, tensor))
    return tuple(found)


def _tensor_types(model: bytes) -> dict[str, str]:
    """NumPy names of the types of a model's inputs and outputs."""
    session = open_session(model, optimize=False)
    values = (*session.get_inputs(), *session.get_outputs())
    return {value.name: NUMPY_NAMES.get(value.type, value.type[7:-1]) for value in values}


class _Ends:
    """Finds the operators that only change the type between a graph's ends and its inside."""

    def __init__(self, inputs: Iterable[Any], outputs: Iterable[Any]) -> None:
        self._reached, self._outputs = set(inputs), set(outputs)

    def has(self, name: str, inputs: Sequence[Any], outputs: Sequence[Any]) -> bool:
        """Whether this operator, the next in order of execution, is one of them."""
        if name not in BOUNDARY_OPERATORS:
            return False
        if inputs[0] in self._reached:
            self._reached.update(outputs)
            return True
        return outputs[0] in self._outputs


def _constants(enumeration: Any) -> list[tuple[str, int]]:
    return [(name, value) for name, value in vars(enumeration).items() if isinstance(value, int)]
