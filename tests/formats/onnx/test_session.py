import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedf.formats.onnx import session as onnx_session
from edgedf.formats.onnx.session import int8_kernels, open_session
from edgedf.int8_kernels import EXACT_INT8

ROOT = Path(__file__).parents[3]


@pytest.fixture
def fresh() -> Iterator[None]:
    int8_kernels.cache_clear()
    yield
    int8_kernels.cache_clear()


def test_the_probe_is_the_network_that_its_comment_describes() -> None:
    scalars = {
        "one": np.float32(1),
        "coarse": np.float32(2048),
        "zu": np.uint8(0),
        "zi": np.int8(0),
    }
    probe = onnx.load_from_string(onnx_session._PROBE)
    (node,) = probe.graph.node
    assert node.op_type == "QLinearConv"
    arrays = {entry.name: numpy_helper.to_array(entry) for entry in probe.graph.initializer}
    weights = arrays[node.input[3]]
    assert weights.dtype == np.int8 and weights.shape == (1, 8, 1, 1) and (weights == 127).all()
    wanted = (*(scalars[name] for name in ("one", "zu")), *(scalars[n] for n in ("one", "zi")))
    given = [arrays[node.input[at]] for at in (1, 2, 4, 5)]
    assert [(value.item(), value.dtype) for value in given] == [
        (value.item(), value.dtype) for value in wanted
    ]
    assert arrays[node.input[6]] == scalars["coarse"] and arrays[node.input[7]] == 0
    (image,) = probe.graph.input
    assert image.name == "x" and image.type.tensor_type.elem_type == TensorProto.UINT8


class Session:
    """Adds pairs of products with saturation, as vpmaddubsw does, unless it is told not to."""

    obeys = True

    def __init__(self, model: bytes, options: "Options", providers: object) -> None:
        self.exact = self.obeys and options.entries == dict(EXACT_INT8)

    def run(self, names: None, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        products = feed["x"].astype(np.int32).reshape(-1, 2) * 127
        pairs = products.sum(axis=1)
        if not self.exact:
            pairs = np.clip(pairs, -(1 << 15), (1 << 15) - 1)
        return [np.array(np.rint(pairs.sum() / 2048 + 1e-9)).astype(np.uint8)]


class Options:
    def __init__(self) -> None:
        self.entries: dict[str, str] = {}
        self.intra_op_num_threads = self.inter_op_num_threads = self.log_severity_level = 0

    def add_session_config_entry(self, name: str, value: str) -> None:
        self.entries[name] = value


@pytest.mark.parametrize(("obeys", "kernels"), [(True, "widened"), (False, "saturating")])
def test_kernels_that_saturate_are_noticed(
    obeys: bool, kernels: str, fresh: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Session, "obeys", obeys)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(onnxruntime, "SessionOptions", Options)
    assert int8_kernels() == kernels
    monkeypatch.undo()


def test_products_of_bytes_are_exact_in_every_session_here() -> None:
    rng = np.random.default_rng(7)
    weights = rng.integers(-127, 128, (64, 16)).astype(np.int8)
    node = helper.make_node("MatMulInteger", ["x", "w"], ["y"])
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [8, 64])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [8, 16])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session = open_session(model.SerializeToString())
    bright = rng.integers(128, 256, (8, 64)).astype(np.uint8)
    (found,) = session.run(None, {"x": bright})
    assert (found == bright.astype(np.int32) @ weights.astype(np.int32)).all()


def test_nothing_else_opens_a_session() -> None:
    listed = subprocess.run(
        ["git", "grep", "-lE", r"InferenceSession\(", "--", "*.py", ":!tests"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert listed.stdout.split() == ["edgedf/formats/onnx/session.py"]
