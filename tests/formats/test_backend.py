import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from edgedf.artifact import ModelFormat
from edgedf.errors import ArtifactUnreadable
from edgedf.formats import open_backend
from edgedf.formats.backend import Backend, as_input, unpack
from edgedf.imaging import preprocess
from edgedf.spec import INPUT_ZERO_POINTS, TensorInfo
from tests.runtime.absent import with_broken, without
from tests.runtime.pictures import noise, photographs
from tests.runtime.tiny import (
    LOGIT_GAIN,
    MAP_SIZE,
    SIZE,
    bare_onnx,
    bare_tflite,
    expected,
)

FORMATS: tuple[ModelFormat, ...] = ("tflite", "onnx")
BARE = {"tflite": bare_tflite, "onnx": bare_onnx}


def opened(model_format: ModelFormat, threads: int = 1) -> Backend:
    return open_backend(BARE[model_format](), model_format, threads=threads)


def assert_right(backend: Backend, image: np.ndarray) -> None:
    logit, dense = backend.run(image)
    wanted_logit, wanted_map = expected(image)
    assert isinstance(logit, float)
    assert (dense.dtype, dense.shape) == (np.float32, (MAP_SIZE, MAP_SIZE))
    assert logit == pytest.approx(wanted_logit, abs=1e-4)
    np.testing.assert_allclose(dense, wanted_map, atol=1e-4)


def test_every_byte_becomes_its_value_in_each_type() -> None:
    picture = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    for dtype, zero_point in INPUT_ZERO_POINTS.items():
        tensor = as_input(picture, dtype)
        assert (tensor.dtype, tensor.shape) == (np.dtype(dtype), (1, 16, 16, 3))
        np.testing.assert_array_equal(tensor[0].astype(np.int64) - zero_point, picture)
    np.testing.assert_array_equal(as_input(picture, "float64"), picture[np.newaxis])


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("model_format", FORMATS)
def test_photographs_get_the_answers_that_numpy_gives(
    model_format: ModelFormat, threads: int
) -> None:
    backend = opened(model_format, threads)
    answers = set()
    for photograph in photographs():
        image = preprocess(photograph, SIZE)
        assert_right(backend, image)
        answers.add(round(backend.run(image)[0], 3))
    assert len(answers) == len(photographs())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_both_formats_agree_on_anything(seed: int, red: float) -> None:
    image = noise(SIZE, SIZE, seed, red=red)
    for backend in _kept_open():
        assert_right(backend, image)


def _kept_open() -> list[Backend]:
    if not _OPEN:
        _OPEN.extend(opened(model_format) for model_format in FORMATS)
    return _OPEN


_OPEN: list[Backend] = []


@pytest.mark.parametrize("model_format", FORMATS)
def test_the_first_channel_is_red_and_the_last_is_blue(model_format: ModelFormat) -> None:
    backend = opened(model_format)
    red, blue = np.zeros((2, SIZE, SIZE, 3), np.uint8)
    red[:, :, 0] = blue[:, :, 2] = 255
    assert backend.run(red)[0] == pytest.approx(255 * LOGIT_GAIN + 0.5, abs=1e-4)
    assert backend.run(blue)[0] == pytest.approx(-255 * LOGIT_GAIN + 0.5, abs=1e-4)
    assert backend.run(red)[1].min() == pytest.approx(5)
    assert backend.run(blue)[1].max() == 0


@pytest.mark.parametrize("model_format", FORMATS)
def test_a_spot_stays_where_it_is(model_format: ModelFormat) -> None:
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    image[4:8, 20:24, 0] = 255  # row 1 and column 5 of the map; transposed or flipped elsewhere
    dense = opened(model_format).run(image)[1]
    assert np.argwhere(dense > 0).tolist() == [[1, 5]]


@pytest.mark.parametrize("model_format", FORMATS)
def test_the_map_is_a_copy_that_later_runs_leave_alone(model_format: ModelFormat) -> None:
    backend = opened(model_format)
    bright, dark = np.full((2, SIZE, SIZE, 3), 200, np.uint8)
    dark[:] = 3
    first = backend.run(bright)[1]
    kept = first.copy()
    backend.run(dark)
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize(
    ("model_format", "name"), [("tflite", "ai-edge-litert"), ("onnx", "onnxruntime")]
)
def test_a_backend_says_what_it_is_and_what_it_takes(model_format: ModelFormat, name: str) -> None:
    backend = opened(model_format)
    assert backend.name == name
    assert backend.version[0].isdigit()
    assert backend.inputs == (TensorInfo("image", (1, SIZE, SIZE, 3), "uint8"),)
    assert set(backend.outputs) == {
        TensorInfo("fake_logit", (1, 1), "float32"),
        TensorInfo("defocus_map", (1, MAP_SIZE, MAP_SIZE, 1), "float32"),
    }


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("model_format", FORMATS)
def test_a_model_cut_off_is_refused(model_format: ModelFormat, share: float) -> None:
    model = BARE[model_format]()
    with pytest.raises(ArtifactUnreadable, match=r"refuses the \.") as caught:
        open_backend(model[: int(share * len(model))], model_format)
    assert caught.value.expected
    assert caught.value.next_step
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("model_format", FORMATS)
def test_something_that_is_no_model_is_refused(model_format: ModelFormat) -> None:
    for data in (b"", b"hello", b"\x1c\0\0\0TFL3" + bytes(64)):
        with pytest.raises(ArtifactUnreadable):
            open_backend(data, model_format)


