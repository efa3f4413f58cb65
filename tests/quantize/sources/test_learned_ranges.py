import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edgedf.artifact import ModelFormat, read_artifact
from edgedf.distill.networks.checkpoints import load_checkpoint, save_checkpoint
from edgedf.distill.networks.deployable import Deployable
from edgedf.distill.qat.fake_quant import FakeQuantized, activations
from edgedf.errors import CheckpointError, ConfigError
from edgedf.formats import open_backend, open_graph
from edgedf.formats.onnx import Onnx
from edgedf.quantize.accuracy.verify import Gate
from edgedf.quantize.auto.candidate import Builder
from edgedf.quantize.calibration.images import CalibrationSet
from edgedf.quantize.conversion.convert import convert
from edgedf.quantize.making.keep import Keep
from edgedf.quantize.making.proof import Originals
from edgedf.quantize.recipe import Recipe
from edgedf.quantize.sources.learned_ranges import ranges_of_tensors
from edgedf.quantize.sources.source import load_source
from edgedf.spec import Calibration
from tests.formats.stages import onnx, tflite
from tests.quantize.students import (
    photograph_folder,
    photographs,
    small_checkpoint,
    small_exports,
    small_images,
)

FORMATS: tuple[ModelFormat, ...] = ("tflite", "onnx")
STAGES: dict[ModelFormat, Any] = {"tflite": tflite, "onnx": onnx}


def batch(images: list[NDArray[np.uint8]] | tuple[NDArray[np.uint8], ...]) -> torch.Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()


def simulated() -> FakeQuantized:
    """The small student as int8 computes it, with ranges that are not what min/max would find."""
    network = FakeQuantized(load_checkpoint(small_checkpoint())[0]).eval()
    network.observe([batch(small_images())])
    with torch.no_grad():
        network.stretch.copy_(torch.linspace(-0.1, 0.1, 2 * len(network.names)).reshape(-1, 2))
    return network


def tensors(model_format: ModelFormat, network: FakeQuantized) -> dict[str, tuple[float, float]]:
    student, images = load_checkpoint(small_checkpoint())[0], small_images()[:2]
    made = [
        {name: values.numpy() for name, values in activations(student, batch([image])).items()}
        for image in images
    ]
    model = small_exports().models[model_format]
    return ranges_of_tensors(open_graph(model, model_format), images, made, network.ranges())


@pytest.mark.parametrize("model_format", FORMATS)
def test_the_simulation_is_what_the_backend_computes(model_format: ModelFormat) -> None:
    """Up to the rounding of ties where the decoder doubles the size: bilinear is exact nowhere.

    Some pictures are a step of the logit off, a few more on processors without VNNI than with it.
    """
    stage, model, network = STAGES[model_format], small_exports().models[model_format], simulated()
    made = stage.to_int8(model, small_images()[:2], ranges=tensors(model_format, network))
    backend = open_backend(made, model_format, threads=1)
    found = [backend.run(image) for image in small_images()]
    logits, maps = np.array([x for x, _ in found]), np.stack([x for _, x in found])
    with torch.no_grad():
        both = [network(batch(small_images())), small_deployable()(batch(small_images()))]
    errors = [
        (np.abs(logit[:, 0].numpy() - logits).mean(), np.abs(dense[:, 0].numpy() - maps).mean())
        for logit, dense in both
    ]
    (logit, dense), (float_logit, float_dense) = errors
    assert float_logit > 0.01
    assert logit < 0.15 * float_logit
    assert dense < 0.5 * float_dense


def small_deployable() -> torch.nn.Module:
    return Deployable(load_checkpoint(small_checkpoint())[0])


@pytest.mark.parametrize("model_format", FORMATS)
def test_each_range_finds_its_tensor(model_format: ModelFormat) -> None:
    network = simulated()
    found = tensors(model_format, network)
    assert set(found.values()) == set(network.ranges().values())
    shown = STAGES[model_format].activations(small_exports().models[model_format])
    assert set(found) <= set(shown.names)
    # The logit and the map have a second name where their shape changes.
    assert len(network.names) < len(found) <= len(network.names) + 2
    if model_format == "onnx":
        # torch numbers these two as it runs through the network.
        assert found["relu6"] == network.ranges()["student.high_pass.conv"]
        assert found["relu6_1"] == network.ranges()["student.encoder.stem"]


