"""Operators of an ``.onnx`` model, from ONNX Runtime's own profile.

The profile is a JSON file that the runtime writes as it goes (trace event format): one entry per
node and inference with the node's name, operator, execution provider, the types of its inputs and
outputs, and its duration in whole microseconds, rounded down. What is listed is what is executed,
the optimized graph: a convolution with its DequantizeLinear and QuantizeLinear is one
``QLinearConv`` there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgedf.errors import OutputError
from edgedf.files import scratch_folder
from edgedf.formats.onnx.backend import OPTIMIZED, OnnxBackend
from edgedf.formats.onnx.container import read_onnx_nodes
from edgedf.formats.onnx.executed_names import name_executed
from edgedf.formats.timed import Operators, OperatorTime
from edgedf.formats.turns import take_turns
from edgedf.imaging import RGBImage

__all__ = ["time_onnx_operators"]

TYPE_CHANGES = frozenset({"Cast", "QuantizeLinear", "DequantizeLinear"})

_MAX_PROFILE_BYTES = 512 << 20
_OWN_PROVIDER = "CPUExecutionProvider"
_SUFFIX = "_kernel_time"
_FLOATS = frozenset({"float", "float16", "double", "bfloat16"})


@dataclass
class _Node:
    name: str
    kind: str
    provider: str
    in_float: bool
    microseconds: list[int] = field(default_factory=list)


def time_onnx_operators(
    configuration: int, model: bytes, threads: int, images: Sequence[RGBImage], queries: int
) -> Operators:
    """See :meth:`edgedf.formats.base.Format.time_operators`."""
    with scratch_folder() as folder:
        profiled = OnnxBackend(model, threads=threads, profile=folder)
        plain = OnnxBackend(model, threads=threads)
        turns = take_turns(profiled.run, plain.run, images, queries)
        entries = _read(profiled.end_profile())
        profiled.close()
        plain.close()
        executed = (folder / OPTIMIZED).read_bytes()
    nodes = _nodes(entries, turns.counted)
    in_file = read_onnx_nodes(model)
    names = name_executed(
        [(node.name, node.kind) for node in nodes], read_onnx_nodes(executed), in_file
    )
    return Operators(
        configuration,
        f"ONNX Runtime {plain.version}'s profile",
        tuple(
            OperatorTime(
                name,
                node.kind,
                sum(node.microseconds) / 1e3 / len(turns.counted),
                "" if node.provider == _OWN_PROVIDER else node.provider,
            )
            for name, node in zip(names, nodes)
        ),
        len(in_file),
        turns.inference_ms,
        turns.plain_ms,
        in_float=tuple(node.kind for node in nodes if node.in_float),
    )


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        size = path.stat().st_size
        if size > _MAX_PROFILE_BYTES:
            raise ValueError(f"it has {size / 1e6:.0f} MB")
        entries = json.loads(path.read_bytes())
        if not isinstance(entries, list):
            raise ValueError("it is no list")
    except (OSError, ValueError) as error:
        raise OutputError(
            f"ONNX Runtime's profile cannot be read: {error}.",
            expected=f"a complete file below {_MAX_PROFILE_BYTES / 1e6:.0f} MB",
            next_step="free space in the folder for temporary files, or ask for fewer inferences",
        ) from error
    return [entry for entry in entries if isinstance(entry, dict)]


def _nodes(entries: Sequence[dict[str, Any]], counted: Sequence[int]) -> list[_Node]:
    """The graph's nodes in order of execution, with the times of the inferences that count."""
    starts = np.sort(
        [
            entry["ts"]
            for entry in entries
            if entry.get("cat") == "Session" and entry.get("name") == "model_run"
        ]
    )
    wanted = set(counted)
    nodes: dict[tuple[str, str], _Node] = {}
    for entry in sorted(entries, key=lambda entry: int(entry.get("ts", 0))):
        name = str(entry.get("name", ""))
        if entry.get("cat") != "Node" or not name.endswith(_SUFFIX):
            continue
        inference = int(np.searchsorted(starts, entry["ts"], "right")) - 1
        if inference not in wanted:
            continue
        about = entry["args"]
        key = name, about["node_index"]
        if key not in nodes:
            nodes[key] = _node(name[: -len(_SUFFIX)], about)
        nodes[key].microseconds.append(entry["dur"])
    return list(nodes.values())


def _node(name: str, about: dict[str, Any]) -> _Node:
    kind = str(about["op_name"])
    # Scales are float in every integer operator; the data come first.
    data = (*about["input_type_shape"][:1], *about["output_type_shape"])
    in_float = kind not in TYPE_CHANGES and any(_FLOATS & set(value) for value in data)
    return _Node(name, kind, str(about["provider"]), in_float)
