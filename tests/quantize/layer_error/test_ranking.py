import doctest
import json
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import pytest

import edgedf.sample
from edgedf import typed_json
from edgedf.artifact import ModelFormat, read_artifact
from edgedf.errors import ConfigError
from edgedf.formats import open_backend
from edgedf.formats.layers import Answer, Layer, Seen
from edgedf.formats.onnx.container import embed as embed_onnx
from edgedf.formats.tflite.container import embed as embed_tflite
from edgedf.imaging import RGBImage
from edgedf.quantize.layer_error import ranking as module
from edgedf.quantize.layer_error.opening import Opened, choose_pictures, open_layers
from edgedf.quantize.layer_error.ranking import LayerError, LayerRanking, growth_to_outputs, rank
from edgedf.quantize.sources.description import Description
from edgedf.quantize.sources.own_onnx import adopt
from tests.formats.stages import graphs as graphs_of
from tests.formats.stages import onnx as onnx_stage
from tests.quantize.own_models import MEAN, STD, own_model, with_head
from tests.quantize.students import (
    HOSTILE,
    SMALL,
    hostile,
    shipped_int8,
    small_images,
    small_model,
)

FORMATS: tuple[ModelFormat, ...] = ("tflite", "onnx")
both_formats = pytest.mark.parametrize("model_format", FORMATS)
FILES = [str(image.path) for image in edgedf.sample.images()]


@cache
def opened(model_format: ModelFormat) -> Opened:
    return open_layers(*hostile(model_format), threads=1)


@cache
def of_hostile(model_format: ModelFormat) -> LayerRanking:
    return rank(opened(model_format), small_images()[:8], candidates=3)


@cache
def of_shipped(model_format: ModelFormat) -> LayerRanking:
    opened = open_layers(shipped_int8(model_format), threads=1)
    return rank(opened, choose_pictures(FILES[::8], opened.side), candidates=4)


def stacked(model_format: ModelFormat, tensor: str) -> dict[str, np.ndarray]:
    """All values of a tensor for all pictures."""
    found = [
        seen
        for image in small_images()[:8]
        for seen in opened(model_format).graphs.compare(image)
        if seen.layer.tensor == tensor
    ]
    return {
        name: np.stack([getattr(seen, name) for seen in found]).astype(np.float64)
        for name in ("parent", "artifact", "own")
    }


# What is found


@both_formats
def test_the_layer_that_int8_ruins_comes_first(model_format: ModelFormat) -> None:
    found = of_hostile(model_format)
    worst, second = found.layers[:2]
    assert HOSTILE[model_format] in worst.name
    assert worst.effect is not None and second.effect is not None
    assert worst.effect.largest > 10 * second.effect.largest
    # It is nearly all that is lost.
    assert found.artifact.logit == pytest.approx(worst.effect.logit, rel=0.2)
    assert found.artifact.map == pytest.approx(worst.effect.map, rel=0.2)
    # Of its size it adds little; everything behind it suffers.
    assert worst.added is not None and worst.added < 0.05
    assert worst.rounding == pytest.approx(worst.added, rel=0.01)
    assert worst.propagated > max(layer.propagated for layer in found.layers[1:])


def test_both_formats_find_the_same_in_the_same_student() -> None:
    tflite, onnx_ = (of_shipped(name) for name in FORMATS)
    for one, other in zip(tflite.layers[:2], onnx_.layers[:2], strict=True):
        assert one.effect is not None and other.effect is not None
        assert one.sqnr == pytest.approx(other.sqnr, abs=0.3)
        assert one.effect.logit == pytest.approx(other.effect.logit, rel=0.05)
        assert one.added == pytest.approx(other.added, rel=0.05)
    assert onnx_.layers[0].name == "student.encoder.stages.0.0.project"
    # All together they add up differently, as the two runtimes round differently.
    assert tflite.artifact.logit == pytest.approx(onnx_.artifact.logit, rel=0.3)
    assert tflite.artifact.map == pytest.approx(onnx_.artifact.map, rel=0.3)