def test_an_operator_nobody_knows_is_refused() -> None:
    model = onnx.load_model_from_string(bare_onnx())
    model.graph.node[0].op_type = "Conjure"
    with pytest.raises(ArtifactUnreadable, match="Conjure"):
        open_backend(model.SerializeToString(), "onnx")


def test_a_tflite_model_without_signature_is_refused() -> None:
    with pytest.raises(ArtifactUnreadable, match="it has no signature"):
        open_backend(bare_tflite(with_signature=False), "tflite")


@pytest.mark.parametrize("model_format", FORMATS)
def test_an_image_of_the_wrong_size_is_an_error_of_ours(model_format: ModelFormat) -> None:
    backend = opened(model_format)
    with pytest.raises(ArtifactUnreadable, match="cannot run the model"):
        backend.run(np.zeros((SIZE + 4, SIZE, 3), np.uint8))
    assert_right(backend, noise(SIZE, SIZE))


def poisoned(model_format: ModelFormat, value: float) -> bytes:
    """The tiny model with its logit's weights replaced."""
    if model_format == "tflite":
        weights = np.array([LOGIT_GAIN, 0, -LOGIT_GAIN], np.float32).tobytes()
        model = bare_tflite()
        assert model.count(weights) == 1
        return model.replace(weights, np.full(3, value, np.float32).tobytes())
    proto = onnx.load_model_from_string(bare_onnx())
    (tensor,) = (t for t in proto.graph.initializer if t.name == "contrast")
    tensor.CopyFrom(numpy_helper.from_array(np.full((3, 1), value, np.float32), "contrast"))
    return bytes(proto.SerializeToString())


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("model_format", FORMATS)
def test_outputs_that_are_no_numbers_are_an_error(model_format: ModelFormat, value: float) -> None:
    backend = open_backend(poisoned(model_format, value), model_format)
    with pytest.raises(ArtifactUnreadable, match="not finite numbers"):
        backend.run(noise(SIZE, SIZE))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_bad_value_in_the_map_is_enough(value: float) -> None:
    dense = np.zeros((1, 8, 8, 1), np.float32)
    assert unpack(np.zeros((1, 1)), dense, "runtime")[0] == 0.0
    dense[0, 3, 4, 0] = value
    with pytest.raises(ArtifactUnreadable, match="runtime"):
        unpack(np.zeros((1, 1)), dense, "runtime")


# What is missing is asked in processes of their own: here, it is there.

_OPEN_ONE = """
import sys
from edgedf.errors import EdgedfError
from edgedf.formats import open_backend
try:
    open_backend(b"", sys.argv[1])
except EdgedfError as error:
    print(type(error).__name__, error)
"""


def error_of_opening(model_format: str, environment: dict[str, str]) -> str:
    run = subprocess.run(
        [sys.executable, "-c", _OPEN_ONE, model_format],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return run.stdout


@pytest.mark.parametrize("model_format", FORMATS)
def test_a_missing_runtime_gives_the_command_that_installs_it(
    tmp_path: Path, model_format: str
) -> None:
    hidden = without(tmp_path, "onnxruntime", "ai_edge_litert", "tflite_runtime")
    said = error_of_opening(model_format, hidden)
    assert said.startswith("MissingExtra")
    assert f"pip install 'edgedf[{model_format}]'" in said


@pytest.mark.parametrize(
    ("model_format", "module"), [("onnx", "onnxruntime"), ("tflite", "ai_edge_litert.interpreter")]
)
def test_a_runtime_that_cannot_be_loaded_is_named_with_the_reason(
    tmp_path: Path, model_format: str, module: str
) -> None:
    said = error_of_opening(model_format, with_broken(tmp_path, module))
    package = module.partition(".")[0]
    assert f"{package} is installed but cannot be loaded: libedge.so.1: cannot open" in said


@pytest.mark.skipif(np.__version__ < "2", reason="numpy 1 is what tflite-runtime works with")
def test_tflite_runtime_is_passed_over_where_numpy_is_too_new_for_it(tmp_path: Path) -> None:
    environment = without(tmp_path / "site", "ai_edge_litert")
    with_broken(tmp_path / "site", "tflite_runtime.interpreter")  # it would be found
    assert error_of_opening("tflite", environment).startswith("MissingExtra")