def test_a_range_without_a_tensor_is_refused() -> None:
    student, network = load_checkpoint(small_checkpoint())[0], simulated()
    image = small_images()[0]
    made = {name: values.numpy() for name, values in activations(student, batch([image])).items()}
    made["student.decoder.sum4"] = made["student.decoder.sum4"] + 0.1
    model = small_exports().models["onnx"]
    with pytest.raises(CheckpointError, match=r"1 of the 75 .* such as student\.decoder\.sum4"):
        ranges_of_tensors(open_graph(model, "onnx"), [image], [made], network.ranges())


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small student with ranges in its checkpoint; its export is the one that is there."""
    student, metadata = load_checkpoint(small_checkpoint())
    ranges = {name: list(ends) for name, ends in simulated().ranges().items()}
    model = open_graph(small_exports().models["onnx"], "onnx").file
    monkeypatch.setattr(Onnx, "export", lambda *_: model)
    return save_checkpoint(
        tmp_path / "trained.safetensors", student, {**metadata, "qat": {"ranges": ranges}}
    )


def test_convert_takes_learned_ranges(trained: Path, tmp_path: Path) -> None:
    report = convert(trained, formats=["onnx"], calibration=photographs(8), out=tmp_path)
    assert report.passed
    assert report.calibration is not None
    assert report.calibration.method == "qat"
    spec = read_artifact(report.models[0].path).spec
    assert spec.calibration is not None
    assert spec.calibration.method == "qat"
    learned = simulated().ranges()["student.encoder.stages.1.1.sum"]
    assert spec.calibration.ranges["add"] == pytest.approx(learned, rel=1e-6)
    json.dumps(report.to_dict())


def test_a_method_that_is_asked_for_wins(trained: Path, tmp_path: Path) -> None:
    report = convert(
        trained,
        Recipe(method="minmax"),
        formats=["onnx"],
        calibration=photographs(8),
        out=tmp_path,
    )
    spec = read_artifact(report.models[0].path).spec
    assert spec.calibration is not None
    assert spec.calibration.method == "minmax"
    learned = simulated().ranges()["student.encoder.stages.1.1.sum"]
    assert spec.calibration.ranges["add"] != pytest.approx(learned, rel=1e-6)


def test_learned_ranges_and_repairs_exclude_each_other(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="learned its ranges"):
        convert(trained, Recipe(equalize=True), formats=["onnx"], out=tmp_path)


def test_auto_measures_ranges_where_the_learned_ones_do_not_hold(trained: Path) -> None:
    shown = small_images()[:5]
    images = CalibrationSet(
        calibration=shown[:4],
        held_out=shown[4:],
        labels=(None,) * 4,
        held_out_labels=(None,),
        skipped=(),
        summary=Calibration("minmax", 4, "0" * 64, 0),
        source="photographs",
        held_out_files=(),
        facts=(),
    )
    originals = Originals(load_source(trained, ["onnx"]), images)
    gate = Gate([str(path) for path in photograph_folder().rglob("*.png")])
    builder = Builder(originals, "onnx", gate, "trained", Recipe())
    learned = simulated().ranges()["student.encoder.stages.1.1.sum"]
    methods = []
    for recipe in (
        Recipe(),
        Recipe(keep=(Keep("fp32", "decoder.*"),)),
        Recipe(method="percentile"),
        Recipe(equalize=True),
        Recipe(equalize=True, correct_biases=True),
    ):
        made = builder.build(recipe).file
        assert made.spec.calibration is not None
        methods.append(made.spec.calibration.method)
        is_learned = made.ranges["add"] == pytest.approx(learned, rel=1e-6)
        assert is_learned == (made.spec.calibration.method == "qat")
    assert methods == ["qat", "qat", "percentile", "minmax", "minmax"]
