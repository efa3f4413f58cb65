"""Is the lint right? Whole networks that its rules were not written with, predicted and then made.

Each network of ``lint_networks.py`` gets random weights, is exported, and the float file is linted.
Then it is quantized for real, and what came of it is counted: layers in float, layers that XNNPACK
leaves to the interpreter, and pieces for TFLite; operators that ONNX Runtime computes in float for
ONNX. Exit code 1 where a prediction differs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from edgedf.artifact import ModelFormat
from edgedf.formats.onnx import quantizer as onnx
from edgedf.formats.tflite import quantizer as tflite
from edgedf.quantize.inspection.operators import (
    executed_operators,
    list_operators,
    xnnpack_partitions,
)
from edgedf.quantize.lint.graph import tflite_graph
from edgedf.quantize.lint.report import lint_model
from edgedf.quantize.sources.export import export_network

sys.path.insert(0, str(Path(__file__).parent))

_CONVERSIONS = ("QUANTIZE", "DEQUANTIZE", "QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class Result:
    """One network in one format."""

    network: str
    format: str
    friendly: bool
    friendly_predicted: bool
    pieces: int | None
    pieces_predicted: int | None
    layers: int
    only_predicted: list[str]
    only_found: list[str]

    @property
    def right(self) -> bool:
        """Whether the prediction holds in all of this."""
        return (
            self.friendly == self.friendly_predicted
            and self.pieces == self.pieces_predicted
            and not self.only_predicted
            and not self.only_found
        )


def main(argv: Sequence[str] | None = None) -> int:
    from lint_networks import NETWORKS

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--only", metavar="WORD", help="networks with this in their name")
    parser.add_argument("--from", type=int, default=0, dest="start", help="skip the first networks")
    parser.add_argument("--to", choices=["tflite", "onnx", "both"], default="both")
    options = parser.parse_args(argv)
    formats: list[ModelFormat] = ["tflite", "onnx"] if options.to == "both" else [options.to]
    names = [name for name in NETWORKS if options.only is None or options.only in name]
    names = names[options.start :]
    results = []
    for name in names:
        for model_format in formats:
            results.append(measure(name, model_format))
            if not options.json:
                print(_line(results[-1]), flush=True)
    if options.json:
        print(json.dumps([{**asdict(r), "right": r.right} for r in results], indent=1))
    else:
        print(f"{sum(r.right for r in results)} of {len(results)} predictions right")
    return 0 if all(result.right for result in results) else 1


def measure(name: str, model_format: ModelFormat) -> Result:
    import torch
    from lint_networks import NETWORKS, SIZE

    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = export_network(NETWORKS[name]().eval(), SIZE, model_format)
    predicted = lint_model(model, model_format)
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (SIZE, SIZE, 3), np.uint8) for _ in range(4)]
    pieces: int | None = None
    if model_format == "tflite":
        small = tflite.to_int8(model, images)
        found, pieces = tflite_layers(small)
        expected = Counter(
            f"{x.operator} {x.name.split('#')[0]} {x.problem}" for x in predicted.layers
        )
    else:
        # ONNX Runtime renames what it changes the layout of, so that only operators compare.
        found = onnx_layers(onnx.to_int8(model, images))
        expected = Counter(x.operator for x in predicted.layers)
    tolerated = sum(layer.tolerated for layer in predicted.layers)
    return Result(
        name,
        model_format,
        found.total() == tolerated,
        predicted.friendly,
        pieces,
        predicted.pieces,
        found.total(),
        sorted((expected - found).elements()),
        sorted((found - expected).elements()),
    )


def tflite_layers(model: bytes) -> tuple[Counter[str], int]:
    """Layers of an int8 file that are float or not taken by XNNPACK, and its pieces."""
    pieces = xnnpack_partitions(model)
    taken = {index for piece in pieces for index in piece.operators}
    names = [node.name.split("#")[0] for node in tflite_graph(model).nodes]
    found: Counter[str] = Counter()
    for index, operator in enumerate(list_operators(model, "tflite")):
        kinds = {*operator.inputs, *operator.outputs}
        if operator.boundary or operator.name in _CONVERSIONS or not kinds & {"float32", "int8"}:
            continue
        is_float, is_left = "float32" in kinds, index not in taken
        if is_float or is_left:
            problem = "stays float" if is_float else "left to the interpreter"
            if is_float and is_left:
                problem = "float and left to the interpreter"
            found[f"{operator.name} {names[index]} {problem}"] += 1
    return found, len(pieces)


def onnx_layers(model: bytes) -> Counter[str]:
    """Operators of an int8 file that ONNX Runtime computes in float."""
    return Counter(
        operator.name
        for operator in executed_operators(model)
        if not operator.boundary
        and operator.name not in _CONVERSIONS
        and "float32" in (*operator.inputs, *operator.outputs)
    )


def _line(result: Result) -> str:
    mark = "✓" if result.right else "✗"
    verdicts = [
        ("friendly" if v else "hostile") for v in (result.friendly, result.friendly_predicted)
    ]
    pieces = (
        "" if result.pieces is None else f", pieces {result.pieces} ({result.pieces_predicted})"
    )
    line = (
        f"{mark} {result.network}, {result.format}: {verdicts[0]} (predicted {verdicts[1]})"
        f"{pieces}, {result.layers} layers"
    )
    for title, names in (
        ("only predicted", result.only_predicted),
        ("only found", result.only_found),
    ):
        if names:
            line += f"\n    {title}: {', '.join(names)}"
    return line


if __name__ == "__main__":
    sys.exit(main())
