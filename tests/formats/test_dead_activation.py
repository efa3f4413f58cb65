"""An activation that is 0 on every calibration image, as some squeeze layers are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedf.artifact import ModelFormat
from edgedf.formats.activations import never_empty
from edgedf.formats.weights import Parameters
from edgedf.quantize.models.run import open_model
from tests.formats.stages import onnx, open_weight_graph, tflite
from tests.quantize.students import small_exports, small_images


@pytest.mark.parametrize("model_format", ["tflite", "onnx"])
def test_the_int8_model_runs_and_says_what_the_float_one_says(model_format: ModelFormat) -> None:
    exports = small_exports()
    graph = open_weight_graph(exports.models[model_format], model_format)
    # The path from the picture to the map: its widening layer then gives 0 everywhere.
    made = next(
        name
        for name, conv in graph.convolutions.items()
        if conv.parameters.weights.shape == (48, 16, 1, 1)
    )
    weights, bias = graph.convolutions[made].parameters
    dead = graph.changed({made: Parameters(weights * 0, bias * 0 - 1)}).file
    spec = exports.specs[model_format]
    stage: Any = tflite if model_format == "tflite" else onnx
    small = open_model(stage.to_int8(dead, small_images()[:8]), model_format, spec)
    exact = open_model(dead, model_format, spec)
    image = small_images()[0]
    difference = np.abs(small(image)["defocus_map"] - exact(image)["defocus_map"])
    assert difference.mean() < 0.1


RANGES = st.tuples(st.floats(-10, 10), st.floats(-10, 10)).map(lambda ends: tuple(sorted(ends)))


@given(st.dictionaries(st.text(), RANGES))
def test_only_ranges_of_next_to_nothing_are_widened(ranges: Any) -> None:
    found = never_empty(ranges)
    assert list(found) == list(ranges)
    for name, (low, high) in ranges.items():
        assert found[name] == ((low, high) if max(-low, high) >= 1e-6 else (0.0, 1.0))
