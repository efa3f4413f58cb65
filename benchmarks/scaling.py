"""How the cost of the int8 student grows with resolution and with batch, one thread.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --sides 192 256 320 --work build/scaling

The checkpoint is exported for each side of the input (torch, ``edgedf[export]``) and quantized with
a few pictures of the shipped sample: latency does not depend on how good the ranges are. Exports
are kept in --work. Batches are of the ONNX file, whose first dimension is set free; a TFLite file
has a batch of one: it was exported with a RESHAPE to [1, 1], and XNNPACK refuses another batch.
Every size takes turns with the first one of its runtime, so that the ratio holds on a busy machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import edgedf.sample
from edgedf.artifact import ModelFormat, read_artifact
from edgedf.cli._console import quiet_natives
from edgedf.errors import EdgedfError
from edgedf.files import write_bytes
from edgedf.formats import REGISTRY as FORMATS
from edgedf.formats import open_backend, open_graph
from edgedf.formats.onnx.session import open_session
from edgedf.imaging import RGBImage, preprocess
from edgedf.machine import this_host
from edgedf.runtime.interleaved import LEAST_ROUNDS, LatencyRatio, Turn, over, take_turns
from edgedf.runtime.models import shipped_model

_CALIBRATED_ON = 4
_SHOWN = 8
_MULTIPLE = 32  # of the encoder's strides: other sides would be padded


@dataclass(frozen=True)
class Row:
    """What a picture costs, and how many times the first row of its kind that is."""

    kind: str
    runtime: str
    side: int
    batch: int
    ms_per_picture: float
    p90_ms_per_picture: float
    us_per_1000_pixels: float
    ratio: float
    low: float
    high: float


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument(
        "--sides", type=int, nargs="+", default=[128, 192, 256, 320, 384, 512], metavar="N"
    )
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8, 16], metavar="N")
    parser.add_argument("--formats", nargs="+", default=FORMATS, choices=FORMATS)
    parser.add_argument("--rounds", type=int, default=60, help="turns of each (default: 60)")
    parser.add_argument("--work", type=Path, help="folder for exports, used again if there")
    options = parser.parse_args(argv)
    if options.rounds < LEAST_ROUNDS or min(options.batches) < 1:
        parser.error(f"--rounds must be at least {LEAST_ROUNDS} and --batches at least 1")
    if any(side < 1 or side % _MULTIPLE for side in options.sides):
        parser.error(f"--sides must be multiples of {_MULTIPLE}")
    try:
        with quiet_natives(), _folder(options.work) as folder:
            rows = [
                row for name in options.formats for row in by_side(name, folder, options)
            ] + by_batch(folder, options)
    except EdgedfError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    document = {"host": asdict(this_host()), "rows": [asdict(row) for row in rows]}
    if options.json:
        print(json.dumps(document, indent=1))
    else:
        show(document)
    return 0


def by_side(name: ModelFormat, folder: Path, options: argparse.Namespace) -> list[Row]:
    """One row per resolution, batch 1."""
    turns: dict[int, Turn] = {}
    runtime = ""
    for side in options.sides:
        backend = open_backend(_int8(folder, name, side), name, threads=1)
        runtime = f"{backend.name} {backend.version}"
        turns[side] = over(_pictures(side), backend.run)
    found = _against_first(turns, options.rounds)
    return [_row("resolution", runtime, side, 1, one) for side, one in found.items()]


def by_batch(folder: Path, options: argparse.Namespace) -> list[Row]:
    """One row per batch, ONNX Runtime at the side that the student was trained for."""
    import onnxruntime

    side = read_artifact(shipped_model("onnx")).spec.input.height
    session = open_session(_with_free_batch(_int8(folder, "onnx", side)))
    (name,) = (entry.name for entry in session.get_inputs())

    def turn(batch: int) -> Turn:
        shown = np.stack([_pictures(side)[at % _SHOWN] for at in range(batch)])
        return lambda _: session.run(None, {name: shown})

    found = _against_first({batch: turn(batch) for batch in options.batches}, options.rounds)
    runtime = f"onnxruntime {onnxruntime.__version__}"
    return [_row("batch", runtime, side, batch, one) for batch, one in found.items()]


def show(document: dict[str, Any]) -> None:
    for name, value in document["host"].items():
        print(f"{name:>13}  {value}")
    print("\nper picture, int8, one thread; ratio of whole calls to the first row of its kind")
    print("kind        runtime               side  batch    median       p90  us/1000 px   ratio")
    for row in document["rows"]:
        print(
            f"{row['kind']:<10}  {row['runtime']:<20}  {row['side']:>4}  {row['batch']:>5}  "
            f"{row['ms_per_picture']:7.2f} ms  {row['p90_ms_per_picture']:6.2f}  "
            f"{row['us_per_1000_pixels']:10.1f}  {row['ratio']:6.3f} "
            f"({row['low']:.3f} to {row['high']:.3f})"
        )


@contextlib.contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="edgedf-benchmark-") as made:
        yield Path(made)


def _pictures(side: int) -> list[RGBImage]:
    return [preprocess(image.path, side) for image in edgedf.sample.images()[:_SHOWN]]


def _int8(folder: Path, name: ModelFormat, side: int) -> bytes:
    path = folder / f"student_int8_{side}.{name}"
    if not path.is_file():
        from edgedf.distill.networks.checkpoints import load_checkpoint
        from edgedf.distill.networks.deployable import Deployable
        from edgedf.quantize.sources.export import export_network

        checkpoint = shipped_model("tflite").with_suffix(".safetensors")
        network = Deployable(load_checkpoint(checkpoint)[0]).eval()
        exported = export_network(network, side, name)
        graph = open_graph(exported, name)
        write_bytes(path, graph.to_int8(_pictures(side)[:_CALIBRATED_ON]).file)
    return path.read_bytes()


def _with_free_batch(model: bytes) -> bytes:
    """The same graph for any number of pictures at once."""
    import onnx

    proto = onnx.load_from_string(model)
    graph = proto.graph
    del graph.value_info[:]
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    shapes = {node.input[1] for node in graph.node if node.op_type == "Reshape"}
    for tensor in graph.initializer:
        if tensor.name in shapes:
            shape = onnx.numpy_helper.to_array(tensor).copy()
            if shape[0] == 1:
                shape[0] = -1
            tensor.CopyFrom(onnx.numpy_helper.from_array(shape, tensor.name))
    return bytes(proto.SerializeToString())


def _against_first(turns: dict[int, Turn], rounds: int) -> dict[int, LatencyRatio]:
    first = next(iter(turns.values()))
    return {size: take_turns(first, turn, rounds=rounds) for size, turn in turns.items()}


def _row(kind: str, runtime: str, side: int, batch: int, found: LatencyRatio) -> Row:
    each = found.second.median_ms / batch
    return Row(
        kind,
        runtime,
        side,
        batch,
        round(each, 3),
        round(found.second.p90_ms / batch, 3),
        round(each * 1e3 / (side * side / 1e3), 2),
        *(round(value, 4) for value in (found.ratio, found.low, found.high)),
    )


if __name__ == "__main__":
    sys.exit(main())
