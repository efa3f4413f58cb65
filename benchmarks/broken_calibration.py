"""Broken calibrations, and who notices: the calibration audit and the accuracy gate.

Three int8 versions of the shipped student, as .tflite:

good
    Calibrated with the default: 32 images of the shipped sample, smallest and largest value.
dark
    Calibrated with ten of these images, forty times as dark.
moving average
    The 32 images and the default of ai-edge-quantizer: a moving average of each image's smallest
    and largest value with a factor of 0.95, for the logit as well.

The audit holds each version's ranges against images that it was not calibrated with; the gate
compares its verdicts and maps with those of the float student.

    python benchmarks/broken_calibration.py [--data DIR] [--limit N] [--json]

Without --data both use the shipped sample, which is too small for the gate to let anything through.
Exit code 0: audit and gate object to the broken ones and not to the good one; 1: they do not.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedf import typed_json
from edgedf.artifact import read_artifact
from edgedf.cli._console import StepProgress, quiet_natives
from edgedf.cli._pictures import compared_pictures
from edgedf.errors import EdgedfError
from edgedf.formats import format_named, open_graph
from edgedf.formats.activations import Range, used_ranges
from edgedf.machine import available_cores
from edgedf.progress import Progress
from edgedf.quantize.accuracy.verify import Gate, Verification, verify_pair
from edgedf.quantize.accuracy.wording import headline
from edgedf.quantize.calibration.audit import CalibrationAudit, audit_calibration
from edgedf.quantize.calibration.candidates import sample_candidates
from edgedf.quantize.calibration.coverage import coverage
from edgedf.quantize.calibration.image_facts import facts_of
from edgedf.quantize.calibration.images import CalibrationSet, choose_images
from edgedf.quantize.layer_error.opening import MAX_PICTURES, choose_pictures
from edgedf.quantize.models.pair import Model, Pair
from edgedf.quantize.models.run import open_model
from edgedf.quantize.sources.describe import describe_converted
from edgedf.runtime.models import shipped_model
from edgedf.spec import INPUT_NAME, ModelSpec

DARK_IMAGES, DARKER = 10, 40


@dataclass(frozen=True, eq=False)
class Case:
    """One calibration, and what was said of it."""

    name: str
    audit: CalibrationAudit
    gate: Verification

    @property
    def as_expected(self) -> bool:
        """Whether audit and gate both say what is true."""
        is_good = self.name == "good"
        return (self.audit.worst == "error") != is_good and (self.gate.verdict == "fail") != is_good


def library_default(
    model: bytes, images: Sequence[NDArray[np.uint8]]
) -> tuple[bytes, dict[str, Range]]:
    """What ai-edge-quantizer makes of a model by itself, and the ranges that it used."""
    from ai_edge_quantizer import quantizer, recipe

    rules = recipe.static_wi8_ai8()
    rules.append({"regex": ".*", "operation": "OUTPUT", "algorithm_key": "no_quantize"})
    tool = quantizer.Quantizer(model, rules)
    data = {_signature(model): [{INPUT_NAME: image[np.newaxis]} for image in images]}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*experimental_preserve_all_tensors.*")
        found: Mapping[str, Any] = tool.calibrate(data)
        quiet = {"enable_progress_bar": False, "enable_progress_report": False}
        made = bytes(tool.quantize(found, **quiet).quantized_model)
    ranges = {n: (float(np.min(q["min"])), float(np.max(q["max"]))) for n, q in found.items() if q}
    return made, ranges


def _signature(model: bytes) -> str:
    from ai_edge_litert.interpreter import Interpreter

    (name,) = Interpreter(model_content=model).get_signature_list()
    return str(name)


def measure(data: Path | None, limit: int | None, progress: Progress) -> list[Case]:
    artifact = read_artifact(shipped_model("tflite"))
    model, spec = artifact.model, artifact.spec
    size = spec.input.height
    chosen = choose_images(sample_candidates(), samples=32, size=size, progress=progress)
    chosen_pictures = compared_pictures(data, "auto", None, (), progress)
    pictures, split = chosen_pictures.pictures, chosen_pictures.split
    if limit is not None:
        pictures = random.Random(0).sample(list(pictures), min(limit, len(pictures)))
    seen = chosen.held_out[:MAX_PICTURES]
    if data is not None:
        seen = choose_pictures(pictures, size, progress=progress)
    title = "the shipped sample" if data is None else str(data)
    gate = Gate(pictures, data=title, split=split)
    graph = open_graph(model, "tflite")
    shown, fixed = graph.activations(), graph.fixed_ranges()
    float_model = Model.from_run(
        "float", spec, open_model(model, "tflite", spec, threads=available_cores())
    )
    cases = []
    for name in ("good", "dark", "moving average"):
        facts, images = chosen.facts, chosen.calibration
        if name == "dark":
            images = tuple(image // DARKER for image in images[:DARK_IMAGES])
            facts = tuple(
                facts_of(fact.path, fact.label, fact.path.read_bytes(), image)
                for fact, image in zip(facts, images, strict=False)
            )
        if name == "moving average":
            made, ranges = library_default(model, images)
            kept: Mapping[str, Range] = {}
        else:
            ranges, kept = used_ranges(graph, images, progress=progress), fixed
            made = graph.to_int8(images, ranges=ranges).file
        covered = coverage(shown, ranges, seen, fixed=kept, progress=progress)
        pair = Pair(_opened(name, made, spec, chosen), float_model)
        cases.append(
            Case(
                name,
                audit_calibration(facts, size, {"tflite": covered}, len(seen)),
                verify_pair(pair, gate, worst=0, progress=progress),
            )
        )
    return cases


def _opened(name: str, made: bytes, parent: ModelSpec, images: CalibrationSet) -> Model:
    spec = describe_converted(
        parent,
        format_named("tflite"),
        "int8",
        quantization=open_graph(made, "tflite").output_quantization(),
        calibration=images.summary,
    )
    return Model.from_run(
        f"int8, {name}", spec, open_model(made, "tflite", spec, threads=available_cores())
    )


def print_cases(cases: Sequence[Case]) -> None:
    for case in cases:
        gate, audit = case.gate, case.audit
        seen = gate.measurements
        print(f"\n{case.name}")
        for finding in audit.findings:
            print(f"  audit, {finding.severity}: {finding.message}")
        if not audit.findings:
            print("  audit: nothing found")
        print(f"  gate on {gate.data}, {seen.pictures} pictures: {gate.verdict}. {headline(gate)}")
        if seen.auc is not None:
            auc = seen.auc
            print(f"    AUC {auc.first.value:.4f} -> {auc.second.value:.4f}")
        print(f"    flipped verdicts {seen.flips.value:.2%}")
        print(f"    map error {seen.map_error.value / seen.map_range:.2%} of the maps' range")
        print("  as expected" if case.as_expected else "  NOT as expected")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="labelled pictures for the gate")
    parser.add_argument("--limit", type=int, metavar="N", help="this many of them")
    parser.add_argument("--json", action="store_true", help="one JSON document")
    options = parser.parse_args(argv)
    try:
        with quiet_natives(), StepProgress() as progress:
            cases = measure(options.data, options.limit, progress)
    except EdgedfError as error:
        print(error, file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps([_document(case) for case in cases], indent=1))
    else:
        print_cases(cases)
    return 0 if all(case.as_expected for case in cases) else 1


def _document(case: Case) -> dict[str, Any]:
    return {
        "case": case.name,
        "audit": typed_json.encode(case.audit),
        "gate": typed_json.encode(case.gate),
        "as_expected": case.as_expected,
    }


if __name__ == "__main__":
    sys.exit(main())
