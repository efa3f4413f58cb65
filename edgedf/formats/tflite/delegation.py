"""Which operators of a ``.tflite`` file its runtime's delegate takes over, and in how many pieces.

A delegate that takes nine tenths of the operators in thirty pieces is slower than none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgedf.errors import MissingExtra
from edgedf.formats.backend import import_runtime
from edgedf.formats.operators import Partition
from edgedf.formats.tflite.backend import RUNTIMES, installed_runtime
from edgedf.formats.tflite.container import strip

__all__ = ["Delegation", "FileOperator", "read_delegation"]

_DELEGATE = "DELEGATE"
_TYPE_CHANGES = frozenset({"CAST", "QUANTIZE", "DEQUANTIZE"})


@dataclass(frozen=True)
class FileOperator:
    """One operator of the file.

    Args:
        name: Of the tensor that it makes: operators themselves have no names in this format.
        kind: Such as ``CONV_2D``.
        in_float: Whether its data are floating point and it does more than change their type.
    """

    name: str
    kind: str
    in_float: bool


@dataclass(frozen=True)
class Delegation:
    """How the work is divided.

    Args:
        operators: All that the file has, in order of execution.
        partitions: What the delegate takes, one entry per delegate node.
    """

    operators: tuple[FileOperator, ...]
    partitions: tuple[Partition, ...]

    @property
    def left_out(self) -> tuple[str, ...]:
        """Kinds of the operators that stay with the interpreter, each as often as it occurs."""
        taken = {index for partition in self.partitions for index in partition.operators}
        return tuple(
            operator.kind for index, operator in enumerate(self.operators) if index not in taken
        )


def read_delegation(model: bytes) -> Delegation:
    """Load a ``.tflite`` as it would be run, and see what its delegate made of it.

    After delegation the interpreter has one DELEGATE node per piece. What it replaces is what
    lies between that node's inputs and its outputs in the original graph.

    Args:
        model: A ``.tflite`` file.

    Raises:
        MissingExtra: No TFLite runtime is installed.
    """
    runtime = installed_runtime()
    if runtime is None:
        raise MissingExtra("tflite", "Reading what a delegate takes over")
    interpreter = import_runtime(RUNTIMES[runtime]).Interpreter(
        model_content=strip(model), num_threads=1
    )
    interpreter.allocate_tensors()
    nodes = interpreter._get_ops_details()  # the only place where Python sees delegation
    original = [node for node in nodes if node["op_name"] != _DELEGATE]
    tensors = {int(detail["index"]): detail for detail in interpreter.get_tensor_details()}
    return Delegation(
        tuple(_operator(node, tensors) for node in original),
        tuple(_partition(node, original) for node in nodes if node["op_name"] == _DELEGATE),
    )


def _operator(node: dict[str, Any], tensors: dict[int, dict[str, Any]]) -> FileOperator:
    kind = str(node["op_name"])
    made = int(node["outputs"][0])
    data = {made, *(int(tensor) for tensor in node["inputs"][:1])}
    floats = any(tensors[t]["dtype"].__name__.startswith("float") for t in data if t in tensors)
    name = str(tensors[made]["name"]) if made in tensors else f"{kind} {node['index']}"
    return FileOperator(name, kind, floats and kind not in _TYPE_CHANGES)


def _partition(delegate: dict[str, Any], original: Sequence[dict[str, Any]]) -> Partition:
    producer = {
        int(tensor): index for index, node in enumerate(original) for tensor in node["outputs"]
    }
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
    return Partition(tuple(sorted(found)))
