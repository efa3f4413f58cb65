from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgedf.artifact import ModelFormat, read_artifact
from edgedf.quantize.models.run import open_model
from edgedf.spec import ModelSpec
from tests.formats.stages import onnx, repaired, tflite
from tests.quantize.students import hostile, small_images


def maps(model: bytes, model_format: ModelFormat, spec: ModelSpec) -> Any:
    run = open_model(model, model_format, spec)
    return np.stack([run(image)["defocus_map"] for image in small_images()[:8]])


@pytest.mark.parametrize("model_format", ["tflite", "onnx"])
def test_equal_channels_cure_an_outlier_and_change_nothing_in_float(
    model_format: ModelFormat,
) -> None:
    parent = read_artifact(hostile(model_format)[1])
    model, spec = parent.model, parent.spec
    stage: Any = tflite if model_format == "tflite" else onnx
    wanted = maps(model, model_format, spec)
    images = small_images()[:8]
    cured = repaired(model, model_format, images, equalize=True)
    assert np.abs(maps(cured, model_format, spec) - wanted).max() < 1e-3
    errors = [
        np.abs(maps(stage.to_int8(made, images), model_format, spec) - wanted).mean()
        for made in (model, cured)
    ]
    assert errors[1] < errors[0] / 2
    corrected = repaired(model, model_format, images, equalize=True, correct_biases=True)
    error = np.abs(maps(stage.to_int8(corrected, images), model_format, spec) - wanted).mean()
    assert error < errors[0] / 2
