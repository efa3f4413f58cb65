"""What ONNX Runtime makes of a model.

A file with QuantizeLinear and DequantizeLinear says "float" everywhere; what is computed in
integers is decided by the runtime, so it is asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import onnx

from edgedf.errors import OutputError
from edgedf.files import scratch_folder
from edgedf.formats.layers import KeptLayers
from edgedf.formats.onnx.backend import NUMPY_NAMES
from edgedf.formats.onnx.executed_names import longest_known
from edgedf.formats.onnx.float_island import CURVE_PREFIX
from edgedf.formats.onnx.layers import OUTPUT_SUFFIX
from edgedf.formats.onnx.parsed import ParsedOnnx
from edgedf.formats.onnx.session import open_session
from edgedf.formats.operators import (
    BOUNDARY_OPERATORS,
    FoundKept,
    Operator,
    TypeChanges,
    float_operators,
    kept_found,
)

__all__ = ["AROUND", "FUSED", "executed_nodes", "found_kept"]

# What activations are quantized to.
_QUANTIZED_TYPES = frozenset({"uint8", "int8", "uint16", "int16"})
# Operators that the runtime never drops or moves, so that each that was kept has to be there.
_HEAVY = ("Conv", "ConvTranspose", "Gemm")
AROUND = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "ReorderInput", "ReorderOutput", "Resize", "Relu"}
    | {"Clip", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "MaxPool", "Slice"}
    | {"Gather", "DepthToSpace"}
)
"""What stands around kept layers: conversions, and what is as its input is."""

FUSED = {"FusedConv": "Conv", "FusedGemm": "Gemm", "Upsample": "Resize"}
"""What ONNX Runtime calls operators that it has fused with others or given another layout."""


def executed_nodes(model: ParsedOnnx) -> tuple[tuple[str, Operator], ...]:
    """What ONNX Runtime makes of a model on this machine's CPU, after fusing.

    A convolution between DequantizeLinear and QuantizeLinear becomes one ``QLinearConv``. One that
    stays a ``Conv`` is computed in float, whatever the file looks like.

    What the runtime leaves as it is keeps the name that it has in the file; what it fuses gets
    another one.

    Args:
        model: The model.

    Returns:
        The operators of the optimized graph with their types, each with the name of its node.

    Raises:
        OutputError: The folder for temporary files is full.
    """
    with scratch_folder() as folder:
        path = folder / "optimized.onnx"
        try:
            open_session(model.file, optimized_model=path)
            optimized = onnx.load(str(path))
        except Exception as error:  # its exception types share no base but Exception
            raise OutputError(
                f"ONNX Runtime cannot write its optimized graph into {folder}: "
                f"{str(error).partition(chr(10))[0]}.",
                expected="free space in the folder for temporary files",
                next_step="free some space, or set TMPDIR to another folder",
            ) from error
    names = [node.name for node in optimized.graph.node]
    return tuple(zip(names, _typed(optimized, model.proto.graph.node)))


def found_kept(operators: Sequence[Operator], kept: KeptLayers) -> FoundKept:
    """Compare what was to be kept with what is computed.

    ONNX Runtime fuses, splits and renames operators, so each is told by the tensor that it makes.

    Args:
        operators: Those that ONNX Runtime executes.
        kept: What was to be kept.
    """
    is_asked = bool(kept.layers)
    # ONNX Runtime computes 16 bits in float, between conversions.
    wanted = kept.operators("fp32") + kept.operators("int8-a16")
    asked = kept.tensors("fp32") | kept.tensors("int8-a16")
    tolerated = AROUND if is_asked else frozenset[str]()
    found = [(FUSED.get(op.name, op.name), op.tensor) for op in float_operators(operators)]
    found = [(name, tensor.removesuffix(OUTPUT_SUFFIX)) for name, tensor in found]
    misplaced = {n for n, tensor in found if n not in tolerated and tensor not in asked}
    seen = Counter(name for name, _ in found)
    made = {tensor for name, tensor in found if name not in BOUNDARY_OPERATORS}
    missing = {
        name
        for layers in kept.layers.values()
        for layer in layers
        for name in layer.operators
        if name in _HEAVY and seen[name] < wanted[name] and made.isdisjoint(layer.tensors)
    }
    return kept_found(seen, misplaced, missing, is_asked)


def _typed(optimized: Any, written: Sequence[Any]) -> tuple[Operator, ...]:
    """The operators of an optimized graph, with the types that the runtime gives their tensors.

    Args:
        optimized: A model as the runtime wrote it; its outputs are replaced.
        written: The nodes of the file that it was made from.
    """
    graph = optimized.graph
    curve = {n for node in written if node.name.startswith(CURVE_PREFIX) for n in node.output}
    taken = [n for node in graph.node if node.output[0] in curve for n in node.input]
    ends = TypeChanges([i.name for i in graph.input], [*(o.name for o in graph.output), *taken])
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
