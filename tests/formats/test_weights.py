from __future__ import annotations

import numpy as np
import pytest

from edgedf.artifact import ModelFormat
from edgedf.formats.weights import Parameters
from edgedf.quantize.models.run import open_model
from tests.formats.stages import open_weight_graph
from tests.quantize.students import small_exports, small_images

FORMATS: tuple[ModelFormat, ...] = ("tflite", "onnx")


@pytest.mark.parametrize("model_format", FORMATS)
def test_the_graph_has_every_convolution_of_the_student(model_format: ModelFormat) -> None:
    graph = open_weight_graph(small_exports().models[model_format], model_format)
    kinds = [step.kind for step in graph.steps]
    assert kinds.count("convolution") == len(graph.convolutions) == 58
    assert sum(conv.depthwise for conv in graph.convolutions.values()) == 19
    made = {name for step in graph.steps for name in step.made}
    assert set(graph.convolutions) <= made
    assert graph.outputs <= made
    for conv in graph.convolutions.values():
        weights, bias = conv.parameters
        assert weights.dtype == bias.dtype == np.float32
        assert weights.ndim == 4
        assert len(weights) == len(bias)
        assert not conv.depthwise or weights.shape[1] == 1


def test_both_formats_hold_the_same_weights() -> None:
    found = []
    for model_format in FORMATS:
        graph = open_weight_graph(small_exports().models[model_format], model_format)
        shapes = sorted(
            (conv.parameters.weights.shape, round(float(conv.parameters.weights.sum()), 2))
            for conv in graph.convolutions.values()
        )
        found.append(shapes)
    # The converters order operators in their own way, and TFLite pads some kernels less.
    assert len(set(found[0]) & set(found[1])) >= 50


@pytest.mark.parametrize("model_format", FORMATS)
def test_changed_weights_change_what_comes_out_and_the_same_ones_change_nothing(
    model_format: ModelFormat,
) -> None:
    exports = small_exports()
    model, spec = exports.models[model_format], exports.specs[model_format]
    graph = open_weight_graph(model, model_format)
    image = small_images()[0]
    before = open_model(model, model_format, spec)(image)
    same = graph.changed({made: conv.parameters for made, conv in graph.convolutions.items()}).file
    assert abs(len(same) - len(model)) < 30_000
    after = open_model(same, model_format, spec)(image)
    assert np.array_equal(before["defocus_map"], after["defocus_map"])
    assert np.array_equal(before["fake_logit"], after["fake_logit"])
    zeroed = {
        made: Parameters(conv.parameters.weights * 0, conv.parameters.bias)
        for made, conv in graph.convolutions.items()
    }
    constant = open_model(graph.changed(zeroed).file, model_format, spec)
    first, second = (constant(picture)["defocus_map"] for picture in small_images()[:2])
    assert np.array_equal(first, second)
    assert not np.array_equal(first, before["defocus_map"])


@pytest.mark.parametrize("model_format", FORMATS)
def test_one_weight_lands_where_it_belongs(model_format: ModelFormat) -> None:
    graph = open_weight_graph(small_exports().models[model_format], model_format)
    rng = np.random.default_rng(0)
    wanted = {
        made: Parameters(
            rng.normal(size=conv.parameters.weights.shape).astype(np.float32),
            rng.normal(size=conv.parameters.bias.shape).astype(np.float32),
        )
        for made, conv in graph.convolutions.items()
    }
    again = graph.changed(wanted).weights()
    for made, conv in again.convolutions.items():
        assert np.array_equal(conv.parameters.weights, wanted[made].weights)
        assert np.array_equal(conv.parameters.bias, wanted[made].bias)
