from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from edgedf.artifact import ModelFormat
from edgedf.formats import open_backend
from edgedf.formats.activations import measured_ranges
from tests.formats.stages import onnx, tflite
from tests.quantize.students import small_exports, small_images

STAGES: dict[ModelFormat, Any] = {"tflite": tflite, "onnx": onnx}


@pytest.mark.parametrize("model_format", ["tflite", "onnx"])
def test_the_outputs_are_among_the_activations_with_the_values_of_the_runtime(
    model_format: ModelFormat,
) -> None:
    model = small_exports().models[model_format]
    shown = STAGES[model_format].activations(model)
    backend = open_backend(model, model_format)
    for image in small_images()[:3]:
        values = shown.values(image)
        assert tuple(values) == shown.names
        _, dense = backend.run(image)
        np.testing.assert_allclose(values[shown.names[-1]].ravel(), dense.ravel(), atol=1e-4)


@pytest.mark.parametrize("model_format", ["tflite", "onnx"])
def test_what_is_moved_stays_within_what_it_is_moved_from(model_format: ModelFormat) -> None:
    shown = STAGES[model_format].activations(small_exports().models[model_format])
    found = measured_ranges(shown, small_images()[:4])
    assert len(shown.moved) >= 3  # two upsamplings and the logit's reshape
    for name, source in shown.moved.items():
        assert found[source][0] - 1e-5 <= found[name][0] <= found[name][1]
        assert found[name][1] <= found[source][1] + 1e-5


def test_the_same_layers_have_the_same_ranges_in_both_formats() -> None:
    spans = []
    for model_format in ("tflite", "onnx"):
        shown = STAGES[model_format].activations(small_exports().models[model_format])
        spans.append(measured_ranges(shown, small_images()[:4])[shown.names[-1]])
    assert spans[0] == pytest.approx(spans[1], abs=1e-3)


def test_not_a_number_is_passed_over() -> None:
    class Broken:
        names = ("some", "none")
        moved: Mapping[str, str] = MappingProxyType({})

        def values(self, image: Any) -> dict[str, np.ndarray]:
            some = np.array([np.nan, -1.0, 2.0], np.float32)
            return {"some": some, "none": np.full(2, np.nan, np.float32)}

    found = measured_ranges(Broken(), small_images()[:1])
    assert found == {"some": (-1.0, 2.0), "none": (0.0, 0.0)}