@both_formats
def test_every_tensor_and_constant_of_the_shipped_student_is_matched(
    model_format: ModelFormat,
) -> None:
    found = of_shipped(model_format)
    assert (found.unmatched, found.unmatched_weights) == ((), ())
    assert found.matched == len(found.layers) == {"tflite": 79, "onnx": 81}[model_format]
    assert found.matched_weights == 116  # weights and biases of 58 convolutions
    assert sorted(layer.order for layer in found.layers) == list(range(found.matched))
    assert all(layer.quantized for layer in found.layers if layer.order > 0)
    convolutions = [layer for layer in found.layers if layer.weights]
    assert len(convolutions) == 58
    # Those that were trained as int8 are stored as they are.
    exact = [layer for layer in convolutions if layer.weights[0].sqnr is None]
    assert len(exact) > 30
    others = [layer.weights[0].sqnr for layer in convolutions if layer.weights[0].sqnr is not None]
    assert min(others) > 25


@both_formats
def test_only_the_candidates_are_measured_and_they_come_first(model_format: ModelFormat) -> None:
    found = of_hostile(model_format)
    measured = [layer.effect is not None for layer in found.layers]
    assert measured == sorted(measured, reverse=True)
    assert sum(measured) == 3
    propagated = [layer.propagated for layer in found.layers[3:]]
    assert propagated == sorted(propagated, reverse=True)
    alone = rank(opened(model_format), small_images()[:2], candidates=0)
    assert all(layer.effect is None for layer in alone.layers)
    assert HOSTILE[model_format] in alone.layers[0].name


@both_formats
def test_the_figures_are_those_of_numpy_on_the_whole(model_format: ModelFormat) -> None:
    layer = of_hostile(model_format).layers[0]
    values = stacked(model_format, layer.tensor)
    difference = values["artifact"] - values["parent"]
    own = values["artifact"] - values["own"]
    power = (values["parent"] ** 2).mean()
    assert layer.sqnr == pytest.approx(10 * np.log10(power / (difference**2).mean()))
    assert layer.added == pytest.approx(np.sqrt((own**2).mean() / power))
    assert layer.mean_abs == pytest.approx(np.abs(difference).mean())
    assert layer.max_abs == pytest.approx(np.abs(difference).max())
    assert layer.low == values["parent"].min()
    assert layer.high == values["parent"].max()
    assert layer.range_low is not None and layer.range_high is not None
    step = (layer.range_high - layer.range_low) / 255
    outside = (values["parent"] < layer.range_low - step / 2) | (
        values["parent"] > layer.range_high + step / 2
    )
    assert layer.clipped == outside.mean()


