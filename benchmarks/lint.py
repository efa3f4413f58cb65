"""Does the lint say of a network what a conversion makes of it? Tried on whole networks.

Each network of ``lint_networks.py`` gets random weights, is exported, and the float file is linted,
which quantizes it with ranges from four of the sample's pictures. Then it is quantized as a
conversion does it, with eight, and that file is looked at. Exit code 1 where the reports differ.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import edgedf.sample
from edgedf.artifact import ModelFormat
from edgedf.formats import REGISTRY, open_graph
from edgedf.imaging import preprocess
from edgedf.quantize.lint.report import LintReport, lint_model, lint_quantized
from edgedf.quantize.sources.export import export_network

sys.path.insert(0, str(Path(__file__).parent))

_PICTURES = 8


@dataclass(frozen=True)
class Result:
    """One network in one format."""

    network: str
    linted: LintReport
    converted: LintReport
    seconds: float

    @property
    def right(self) -> bool:
        """Whether the lint says what the conversion makes."""
        return self.linted == self.converted


def main(argv: Sequence[str] | None = None) -> int:
    from lint_networks import NETWORKS

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--only", metavar="WORD", help="networks with this in their name")
    parser.add_argument("--from", type=int, default=0, dest="start", help="skip the first networks")
    parser.add_argument("--to", choices=[*REGISTRY, "both"], default="both")
    options = parser.parse_args(argv)
    formats: list[ModelFormat] = list(REGISTRY) if options.to == "both" else [options.to]
    names = [name for name in NETWORKS if options.only is None or options.only in name]
    results = []
    for name in names[options.start :]:
        for model_format in formats:
            results.append(measure(name, model_format))
            if not options.json:
                print(_line(results[-1]), flush=True)
    if options.json:
        print(json.dumps([{**asdict(r), "right": r.right} for r in results], indent=1))
    else:
        print(f"{sum(r.right for r in results)} of {len(results)} reports right")
    return 0 if all(result.right for result in results) else 1


def measure(name: str, model_format: ModelFormat) -> Result:
    import torch
    from lint_networks import NETWORKS, SIZE

    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = open_graph(export_network(NETWORKS[name]().eval(), SIZE, model_format), model_format)
    begin = time.perf_counter()
    linted = lint_model(model)
    seconds = time.perf_counter() - begin
    pictures = [preprocess(i.path, SIZE) for i in edgedf.sample.images()[:_PICTURES]]
    converted = lint_quantized(model, model.to_int8(pictures))
    return Result(name, linted, converted, round(seconds, 2))


def _line(result: Result) -> str:
    report = result.converted
    pieces = "" if report.pieces is None else f", {report.pieces} partitions"
    line = (
        f"{'✓' if result.right else '✗'} {result.network}, {report.format}: "
        f"{'friendly' if report.friendly else 'hostile'}{pieces}, {len(report.layers)} layers, "
        f"{result.seconds} s"
    )
    if not result.right:
        linted = result.linted
        line += f"\n    linted: {linted.pieces} partitions, {len(linted.layers)} layers"
        for title, one, other in (
            ("only linted", linted, report),
            ("only converted", report, linted),
        ):
            for layer in one.layers:
                if layer not in other.layers:
                    line += f"\n    {title}: {layer.operator} {layer.name} {layer.problem}"
    return line


if __name__ == "__main__":
    sys.exit(main())
