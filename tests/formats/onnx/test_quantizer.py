from typing import Any

import numpy as np
import onnx as onnx_package
import pytest

from edgedf.errors import ArtifactUnreadable, ConfigError
from edgedf.formats import open_backend
from edgedf.formats.onnx.container import embed as embed_onnx
from edgedf.formats.onnx.parsed import without_metadata
from edgedf.spec import LOGIT_BOUND
from tests.contract.specs import make_spec
from tests.formats.stages import onnx
from tests.quantize.students import SMALL, small_exports, small_images, small_int8


def loaded(model: bytes) -> tuple[Any, dict[str, np.ndarray]]:
    """The graph and its constants."""
    graph = onnx_package.load_model_from_string(model).graph
    return graph, {t.name: onnx_package.numpy_helper.to_array(t) for t in graph.initializer}


def test_activations_are_uint8_and_weights_int8_per_channel() -> None:
    graph, constants = loaded(small_int8("onnx"))
    producers = {name: node for node in graph.node for name in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 58
    for node in convolutions:
        activation, weight = producers[node.input[0]], producers[node.input[1]]
        assert {activation.op_type, weight.op_type} == {"DequantizeLinear"}
        assert constants[activation.input[2]].dtype == np.uint8
        values, scales, zero_points = (constants[name] for name in weight.input)
        assert values.dtype == np.int8
        assert scales.shape == (values.shape[0],)
        assert not zero_points.any()


def test_a_byte_of_the_input_is_one_step() -> None:
    graph, constants = loaded(small_int8("onnx"))
    first = next(node for node in graph.node if node.op_type == "QuantizeLinear")
    assert constants[first.input[1]] == 1.0
    assert constants[first.input[2]] == 0


def test_the_ranges_are_the_largest_value_seen_and_the_bound_of_the_logit() -> None:
    behind = onnx.output_quantization(small_int8("onnx"))
    backend = open_backend(small_exports().models["onnx"], "onnx")
    largest = max(backend.run(image)[1].max() for image in small_images())
    scale, zero_point = behind["defocus_map"]
    assert scale * 255 == pytest.approx(largest, rel=0.01)
    assert zero_point == 0
    scale, zero_point = behind["fake_logit"]
    assert scale * 255 == pytest.approx(2 * LOGIT_BOUND, rel=0.01)
    assert -scale * zero_point == pytest.approx(-LOGIT_BOUND, abs=scale)


def test_no_bias_overflows() -> None:
    _, constants = loaded(small_int8("onnx"))
    biases = [values for values in constants.values() if values.dtype == np.int32]
    assert len(biases) > 30
    assert all((values > np.iinfo(np.int32).min).all() for values in biases)


def test_fp16_stores_halves_and_computes_in_float() -> None:
    model = small_exports().models["onnx"]
    halved = onnx.to_fp16(model)
    assert len(halved) < 0.6 * len(model)
    full, half = open_backend(model, "onnx"), open_backend(halved, "onnx")
    assert half.outputs == full.outputs
    for image in small_images()[:6]:
        assert half.run(image)[0] == pytest.approx(full.run(image)[0], abs=0.05)


def test_the_spec_and_traces_of_the_exporter_are_dropped() -> None:
    proto = onnx_package.load_model_from_string(embed_onnx(small_int8("onnx"), make_spec(SMALL)))
    assert proto.metadata_props
    assert not without_metadata(proto).metadata_props
    text = small_exports().models["onnx"]
    assert b"site-packages" not in text
    assert b"stack_trace" not in text


@pytest.mark.parametrize("convert", [lambda m: onnx.to_int8(m, small_images()), onnx.to_fp16])
def test_a_damaged_model_is_refused(convert: Any) -> None:
    good = small_exports().models["onnx"]
    for damaged in (good[:5000], b"\xff" * 100, b""):
        with pytest.raises(ArtifactUnreadable, match="damaged"):
            convert(damaged)


def test_every_image_is_counted() -> None:
    steps: list[tuple[str, int, int]] = []
    onnx.to_int8(
        small_exports().models["onnx"],
        small_images()[:3],
        progress=lambda *step: steps.append(step),
    )
    assert steps[-1] == ("calibrate onnx", 3, 3)
    assert [done for _, done, _ in steps] == sorted(done for _, done, _ in steps)


def test_given_ranges_win_over_measured_ones_but_not_over_fixed_ones() -> None:
    model = small_exports().models["onnx"]
    measured = onnx.used_ranges(model, small_images()[:4])
    given = {name: (low / 2, high / 2) for name, (low, high) in measured.items()}
    made = onnx.to_int8(model, (), ranges=given)
    behind = onnx.output_quantization(made)
    dense = measured["defocus_map"][1]
    assert behind["defocus_map"][0] * 255 == pytest.approx(dense / 2, rel=1e-5)
    assert behind["fake_logit"][0] * 255 == pytest.approx(2 * LOGIT_BOUND, rel=1e-5)
    graph, constants = loaded(made)
    first = next(node for node in graph.node if node.op_type == "QuantizeLinear")
    assert constants[first.input[1]] == 1.0


def test_ranges_of_another_model_are_refused() -> None:
    with pytest.raises(ConfigError, match="gone"):
        onnx.to_int8(small_exports().models["onnx"], small_images()[:1], ranges={"gone": (0, 1)})
