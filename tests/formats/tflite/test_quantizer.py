from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgedf.errors import ArtifactUnreadable, ConfigError
from edgedf.formats import open_backend
from edgedf.formats.layers import KeptLayers
from edgedf.formats.operators import count_operators
from edgedf.formats.tflite import quantizer
from edgedf.formats.tflite.container import strip as strip_tflite
from edgedf.spec import LOGIT_BOUND
from tests.formats.stages import list_operators, tflite
from tests.quantize.students import SMALL, small_exports, small_images, small_int8


def tensors_of(model: bytes, operator: str) -> list[tuple[list[Any], list[Any]]]:
    """Inputs and outputs of every operator of that name, in order of execution."""
    flatbuffer = schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(model)))
    graph = flatbuffer.subgraphs[0]
    code = getattr(schema.BuiltinOperator, operator)
    return [
        ([graph.tensors[i] for i in op.inputs], [graph.tensors[i] for i in op.outputs])
        for op in graph.operators
        if flatbuffer.operatorCodes[op.opcodeIndex].builtinCode == code
    ]


def float_outputs() -> tuple[np.ndarray, np.ndarray]:
    backend = open_backend(small_exports().models["tflite"], "tflite")
    found = [backend.run(image) for image in small_images()]
    return np.array([logit for logit, _ in found]), np.stack([dense for _, dense in found])


def test_the_ranges_are_the_largest_value_seen_and_the_bound_of_the_logit() -> None:
    behind = tflite.output_quantization(small_int8("tflite"))
    _, maps = float_outputs()
    ends = {"fake_logit": (-LOGIT_BOUND, LOGIT_BOUND), "defocus_map": (0.0, float(maps.max()))}
    for name, (low, high) in ends.items():
        scale, zero_point = behind[name]
        assert scale * 255 == pytest.approx(high - low, rel=0.01)
        assert scale * (-128 - zero_point) == pytest.approx(low, abs=1.5 * scale)


def test_a_byte_of_the_input_is_one_step() -> None:
    ((_, (quantized,)), *_) = tensors_of(small_int8("tflite"), "QUANTIZE")
    assert quantized.quantization.scale.tolist() == [1.0]
    assert quantized.quantization.zeroPoint.tolist() == [-128]


def test_every_bias_leaves_room_in_its_accumulator() -> None:
    """The ImageNet encoder has channels without weights, whose biases overflow an int32."""
    model = small_int8("tflite")
    buffers = schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(model))).buffers
    largest = []
    for operator in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        for (_, _, bias), _ in tensors_of(model, operator):
            assert bias.type == schema.TensorType.INT32
            stored = buffers[bias.buffer]
            # The quantizer puts larger buffers behind the flatbuffer.
            inside = stored.data is not None
            end = stored.offset + stored.size
            data = bytes(stored.data) if inside else model[stored.offset : end]
            values = np.frombuffer(data, np.int32).astype(np.int64)
            largest.append(np.abs(values).max())
    assert len(largest) == 58
    # The lower limit: without the edit some would be at -2**31.
    assert 2**27 < max(largest) <= 1.01 * 2**28


def test_room_for_biases_is_made_without_changing_what_the_model_says() -> None:
    model = small_exports().models["tflite"]
    ranges = {
        tensor.name.decode(): (0.0, 6.0)
        for operator in ("CONV_2D", "DEPTHWISE_CONV_2D")
        for inputs, _ in tensors_of(strip_tflite(model), operator)
        for tensor in inputs
    }
    edited = quantizer._with_room_for_biases(model, ranges, 8, KeptLayers())
    changed = np.frombuffer(edited, np.uint8) != np.frombuffer(model, np.uint8)
    assert 0 < changed.sum() < 1000
    before, after = open_backend(model, "tflite"), open_backend(edited, "tflite")
    for image in small_images()[:6]:
        (logit, dense), (new_logit, new_dense) = before.run(image), after.run(image)
        assert new_logit == pytest.approx(logit, abs=0.02)
        np.testing.assert_allclose(new_dense, dense, atol=0.02)


def test_fp16_halves_the_file_and_hardly_changes_the_outputs() -> None:
    model = small_exports().models["tflite"]
    halved = tflite.to_fp16(model)
    assert len(halved) < 0.6 * len(model)
    assert "CONV_2D" in count_operators(list_operators(halved, "tflite"))
    full, half = open_backend(model, "tflite"), open_backend(halved, "tflite")
    for image in small_images()[:6]:
        assert half.run(image)[0] == pytest.approx(full.run(image)[0], abs=0.05)


def test_nothing_is_printed_and_every_image_is_counted(capfd: pytest.CaptureFixture[str]) -> None:
    steps: list[tuple[str, int, int]] = []
    tflite.to_int8(
        small_exports().models["tflite"],
        small_images()[:3],
        progress=lambda *step: steps.append(step),
    )
    out, err = capfd.readouterr()
    assert out == ""
    assert "Transformations" not in err
    assert steps == [("calibrate tflite", n, 3) for n in (1, 2, 3)]


@pytest.mark.parametrize("convert", [lambda m: tflite.to_int8(m, small_images()), tflite.to_fp16])
def test_a_damaged_flatbuffer_is_refused(convert: Any) -> None:
    good = strip_tflite(small_exports().models["tflite"])
    for damaged in (good[:5000], b"\xff" * 16 + b"TFL3" + bytes(64), b""):
        with pytest.raises(ArtifactUnreadable, match="damaged"):
            convert(damaged)


def test_the_signature_names_survive() -> None:
    backend = open_backend(small_int8("tflite"), "tflite")
    assert [(t.name, t.shape, t.dtype) for t in backend.inputs] == [
        ("image", (1, SMALL, SMALL, 3), "uint8")
    ]
    assert {t.name for t in backend.outputs} == {"fake_logit", "defocus_map"}


def test_given_ranges_win_over_measured_ones_but_not_over_fixed_ones() -> None:
    model = small_exports().models["tflite"]
    measured = tflite.used_ranges(model, small_images()[:4])
    cast = next(iter(tflite.fixed_ranges(model)))
    dense = list(measured)[-1]
    given = {name: (low / 2, high / 2) for name, (low, high) in measured.items()}
    used = tflite.used_ranges(model, (), ranges=given)
    assert used[cast] == (0.0, 255.0)
    assert used[dense] == given[dense]
    made = tflite.to_int8(model, (), ranges=given)
    scale, _ = tflite.output_quantization(made)["defocus_map"]
    assert scale * 255 == pytest.approx(measured[dense][1] / 2, rel=1e-5)
    assert tflite.output_quantization(made)["fake_logit"][0] * 255 == pytest.approx(
        2 * LOGIT_BOUND, rel=1e-5
    )
    ((_, (quantized,)), *_) = tensors_of(made, "QUANTIZE")
    assert quantized.quantization.scale.tolist() == [1.0]


def test_ranges_of_another_model_are_refused() -> None:
    model = small_exports().models["tflite"]
    for given, said in (({"gone": (0.0, 1.0)}, "gone"), ({}, None)):
        if said is None:
            name = next(iter(tflite.activations(model).names))
            given, said = {name: (1.0, 0.0)}, "is 1.0 to 0.0"
        with pytest.raises(ConfigError, match=said):
            tflite.to_int8(model, small_images()[:1], ranges=given)
