"""What quantization-aware training wins, for the shipped student and for one that int8 ruins.

The second is the shipped student with two channels of the first block thirty times as large, and
the weights that read them as much smaller, in float the same. Each student is converted to int8
as it is and after ``edgedf distill train --qat``, and both are compared with the float student.
Training sees the split train, chooses on val, and the figures are of test.

    python benchmarks/qat.py --data DIR --out runs/ [--steps N] [--limit N] [--json]

Needs ``edgedf[distill]``. DIR holds manifest.csv. A run that was cut off goes on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch

from edgedf.cli._console import StepProgress, quiet_natives
from edgedf.distill.datasets.dataset import read_manifest
from edgedf.distill.networks.backbones import Block
from edgedf.distill.networks.checkpoints import load_checkpoint, save_checkpoint
from edgedf.distill.networks.layers import Conv
from edgedf.distill.networks.student import Student
from edgedf.distill.qat.qat import train_qat
from edgedf.distill.settings import QatLoopSettings, QatSettings
from edgedf.errors import EdgedfError
from edgedf.evaluation import Picture
from edgedf.progress import Progress
from edgedf.quantize.accuracy.gate import Measurements
from edgedf.quantize.accuracy.verify import Gate, verify
from edgedf.quantize.conversion.convert import convert
from edgedf.runtime.models import shipped_model

FACTOR = 30.0
CHANNELS = (3, 11)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--limit", type=int, default=400, help="pictures of test, at most")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    rows: list[dict[str, Any]] = []
    try:
        pictures = test_pictures(options.data, options.limit)
        with quiet_natives(), StepProgress() as progress:
            for name, student in students(options.out).items():
                trained = trained_for_int8(
                    student, options.data, options.out / name, options.steps, progress
                )
                for how, source in (("int8", student), ("int8 after QAT", trained)):
                    folder = options.out / name / how.replace(" ", "-")
                    for row in compared(source, student, folder, pictures, progress):
                        rows.append({"student": name, "model": how, **row})
    except EdgedfError as error:
        print(error)
        return 2
    if options.json:
        print(json.dumps(rows, indent=1))
        return 0
    for row in rows:
        print(
            f"{row['student']:8s} {row['format']:7s} {row['model']:15s} "
            f"AUC drop {row['auc_drop']:+.4f}  flips {row['flips']:.4f}  "
            f"map MAE {row['map_error']:.4f} px  logit corr. {row['logit_correlation']:.4f}  "
            f"n={row['n']}"
        )
    return 0


def test_pictures(data: Path, limit: int) -> tuple[Picture, ...]:
    """Pictures of the test split, evenly spread over the manifest."""
    samples = read_manifest(data).select(split="test")
    chosen = samples[:: max(1, -(-len(samples) // limit))]
    return tuple(Picture(str(s.path), s.set, s.source, s.group, s.label) for s in chosen)


def students(out: Path) -> dict[str, Path]:
    shipped = shipped_model("tflite").with_suffix(".safetensors")
    return {"shipped": shipped, "hostile": hostile(shipped, out / "hostile.safetensors")}


def hostile(source: Path, path: Path) -> Path:
    """A student whose first block has two channels that stick out."""
    student, metadata = load_checkpoint(source)
    made = Student(replace(student.config, int8_weights=False))
    made.load_state_dict(student.state_dict())
    first, second = (cast(Block, block) for block in list(made.encoder.blocks())[:2])
    with torch.no_grad():
        for (_, ours), (_, theirs) in zip(
            made.named_modules(), student.named_modules(), strict=True
        ):
            if isinstance(ours, Conv) and isinstance(theirs, Conv):
                ours.weight.copy_(theirs.effective_weight())  # rounded, as they were used
                ours.gain.fill_(1.0)
        chosen = list(CHANNELS)
        first.project.weight[chosen] *= FACTOR
        first.project.bias[chosen] *= FACTOR
        cast(Conv, second.expand).weight[:, chosen] /= FACTOR
    return save_checkpoint(path, made, metadata)


def trained_for_int8(student: Path, data: Path, out: Path, steps: int, progress: Progress) -> Path:
    settings = QatSettings(loop=QatLoopSettings(steps=steps, batch=4))
    return train_qat(data, out, student, settings, progress=progress).checkpoint


def compared(
    source: Path, parent: Path, out: Path, pictures: Sequence[Picture], progress: Progress
) -> list[dict[str, Any]]:
    """Both formats of a student in int8 against the float student."""
    report = convert(source, out=out, keep_failing=True, progress=progress)
    rows = []
    for model in report.models:
        found = verify(model.path, Gate(pictures), against=parent, progress=progress).measurements
        rows.append(
            {
                "format": model.format,
                "method": report.calibration.method if report.calibration else None,
                "agrees": report.passed,
                **measured(found),
            }
        )
    return rows


def measured(found: Measurements) -> dict[str, Any]:
    return {
        "n": found.pictures,
        "auc_drop": None if found.auc is None else found.auc.drop.value,
        "flips": found.flips.value,
        "changed": found.changed,
        "logit_error": found.logit.mean_abs,
        "logit_correlation": found.logit.correlation,
        "map_error": found.map_error.value,
        "map_correlation": found.map.correlation,
    }


if __name__ == "__main__":
    raise SystemExit(main())
