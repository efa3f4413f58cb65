"""Right answers on processors that this machine does not have."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import edgedf.sample
from edgedf.files import sha256_of
from edgedf.formats import REGISTRY as FORMATS
from edgedf.imaging import preprocess
from edgedf.runtime.models import shipped_model
from tests.processors.machines import start
from tests.quantize.students import shipped_int8

HERE = Path(__file__).parent
SAMPLE = [picture.path for picture in edgedf.sample.images()]
PICTURES = np.stack([preprocess(SAMPLE[index], 256) for index in (0, 50, 25, 75)])
SLOW = pytest.mark.environments

FLOAT_TOLERANCE = 1e-4  # of logit and map: sums are rounded in another order
LOGIT_STEP, MAP_STEP = 0.0628, 0.0128  # of the int8 outputs
INT8_LOGIT_ERROR = 0.35  # the largest against float on 40 sample pictures is 0.27
INT8_MAP_ERROR = 0.05  # mean, in pixels


def product_model(weights: NDArray[np.int8], rows: int) -> bytes:
    """uint8 (rows, K) times int8 (K, N), as int32."""
    depth, columns = weights.shape
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [rows, depth])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [rows, columns])],
        [numpy_helper.from_array(weights, "w")],
    )
    opsets = [helper.make_opsetid("", 13)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def saturated(left: NDArray[np.uint8], right: NDArray[np.int8]) -> NDArray[np.int32]:
    """The product as vpmaddubsw makes it: products of neighbours are added with saturation."""
    products = left.astype(np.int32)[:, :, None] * right.astype(np.int32)
    pairs = products[:, 0::2] + products[:, 1::2]
    return np.clip(pairs, -(1 << 15), (1 << 15) - 1).sum(axis=1, dtype=np.int32)


@pytest.mark.parametrize(
    ("name", "saturates"),
    [
        ("avx512", True),
        ("avx-vnni", False),
        ("avx2", True),
        ("avx", False),
        ("sse4", False),
        pytest.param("qemu-haswell", True, marks=SLOW),
    ],
)
def test_products_saturate_in_pairs_unless_the_option_is_set(
    name: str, saturates: bool, tmp_path: Path
) -> None:
    machine = start(name)
    rng = np.random.default_rng(7)
    weights = rng.integers(-127, 128, (64, 48)).astype(np.int8)
    bright = rng.integers(128, 256, (9, 64)).astype(np.uint8)
    exact = bright.astype(np.int32) @ weights.astype(np.int32)
    assert (saturated(bright, weights) != exact).mean() > 0.5  # else nothing is shown
    model, given = tmp_path / "product.onnx", tmp_path / "bright.npy"
    model.write_bytes(product_model(weights, len(bright)))
    np.save(given, bright)
    done = machine.run(HERE / "products.py", model, given)
    found = np.load(io.BytesIO(done.stdout))
    np.testing.assert_array_equal(found["exact"], exact)
    wanted = saturated(bright, weights) if saturates else exact
    np.testing.assert_array_equal(found["plain"], wanted)


# What NumPy has to find, so that no test passes because nothing was hidden.
SIMD = {
    "avx512": {"X86_V3", "X86_V4"},
    "avx-vnni": {"X86_V3"},
    "avx2": {"X86_V3"},
    "avx": set(),
    "sse4": set(),
    "qemu-haswell": {"X86_V3"},
    "cortex-a72": set(),
    "cortex-a76": {"ASIMDHP", "ASIMDDP"},
}


NEED_THE_OPTION = {"avx512", "avx2", "qemu-haswell"}


@pytest.fixture(scope="module")
def models() -> tuple[list[Path], list[Path]]:
    """The shipped student in each format, as float and as int8."""
    floats = [shipped_model(model_format) for model_format in FORMATS]
    return floats, [shipped_int8(model_format) for model_format in FORMATS]


@pytest.fixture(scope="module")
def here(models: tuple[list[Path], list[Path]]) -> dict[str, NDArray[Any]]:
    """What they give on this machine."""
    return start("native").outputs(PICTURES, [*models[0], *models[1]])


@pytest.mark.parametrize(
    "name",
    [
        "avx512",
        "avx-vnni",
        "avx2",
        "avx",
        "sse4",
        *(pytest.param(name, marks=SLOW) for name in ("qemu-haswell", "cortex-a72", "cortex-a76")),
    ],
)
def test_the_student_gives_the_same_answers(
    name: str, models: tuple[list[Path], list[Path]], here: dict[str, NDArray[Any]]
) -> None:
    machine = start(name)
    pictures = 2 if machine.emulated else len(PICTURES)
    with_float = not machine.emulated  # qemu takes a minute a picture
    images, (floats, quantized) = PICTURES[:pictures], models
    here = {key: values[:pictures] for key, values in here.items() if key[0].isdigit()}
    there = machine.outputs(images, [*floats, *quantized] if with_float else quantized)
    assert set(there["simd"].tolist()) == SIMD[name]
    assert str(there["kernels"]) == ("widened" if name in NEED_THE_OPTION else "exact")
    first = 2 if with_float else 0
    for index in range(2):
        logit, dense = there[f"{first + index} logit"], there[f"{first + index} map"]
        # Of the same file, and of the float model that it was made from.
        assert np.abs(logit - here[f"{2 + index} logit"]).max() <= 2 * LOGIT_STEP
        assert np.abs(dense - here[f"{2 + index} map"]).max() <= 2.1 * MAP_STEP
        assert np.abs(logit - here[f"{index} logit"]).max() <= INT8_LOGIT_ERROR
        assert np.abs(dense - here[f"{index} map"]).mean() <= INT8_MAP_ERROR
        if with_float:
            for output in ("logit", "map"):
                key = f"{index} {output}"
                np.testing.assert_allclose(there[key], here[key], rtol=0, atol=FLOAT_TOLERANCE)
    # Both runtimes say the same, everywhere.
    between = there[f"{first} logit"] - there[f"{first + 1} logit"]
    assert np.abs(between).max() <= 2 * LOGIT_STEP


def few_pictures(folder: Path) -> Path:
    folder.mkdir()
    for path in SAMPLE[::6]:
        shutil.copy(path, folder)
    return folder


def convert_there(
    name: str, pictures: Path, out: Path, *more: str, before: str = ""
) -> tuple[int, str, str]:
    """Run ``edgedf convert --json`` on that processor: exit code, output and errors."""
    given = ("--calibration", str(pictures), "--samples", "8", "--out", str(out), "--json", *more)
    code = f"import sys\n{before}\nfrom edgedf.cli import main\nsys.exit(main(sys.argv[1:]))"
    done = start(name).try_to_run("-c", code, "convert", *given)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_a_conversion_gives_the_same_bytes_on_other_processors(tmp_path: Path) -> None:
    pictures = few_pictures(tmp_path / "pictures")
    made = {}
    for name in ("native", "avx2"):
        code, _, said = convert_there(name, pictures, tmp_path / name)
        assert code == 0, said
        made[name] = {path.name: sha256_of(path) for path in (tmp_path / name).iterdir()}
    assert made["native"].keys() == {"student_int8.tflite", "student_int8.onnx"}
    assert made["native"] == made["avx2"]


_LEFT_OUT = """
from edgedf.formats.onnx import session as onnx_session
onnx_session.int8_kernels = lambda: "exact"
"""


def test_without_the_option_convert_fails_and_blames_the_processor(tmp_path: Path) -> None:
    pictures = few_pictures(tmp_path / "pictures")
    out = tmp_path / "out"
    code, report, said = convert_there("avx2", pictures, out, "--to", "onnx", before=_LEFT_OUT)
    assert code == 1, said
    assert not list(out.iterdir())
    document = json.loads(report)
    (held_out,) = (c for c in document["comparisons"] if c["images"] != "calibration")
    (logit,) = (found for found in held_out["outputs"] if found["output"] == "fake_logit")
    assert 0.9 < logit["correlation"] < 0.985  # 0.960 on 40 pictures is what a user saw
    (model,) = document["models"]
    assert model["diagnosis"]["cause"] == "processor"
    assert "This processor's int8 kernels are to blame, not the model" in said
    assert "upgrade onnxruntime, or take the .tflite file" in said
