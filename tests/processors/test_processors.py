"""Right answers on processors that this machine does not have."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.processors.machines import start

HERE = Path(__file__).parent


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
        ("qemu-haswell", True),
        ("qemu-nehalem", False),
    ],
)
def test_products_of_bytes(name: str, saturates: bool, tmp_path: Path) -> None:
    machine = start(name)
    rng = np.random.default_rng(7)
    weights = rng.integers(-127, 128, (64, 48)).astype(np.int8)
    bright = rng.integers(128, 256, (9, 64)).astype(np.uint8)
    exact = bright.astype(np.int32) @ weights.astype(np.int32)
    assert (saturated(bright, weights) != exact).mean() > 0.5  # else nothing is shown
    model, given = tmp_path / "product.onnx", tmp_path / "bright.npy"
    model.write_bytes(product_model(weights, len(bright)))
    np.save(given, bright)

    def products(way: str) -> NDArray[np.int32]:
        done = machine.run(HERE / "products.py", model, given, way)
        return np.load(io.BytesIO(done.stdout))

    np.testing.assert_array_equal(products("exact"), exact)
    wanted = saturated(bright, weights) if saturates else exact
    np.testing.assert_array_equal(products("plain"), wanted)
