from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgedf.artifact import ModelFormat, read_artifact
from edgedf.formats import open_graph
from edgedf.formats.layers import KeptLayers
from edgedf.precision import PrecisionName
from edgedf.quantize.calibration.images import CalibrationSet
from edgedf.quantize.making.make import MadeFile
from edgedf.quantize.making.proof import Originals, Proof, with_own_threshold
from edgedf.quantize.sources.source import Source
from edgedf.spec import Calibration
from tests.quantize.students import small_exports, small_images, small_int8

LABELS = ("real", "fake") * 6


def images(labels: tuple[str | None, ...] = LABELS) -> CalibrationSet:
    shown = small_images()
    return CalibrationSet(
        calibration=shown[:8],
        held_out=shown[8:12],
        labels=labels[:8],  # type: ignore[arg-type]
        held_out_labels=labels[8:],  # type: ignore[arg-type]
        skipped=(),
        summary=Calibration("minmax", 8, "0" * 64, 0),
        source="photographs",
        held_out_files=(),
        facts=(),
    )


def made(model_format: ModelFormat, precision: PrecisionName = "int8") -> MadeFile:
    parent = open_graph(small_exports().models[model_format], model_format)
    graph = open_graph(small_int8(model_format), model_format) if precision == "int8" else parent
    spec = small_exports().specs[model_format].with_changes(precision=precision)
    file = graph.format.embed(graph.file, spec)
    return MadeFile(graph, spec, file, parent, {}, KeptLayers())


def shifted(by: float) -> tuple[list[float], list[float]]:
    """Logits of an original around its thresholds, and those of a file that is off."""
    parent = np.linspace(-2.0, 2.0, 20)
    return parent.tolist(), (parent + by).tolist()


@pytest.mark.parametrize("model_format", ["tflite", "onnx"])
def test_a_file_that_is_off_gets_thresholds_of_its_own(
    model_format: ModelFormat, tmp_path: Path
) -> None:
    before = made(model_format)
    many = images(("real", "fake") * 10)
    after = with_own_threshold(before, many, shifted(-0.5))
    assert after.spec.threshold.fake_at < before.spec.threshold.fake_at
    path = tmp_path / f"own.{model_format}"
    path.write_bytes(after.file)
    spec = read_artifact(path).spec
    assert spec == after.spec
    assert spec.recalibration is not None
    assert spec.recalibration.parent == before.spec.threshold
    assert spec.recalibration.chosen.real_called_fake == (
        spec.recalibration.of_parent.real_called_fake
    )


def test_too_few_labels_and_a_float_model_change_nothing() -> None:
    few = images()
    before = made("tflite")
    logits = (shifted(0.0)[0][:12], shifted(-0.5)[1][:12])
    assert with_own_threshold(before, few, logits) is before
    exact = made("tflite", "fp32")
    assert with_own_threshold(exact, images(("real", "fake") * 10), shifted(-0.5)) is exact


def test_each_original_runs_once_and_each_file_is_held_against_its_own() -> None:
    exports, counted = small_exports(), [0]

    def run(image: np.ndarray) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
        counted[0] += 1
        return exports.torch_run(image)

    source = Source(
        "a checkpoint",
        {name: open_graph(model, name) for name, model in exports.models.items()},
        exports.specs,
        dict.fromkeys(("tflite", "onnx"), run),  # type: ignore[arg-type]
        (),
        from_checkpoint=True,
    )
    proof = Proof(Originals(source, images()))
    specs = {}
    for model_format in ("tflite", "onnx"):
        file = made(model_format)  # type: ignore[arg-type]
        proof.add(file.file, file.format, file.spec)
        specs[file.format] = file.spec
    comparisons = proof.comparisons(specs)
    assert counted == [12]
    assert [(c.model, c.images, c.n) for c in comparisons] == [
        ("tflite int8", "calibration", 8),
        ("tflite int8", "held out", 4),
        ("onnx int8", "calibration", 8),
        ("onnx int8", "held out", 4),
        ("tflite int8", "held out", 4),
    ]
    first, second = proof.logits("onnx")
    assert len(first) == len(second) == 12
    assert np.corrcoef(first, second)[0, 1] > 0.98
    assert proof.comparisons({}) == ()