@both_formats
def test_clipped_values_are_counted(model_format: ModelFormat) -> None:
    """Pictures far brighter than any that calibrated."""
    bright = [np.full((SMALL, SMALL, 3), 255, np.uint8) - (image // 8) for image in small_images()]
    found = rank(opened(model_format), bright[:2], candidates=0)
    assert max(layer.clipped or 0.0 for layer in found.layers) > 0.01
    for layer in found.layers:
        inside = (
            layer.range_low is not None
            and layer.range_high is not None
            and layer.range_low <= layer.low
            and layer.high <= layer.range_high
        )
        assert layer.clipped == 0.0 or not inside


# What it is found with


@both_formats
def test_with_no_layer_quantized_the_parent_is_what_it_was(model_format: ModelFormat) -> None:
    parent = open_backend(hostile(model_format)[1].read_bytes(), model_format)
    answer = opened(model_format).graphs.isolated(())
    for image in small_images()[:2]:
        (logit, dense), (wanted, wanted_map) = answer(image), parent.run(image)
        assert logit == pytest.approx(wanted, abs=1e-5)
        np.testing.assert_allclose(dense, wanted_map, atol=1e-5)


@both_formats
def test_with_all_layers_quantized_it_is_the_artifact_but_for_single_steps(
    model_format: ModelFormat,
) -> None:
    small = open_layers(shipped_int8(model_format), threads=1)
    spec = read_artifact(shipped_int8(model_format)).spec
    steps = {name: spec.output(name).scale or 0.0 for name in ("fake_logit", "defocus_map")}
    answer = small.graphs.isolated({layer.tensor for layer in small.graphs.layers})
    for image in choose_pictures(FILES, small.side, limit=2):
        (logit, dense), (wanted, wanted_map) = answer(image), small.artifact(image)
        assert logit == pytest.approx(wanted, abs=2.1 * steps["fake_logit"])
        # A step in one layer may grow to one or two in the map.
        assert np.abs(dense - wanted_map).mean() < 2 * steps["defocus_map"]


@both_formats
def test_the_tensors_are_those_that_the_models_compute(model_format: ModelFormat) -> None:
    artifact, parent = (
        open_backend(path.read_bytes(), model_format) for path in hostile(model_format)
    )
    image = small_images()[3]
    seen = {s.layer.tensor: s for s in opened(model_format).graphs.compare(image)}
    name = "serving_default_defocus_map_output" if model_format == "tflite" else "defocus_map"
    np.testing.assert_allclose(seen[name].parent[0, :, :, 0], parent.run(image)[1], atol=1e-5)
    np.testing.assert_allclose(seen[name].artifact[0, :, :, 0], artifact.run(image)[1], atol=1e-5)


@both_formats
def test_a_float_model_against_itself_has_no_noise(model_format: ModelFormat) -> None:
    model = small_model(model_format).read_bytes()
    graphs = graphs_of(model, model, model_format)
    itself = open_backend(model, model_format).run
    found = rank(Opened(graphs, itself, SMALL), small_images()[:2])
    for layer in found.layers:
        assert (layer.sqnr, layer.max_abs, layer.clipped) == (None, 0.0, None)
        assert not layer.quantized
        assert layer.effect is None
        assert (layer.added or 0.0) < 1e-5
    assert (found.artifact.logit, found.artifact.map) == (0.0, 0.0)


def test_tensors_without_a_counterpart_are_counted_and_the_rest_is_compared(
    tmp_path: Path,
) -> None:
    small, full = hostile("onnx")
    artifact = read_artifact(full)
    proto = onnx.load_model_from_string(artifact.model)
    renamed = {"conv2d_6": "other", "network.student.blur.weight": "blurring"}
    for node in proto.graph.node:
        for names in (node.input, node.output):
            names[:] = [renamed.get(name, name) for name in names]
    for value in (*proto.graph.initializer, *proto.graph.value_info):
        value.name = renamed.get(value.name, value.name)
    path = tmp_path / "renamed.onnx"
    path.write_bytes(embed_onnx(proto.SerializeToString(), artifact.spec))
    found = rank(open_layers(small, path, threads=1), small_images()[:2], candidates=1)
    assert found.unmatched == ("conv2d_6",)
    assert found.unmatched_weights == ("network.student.blur.weight",)
    assert HOSTILE["onnx"] in found.layers[0].name

    small, full = hostile("tflite")
    tensor = next(e.tensor for e in of_hostile("tflite").layers if "Conv_reduce16" in e.name)
    artifact = read_artifact(full)
    other = tensor.encode().replace(b"reduce16", b"reduce61")
    assert artifact.model.count(tensor.encode()) >= 1
    path = tmp_path / "renamed.tflite"
    path.write_bytes(embed_tflite(artifact.model.replace(tensor.encode(), other), artifact.spec))
    found = rank(open_layers(small, path, threads=1), small_images()[:2], candidates=1)
    assert tensor in found.unmatched
    assert HOSTILE["tflite"] in found.layers[0].name


# Noise on its way


def with_maximum(model: onnx.ModelProto) -> None:
    """An operator that opset 18 writes in another way, and 16 bits need opset 21."""
    (node,) = (node for node in model.graph.node if node.op_type == "ReduceMean")
    node.op_type = "ReduceMax"


@pytest.mark.parametrize(
    ("bits", "options"),
    [
        (8, {"edit": with_head(("Squeeze", "<"))}),
        (16, {"edit": with_head(("Squeeze", "<"))}),
        (16, {"opset": 17, "pool": "mean", "edit": with_maximum}),
    ],
)
def test_layers_of_a_model_of_ones_own_are_compared(
    bits: Literal[8, 16], options: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "own.onnx").write_bytes(own_model(**options).SerializeToString())
    parent = adopt(tmp_path / "own.onnx", Description(mean=MEAN, std=STD)).model
    images = small_images()[:3]
    artifact = onnx_stage.to_int8(parent, images, activation_bits=bits)
    graphs = graphs_of(artifact, parent, "onnx")
    seen = list(graphs.compare(images[0]))
    assert len(seen) == len(graphs.layers) > 8
    logit, _ = graphs.isolated([layer.tensor for layer in graphs.layers])(images[0])
    assert logit == pytest.approx(open_backend(artifact, "onnx").run(images[0])[0], abs=0.1)


def test_noise_grows_along_the_worst_way_to_an_output() -> None:
    inputs = {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c"), "e": ("c",)}
    total = {"a": 0.01, "b": 0.02, "c": 0.05, "d": 0.1, "e": 0.05}
    inherited = {"a": 0.0, "b": 0.01, "c": 0.03, "d": 0.1, "e": 0.025}
    found = growth_to_outputs(inputs, total, inherited)
    assert found == {
        name: pytest.approx(factor)
        for name, factor in {"a": 6.0, "b": 2.0, "c": 2.0, "d": 1.0, "e": 1.0}.items()
    }
    assert growth_to_outputs({"a": (), "b": ("a",)}, {"a": 0, "b": 0}, {"a": 0, "b": 0})["a"] == 0


def test_one_picture_has_no_spread_of_logits() -> None:
    found = rank(opened("onnx"), small_images()[:1], candidates=1)
    effect = found.layers[0].effect
    assert effect is not None
    assert effect.logit is None
    assert effect.map is not None


# What cannot be compared


def test_a_parent_with_other_shapes_is_refused() -> None:
    layer = Layer(0, "Conv", "conv", "conv", (), None, ())

    class Odd:
        layers = (layer,)
        unmatched = unmatched_weights = ()

        def compare(self, image: RGBImage) -> Iterator[Seen]:
            yield Seen(layer, *(np.zeros(size, np.float32) for size in (4, 4, 5)))

        def isolated(self, tensors: Collection[str]) -> Answer:
            raise NotImplementedError

    with pytest.raises(ConfigError, match=r"conv has the shape \(4,\) in the artifact"):
        rank(Opened(Odd(), opened("onnx").artifact, SMALL), small_images()[:1])


# The result


@both_formats
def test_everything_survives_json(model_format: ModelFormat) -> None:
    found = of_hostile(model_format)
    text = json.dumps(typed_json.encode(found), allow_nan=False)
    assert typed_json.decode(LayerRanking, json.loads(text)) == found
    assert isinstance(found.layers[0], LayerError)


def test_progress_is_told_about_pictures_and_layers() -> None:
    steps: list[tuple[str, int, int]] = []
    rank(
        opened("onnx"),
        small_images()[:2],
        candidates=2,
        progress=lambda *step: steps.append(step),
    )
    assert steps == [
        *(("layers", n, 2) for n in (1, 2)),
        *(("effect of layers", n, 2) for n in (1, 2)),
    ]


def test_the_docstrings_examples_work() -> None:
    results = doctest.testmod(module)
    assert (results.attempted > 0, results.failed) == (True, 0)
