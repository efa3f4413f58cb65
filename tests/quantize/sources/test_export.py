import contextlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from edgedf.artifact import ModelFormat, read_artifact
from edgedf.distill.networks.checkpoints import load_checkpoint
from edgedf.files import sha256_of
from edgedf.formats import open_backend
from edgedf.quantize.sources import export
from edgedf.spec import check_tensors
from tests.quantize.students import (
    METADATA,
    SMALL,
    small_checkpoint,
    small_exports,
    small_images,
    small_int8,
    small_model,
)

FORMATS: tuple[ModelFormat, ...] = ("tflite", "onnx")


def differences(first: bytes, kind: ModelFormat, second: bytes, other: ModelFormat) -> float:
    """Largest difference of any output on the photographs."""
    one, two = open_backend(first, kind), open_backend(second, other)
    found = []
    for image in small_images():
        (logit, dense), (other_logit, other_dense) = one.run(image), two.run(image)
        found += [abs(logit - other_logit), float(np.abs(dense - other_dense).max())]
    return max(found)


@pytest.mark.parametrize("model_format", FORMATS)
def test_an_export_says_what_torch_says(model_format: ModelFormat) -> None:
    exported = small_exports()
    backend = open_backend(exported.models[model_format], model_format)
    for image in small_images():
        wanted = exported.torch_run(image)
        logit, dense = backend.run(image)
        assert logit == pytest.approx(float(wanted["fake_logit"][0]), abs=1e-4)
        np.testing.assert_allclose(dense, wanted["defocus_map"], atol=1e-4)


def test_torch_runs_the_student_of_the_checkpoint() -> None:
    student, _ = load_checkpoint(small_checkpoint())
    image = small_images()[0]
    with torch.no_grad():
        wanted = student(torch.from_numpy(image).permute(2, 0, 1)[None].float())
    found = small_exports().torch_run(image)
    assert float(found["fake_logit"][0]) == pytest.approx(float(wanted.fake_logit), abs=1e-3)
    np.testing.assert_allclose(found["defocus_map"], wanted.defocus_map[0, 0], atol=1e-3)


def test_the_two_formats_agree_as_well_as_either_does_with_torch() -> None:
    models = small_exports().models
    assert differences(models["tflite"], "tflite", models["onnx"], "onnx") < 1e-4


def test_the_two_int8_models_agree_better_than_either_does_with_the_float_one() -> None:
    between = differences(small_int8("tflite"), "tflite", small_int8("onnx"), "onnx")
    for kind in FORMATS:
        assert between < differences(small_int8(kind), kind, small_exports().models[kind], kind)


@pytest.mark.parametrize("model_format", FORMATS)
def test_the_spec_inside_is_complete(model_format: ModelFormat) -> None:
    spec = read_artifact(small_model(model_format)).spec
    assert spec == small_exports().specs[model_format]
    assert spec.parent_sha256 == sha256_of(small_checkpoint())
    assert (spec.name, spec.version) == (METADATA["name"], METADATA["version"])
    assert spec.licence == METADATA["licence"]
    assert spec.precision == "fp32"
    assert spec.calibration is None
    assert spec.input.height == spec.input.width == SMALL
    assert spec.tools["torch"] == torch.__version__.partition("+")[0]
    backend = open_backend(small_exports().models[model_format], model_format)
    check_tensors(spec, backend.inputs, backend.outputs)


def test_a_second_export_gives_the_same_bytes(tmp_path: Path) -> None:
    copy = shutil.copy(small_checkpoint(), tmp_path / "other name.safetensors")
    again = export.export_checkpoint(copy, ["onnx"])
    assert again.models["onnx"] == small_exports().models["onnx"]


def test_the_exporters_are_silenced_and_the_switches_put_back() -> None:
    with contextlib.ExitStack() as stack:
        stack.enter_context(export._quiet())
        assert os.environ["LITERT_TORCH_SHOW_PROGRESS"] == "n"
    assert "LITERT_TORCH_SHOW_PROGRESS" not in os.environ
