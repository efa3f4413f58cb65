"""Does every precision say on other processors what the float model says here?

The shipped student in every precision and both formats, on the processors of
``tests/processors/machines.py``: this one, this one with instructions hidden, and those that qemu
emulates. What each says is held against the float model of the same format on this machine, run on
the pictures of the shipped sample. Exit code 1 where a correlation of logits is below 0.99.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import edgedf
import edgedf.sample
from edgedf.artifact import ModelFormat, read_artifact
from edgedf.cli._console import quiet_natives
from edgedf.errors import EdgedfError
from edgedf.formats import REGISTRY as FORMATS
from edgedf.imaging import preprocess
from edgedf.precision import PRECISIONS, PrecisionName
from edgedf.quantize.recipe import check_available
from edgedf.runtime.models import shipped_model

sys.path.insert(0, str(Path(__file__).parents[1]))

_LEAST = 0.99
_SECONDS = 4 * 3600


@dataclass(frozen=True)
class Result:
    """One file on one processor against float on this one.

    ``kernels`` is what edgedf finds of ONNX Runtime's int8 there; ``correlation`` is of the logits,
    ``logit_error`` the largest, ``map_error`` the mean over all pixels in pixels of the input.
    """

    processor: str
    words: str
    format: str
    precision: str
    kernels: str
    pictures: int
    correlation: float
    logit_error: float
    map_error: float


@dataclass(frozen=True)
class Skipped:
    """A processor that cannot be had here."""

    processor: str
    reason: str


def main(argv: Sequence[str] | None = None) -> int:
    from tests.processors.machines import PROCESSORS

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    names = list(PRECISIONS)
    parser.add_argument("--processors", nargs="+", choices=PROCESSORS, default=list(PROCESSORS))
    parser.add_argument("--precisions", nargs="+", choices=names, default=names)
    parser.add_argument("--pictures", type=int, default=101, metavar="N", help="of the sample")
    parser.add_argument(
        "--emulated", type=int, default=6, metavar="N", help="likewise where qemu is slow"
    )
    parser.add_argument("--model-dir", type=Path, metavar="DIR", help="keep converted files here")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    with contextlib.ExitStack() as stack:
        folder = arguments.model_dir or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        try:
            files = converted(arguments.precisions, folder)
        except EdgedfError as error:
            parser.exit(2, f"{error}\n")
        found = list(measure(arguments.processors, files, arguments.pictures, arguments.emulated))
    results = [entry for entry in found if isinstance(entry, Result)]
    skipped = [entry for entry in found if isinstance(entry, Skipped)]
    if arguments.json:
        plain = {"results": list(map(asdict, results)), "skipped": list(map(asdict, skipped))}
        print(json.dumps(plain, indent=1))
    else:
        print(markdown(results, skipped))
    return 0 if all(result.correlation >= _LEAST for result in results) else 1


Files = Mapping[tuple[PrecisionName, ModelFormat], Path]


def converted(precisions: Sequence[PrecisionName], folder: Path) -> Files:
    """The shipped student in these precisions, as far as the formats have them."""
    files: dict[tuple[PrecisionName, ModelFormat], Path] = {}
    for precision in precisions:
        for model_format in FORMATS:
            try:
                check_available(precision, [model_format])
            except EdgedfError:
                continue
            if precision == "fp32":  # what the package carries
                files[precision, model_format] = shipped_model(model_format)
                continue
            path = folder / f"student_{precision}.{model_format}"
            if not path.is_file():
                print(f"convert to {path.name}", file=sys.stderr)
                with quiet_natives():
                    edgedf.convert(
                        recipe=edgedf.Recipe(precision), formats=[model_format], out=folder
                    ).raise_if_failed()
            files[precision, model_format] = path.resolve()
    return files


def measure(
    names: Sequence[str], files: Files, pictures: int, emulated: int
) -> Iterator[Result | Skipped]:
    from tests.processors.machines import start

    sample = [picture.path for picture in edgedf.sample.images()]
    side = read_artifact(shipped_model("tflite")).spec.input.height

    def images(number: int) -> NDArray[np.uint8]:
        chosen = np.linspace(0, len(sample) - 1, min(number, len(sample))).round().astype(int)
        return np.stack([preprocess(sample[index], side) for index in chosen])

    floats = [shipped_model(model_format) for model_format in FORMATS]
    wanted = {number: images(number) for number in (pictures, emulated)}
    here = {number: start("native").outputs(batch, floats) for number, batch in wanted.items()}
    for name in names:
        try:
            machine = start(name)
        except pytest.skip.Exception as reason:
            yield Skipped(name, str(reason))
            continue
        number = emulated if machine.emulated else pictures
        started = time.monotonic()
        there = machine.outputs(wanted[number], list(files.values()), timeout=_SECONDS)
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr)
        for index, (precision, model_format) in enumerate(files):
            logit, dense = there[f"{index} logit"], there[f"{index} map"]
            own = list(FORMATS).index(model_format)
            logits, maps = here[number][f"{own} logit"], here[number][f"{own} map"]
            yield Result(
                processor=name,
                words=machine.processor.words,
                format=model_format,
                precision=precision,
                kernels=str(there["kernels"]),
                pictures=len(logits),
                correlation=float(np.corrcoef(logit, logits)[0, 1]),
                logit_error=float(np.abs(logit - logits).max()),
                map_error=float(np.abs(dense - maps).mean()),
            )


def markdown(results: Sequence[Result], skipped: Sequence[Skipped]) -> str:
    """A row a processor, a column a file."""
    columns = list(dict.fromkeys((result.precision, result.format) for result in results))
    heads = [f"{precision}, {_NAMES[model_format]}" for precision, model_format in columns]
    lines = [
        f"| processor | ONNX int8 | n | {' | '.join(heads)} |",
        f"|---|---|---|{'---|' * len(columns)}",
    ]
    for name in dict.fromkeys(result.processor for result in results):
        own = [result for result in results if result.processor == name]
        by_file = {(result.precision, result.format): result for result in own}
        cells = [_cell(by_file.get(column)) for column in columns]
        head = f"{own[0].words} | {own[0].kernels} | {own[0].pictures}"
        lines.append(f"| {head} | {' | '.join(cells)} |")
    lines += [f"\nNot measured: {entry.processor}, as {entry.reason}." for entry in skipped]
    return "\n".join(lines)


_NAMES = {"tflite": "TFLite", "onnx": "ONNX"}


def _cell(result: Result | None) -> str:
    if result is None:
        return ""
    return f"{result.correlation:.4f}, {result.logit_error:.2f}, {result.map_error:.3f}"


if __name__ == "__main__":
    raise SystemExit(main())
