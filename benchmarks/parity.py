"""What int8 costs on many images that calibration never saw.

The shipped student is converted to int8 with its defaults (calibrated on the shipped sample), then
both formats run on the images of a folder against the float student and against torch. With a
manifest.csv in the folder the AUC of float and int8 by set is given as well.

    python benchmarks/parity.py --data DIR [--split test] [--limit N] [--json]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import edgedf
from edgedf import typed_json
from edgedf.artifact import read_artifact
from edgedf.cli._console import StepProgress, quiet_natives
from edgedf.distill.datasets.dataset import read_manifest
from edgedf.distill.networks.checkpoints import load_checkpoint
from edgedf.distill.networks.deployable import Deployable
from edgedf.errors import EdgedfError
from edgedf.formats import REGISTRY as FORMATS
from edgedf.imaging import preprocess
from edgedf.metrics import auc_with_interval
from edgedf.precision import PRECISIONS
from edgedf.quantize.accuracy.parity import Comparison, compare, run_on
from edgedf.quantize.models.run import Outputs, Run, as_outputs, open_model
from edgedf.runtime.folder import find_images
from edgedf.runtime.models import shipped_model


@dataclass(frozen=True, eq=False)
class Images:
    """Prepared images; set, label and group are known where there is a manifest."""

    pixels: list[NDArray[np.uint8]]
    sets: list[str]
    labels: list[float]
    groups: list[str]


def read_images(folder: Path, split: str, limit: int | None) -> Images:
    if (folder / "manifest.csv").is_file():
        samples = [s for s in read_manifest(folder).samples if s.split == split]
        rows = [(str(s.path), s.set, float(s.label == "fake"), s.group) for s in samples]
    else:
        paths = [path for path in find_images(folder) if isinstance(path, str)]
        rows = [(path, "", float("nan"), path) for path in paths]
    rows = rows[:limit]
    size = read_artifact(shipped_model("tflite")).spec.input.height
    with StepProgress() as progress:
        pixels = []
        for index, row in enumerate(rows, 1):
            pixels.append(preprocess(row[0], size))
            progress("read images", index, len(rows))
    return Images(pixels, [r[1] for r in rows], [r[2] for r in rows], [r[3] for r in rows])


def run_torch() -> Run:
    checkpoint = shipped_model("tflite").with_suffix(".safetensors")
    network = Deployable(load_checkpoint(checkpoint)[0])

    def run(image: NDArray[np.uint8]) -> Outputs:
        with torch.inference_mode():
            logit, dense = network(torch.from_numpy(image).permute(2, 0, 1)[None].float())
        return as_outputs(float(logit), dense[0, 0].numpy())

    return run


def aucs(outputs: dict[str, list[Outputs]], images: Images) -> list[dict[str, Any]]:
    labels, sets, groups = (np.array(x) for x in (images.labels, images.sets, images.groups))
    rows: list[dict[str, Any]] = []
    for name in sorted(set(images.sets)):
        chosen = np.flatnonzero(sets == name)
        if len(set(labels[chosen].tolist())) < 2:
            continue
        for model, found in outputs.items():
            logits = np.array([float(found[i]["fake_logit"][0]) for i in chosen])
            figure = auc_with_interval(labels[chosen], logits, groups[chosen].tolist())
            rows.append({"set": name, "model": model, **typed_json.encode(figure)})
    return rows


def measure(images: Images) -> tuple[list[Comparison], list[dict[str, Any]]]:
    outputs: dict[str, list[Outputs]] = {}
    with tempfile.TemporaryDirectory(prefix="edgedf-") as out, StepProgress() as progress:
        with quiet_natives():
            report = edgedf.convert(out=out)
        report.raise_if_failed()
        outputs["torch"] = run_on(run_torch(), images.pixels, step="torch", progress=progress)
        for name in FORMATS:
            (int8,) = (m.path for m in report.models if m.format == name)
            for precision, path in (("fp32", shipped_model(name)), ("int8", int8)):
                artifact = read_artifact(path)
                with quiet_natives():
                    run = open_model(artifact.model, name, artifact.spec)
                step = f"{name} {precision}"
                outputs[step] = run_on(run, images.pixels, step=step, progress=progress)
    pairs = [(f"{n} int8", f"{n} fp32") for n in FORMATS]
    pairs += [(f"{n} {p}", "torch") for n in FORMATS for p in ("fp32", "int8")]
    pairs.append(("tflite int8", "onnx int8"))
    threshold = read_artifact(shipped_model("tflite")).spec.threshold
    comparisons = [
        compare(
            one,
            outputs[one],
            other,
            outputs[other],
            images="given",
            threshold=threshold,
            tolerance=PRECISIONS["fp32" if "fp32" in one else "int8"].tolerance,
        )
        for one, other in pairs
    ]
    return comparisons, aucs(outputs, images)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--split", default="test", help="of the manifest, if there is one")
    parser.add_argument("--limit", type=int, metavar="N", help="at most N images")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    try:
        comparisons, figures = measure(
            read_images(arguments.data, arguments.split, arguments.limit)
        )
    except EdgedfError as error:
        parser.exit(2, f"{error}\n")
    if arguments.json:
        plain = [typed_json.encode(comparison) for comparison in comparisons]
        print(json.dumps({"parity": plain, "auc": figures}, indent=1))
    else:
        print(f"{comparisons[0].n} images; correlation of logits, map error, verdicts that flip")
        for c in comparisons:
            logit, dense = c.outputs
            print(
                f"{'✓' if c.passed else '✗'} {c.model:12s} against {c.reference:12s} "
                f"{logit.correlation or float('nan'):.5f}  "
                f"{dense.mean_abs:.4f} px = {100 * dense.mean_relative:.2f} % of the range  "
                f"{c.verdicts.flips} flips (allowed {c.verdicts.allowed}), "
                f"{c.verdicts.changes} to or from unsure"
            )
        for row in figures:
            print(
                f"{row['set']:10s} {row['model']:12s} AUC {row['value']:.4f} "
                f"[{row['low']:.4f}, {row['high']:.4f}]  n={row['n']}"
            )
    return 0 if all(comparison.passed for comparison in comparisons) else 1


if __name__ == "__main__":
    raise SystemExit(main())
