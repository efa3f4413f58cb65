from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from edgedf.artifact import ModelFormat
from edgedf.errors import ArtifactUnreadable, ConfigError, EdgedfError
from edgedf.formats import REGISTRY as FORMATS
from edgedf.formats import ModelGraph, open_graph
from edgedf.progress import silent
from edgedf.quantize.lint.report import lint_model, lint_quantized, lint_source, refuse
from edgedf.quantize.making.kept_layers import kept_layers
from edgedf.quantize.sources.export import export_network
from edgedf.runtime.models import shipped_model
from tests.quantize.own_models import own_model
from tests.runtime.tiny import bare_onnx, bare_tflite

SIDE = 16


class Hostile(torch.nn.Module):
    """Hard-swish, a gate of squeeze and excitation, leaky relu; a relu that nothing takes in."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.gate = torch.nn.Conv2d(8, 8, 1)
        self.map = torch.nn.Conv2d(8, 1, 3, stride=4, padding=1)
        self.fake = torch.nn.Linear(8, 1)
        torch.nn.init.constant_(self.map.bias, 2.0)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.nn.functional.hardswish(self.first(image * 0.01))
        x = x * torch.sigmoid(self.gate(torch.nn.functional.adaptive_avg_pool2d(x, 1)))
        x = torch.nn.functional.leaky_relu(x, 0.1)
        dense = torch.nn.functional.relu6(self.map(torch.relu(x)))
        return self.fake(torch.nn.functional.adaptive_avg_pool2d(x, 1).flatten(1)), dense


@cache
def hostile(model_format: ModelFormat) -> ModelGraph:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return open_graph(export_network(Hostile().eval(), SIDE, model_format), model_format)


@pytest.mark.parametrize("pool", ["mean", "mean flat", "mean NHWC"])
def test_a_mean_over_the_picture_is_a_pooling(pool: Any, tmp_path: Path) -> None:
    """torch's exporter writes AdaptiveAvgPool2d(1) so; a conversion rewrites it."""
    path = tmp_path / "own.onnx"
    path.write_bytes(own_model(pool=pool).SerializeToString())
    assert [report.layers for report in lint_source(path)] == [()]


def test_a_shape_that_is_looked_up_is_no_layer(tmp_path: Path) -> None:
    def with_shape(model: onnx.ModelProto) -> None:
        (node,) = (node for node in model.graph.node if node.op_type == "Flatten")
        at = list(model.graph.node).index(node)
        nodes = list(model.graph.node)
        nodes[at : at + 1] = [
            helper.make_node("Shape", ["pooled"], ["sizes"], end=1),
            helper.make_node("Concat", ["sizes", "rest"], ["to"], axis=0),
            helper.make_node("Reshape", ["pooled", "to"], ["flat"]),
        ]
        model.graph.initializer.append(numpy_helper.from_array(np.array([-1]), "rest"))
        del model.graph.node[:]
        model.graph.node.extend(nodes)

    path = tmp_path / "own.onnx"
    path.write_bytes(own_model(batch="N", edit=with_shape).SerializeToString())
    assert [report.layers for report in lint_source(path)] == [()]


def test_a_mean_over_channels_is_none(tmp_path: Path) -> None:
    def over_channels(model: onnx.ModelProto) -> None:
        (axes,) = (tensor for tensor in model.graph.initializer if tensor.name == "axes")
        axes.CopyFrom(numpy_helper.from_array(np.array([1]), "axes"))
        (head,) = (tensor for tensor in model.graph.initializer if tensor.name == "head.weight")
        head.CopyFrom(numpy_helper.from_array(np.ones((256, 1), np.float32), "head.weight"))

    path = tmp_path / "own.onnx"
    path.write_bytes(own_model(pool="mean", edit=over_channels).SerializeToString())
    (report,) = lint_source(path)
    assert report.layers[0].operator == "ReduceMean"


def pictures() -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (SIDE, SIDE, 3), np.uint8) for _ in range(3)]


@pytest.mark.parametrize("model_format", FORMATS)
def test_it_says_what_a_conversion_makes(model_format: ModelFormat) -> None:
    model = hostile(model_format)
    made = model.to_int8(pictures(), progress=silent)
    assert lint_model(model) == lint_quantized(model, made)


def test_layers_of_a_tflite_model() -> None:
    report = lint_model(hostile("tflite"))
    assert not report.friendly
    assert [(layer.operator, layer.problem) for layer in report.layers] == [
        ("HARD_SWISH", "left to the interpreter"),
        ("LEAKY_RELU", "stays float"),
        ("RELU", "left to the interpreter"),
    ]
    assert (report.pieces, report.undelegated) == (3, 3)  # the CAST is left, too


def test_layers_of_an_onnx_model() -> None:
    report = lint_model(hostile("onnx"))
    assert report.pieces is None
    assert [(layer.operator, layer.problem) for layer in report.layers] == [
        ("HardSigmoid", "stays float")
    ]


def test_a_layer_that_is_kept_is_no_finding() -> None:
    model = hostile("tflite")
    keep = [f"fp32:{layer.keep}" for layer in lint_model(model).layers]
    kept = kept_layers(model, keep, "int8")
    made = model.to_int8(pictures(), kept=kept, progress=silent)
    assert lint_quantized(model, made).layers
    assert not lint_quantized(model, made, kept=kept).layers


@pytest.mark.parametrize("model_format", FORMATS)
def test_a_hostile_model_is_refused_with_the_remedies(model_format: ModelFormat) -> None:
    with pytest.raises(ConfigError, match="break int8") as caught:
        refuse(lint_model(hostile(model_format)))
    curve = {"tflite": "HARD_SWISH", "onnx": "HardSigmoid"}[model_format]
    assert f"1 {curve}" in caught.value.message
    assert f"instead of {curve}: use relu or relu6" in caught.value.next_step
    for way_out in ("--precision fp16", "--force", "--lint"):
        assert way_out in caught.value.next_step


def test_without_a_delegate_only_float_layers_count() -> None:
    with pytest.raises(ConfigError) as caught:
        refuse(lint_model(hostile("tflite")), delegated=False)
    assert "1 LEAKY_RELU" in caught.value.message
    assert "HARD_SWISH" not in str(caught.value)


@pytest.mark.parametrize("model_format", FORMATS)
def test_the_shipped_student_is_accepted(model_format: ModelFormat) -> None:
    report = lint_model(open_graph(shipped_model(model_format).read_bytes(), model_format))
    refuse(report)
    assert report.friendly
    assert {layer.operator for layer in report.layers if layer.tolerated} <= {"Resize"}
    assert (report.pieces, report.undelegated) in ((1, 1), (None, None))


def test_by_default_it_is_the_shipped_student_in_both_formats() -> None:
    assert [report.format for report in lint_source(None)] == ["tflite", "onnx"]


def test_a_file_needs_no_spec(tmp_path: Path) -> None:
    path = tmp_path / "own.onnx"
    path.write_bytes(own_model().SerializeToString())
    (report,) = lint_source(path)
    assert report.friendly
    assert report.operators > 0
    path.write_bytes(hostile("tflite").file)
    (report,) = lint_source(path)  # the content decides
    assert report.format == "tflite"


def test_what_is_between_float_layers_stays_float_too() -> None:
    nodes = [
        helper.make_node("Tanh", ["x"], ["a"], "curve"),
        helper.make_node("MaxPool", ["a"], ["b"], "pool", kernel_shape=[2, 2]),
        helper.make_node("Tanh", ["b"], ["c"], "again"),
        helper.make_node("MaxPool", ["c"], ["y"], "last", kernel_shape=[2, 2]),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, side, side])
        for name, side in (("x", 4), ("y", 2))
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    report = lint_model(open_graph(model.SerializeToString(), "onnx"))
    assert [layer.name for layer in report.layers] == ["curve", "pool", "again", "last"]
    assert report.layers[1].why == "what goes into it stays float"


@pytest.mark.parametrize("model_format", FORMATS)
def test_a_damaged_model_is_refused(model_format: ModelFormat) -> None:
    with pytest.raises(ArtifactUnreadable):
        lint_model(open_graph(hostile(model_format).file[:200], model_format))


def test_a_name_in_a_tflite_model_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.tflite"
    path.write_bytes(bare_tflite().replace(b"contrast", b"contr\xffst"))
    with pytest.raises(EdgedfError, match="tflite model"):
        lint_source(path)


def test_a_name_in_an_onnx_model_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.onnx"
    path.write_bytes(bare_onnx().replace(b"contrast", b"contr\xffst"))
    with pytest.raises(ArtifactUnreadable, match=r"a name that is no text|no valid"):
        lint_source(path)


def test_an_unknown_operator_is_refused_without_a_traceback(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ArtifactUnreadable, match="ONNX Runtime refuses"):
        lint_model(open_graph(bare_onnx().replace(b"Clip", b"Dlip"), "onnx"))
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


@pytest.mark.parametrize(
    ("damage", "says"), [("no graph", "exit code"), ("no operator", "interpreter refuses")]
)
def test_a_tflite_file_that_the_interpreter_does_not_survive_is_refused(
    damage: str, says: str, tmp_path: Path
) -> None:
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(bare_tflite()))
    if damage == "no graph":
        model.subgraphs = None  # which ends the process
    else:
        model.operatorCodes[0].builtinCode = 687_865_653
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    path = tmp_path / "own.tflite"
    path.write_bytes(builder.Output())
    with pytest.raises(ArtifactUnreadable, match=says):
        lint_source(path)


def test_what_does_not_run_cannot_be_quantized() -> None:
    def other_rows(model: onnx.ModelProto) -> None:
        (rows,) = (tensor for tensor in model.graph.initializer if tensor.name == "rows")
        rows.CopyFrom(numpy_helper.from_array(np.array([0, 8, 7]), "rows"))

    model = own_model(batch="N", side="S", pool="line", edit=other_rows)
    with pytest.raises(ConfigError, match="cannot be quantized to int8"):
        lint_model(open_graph(model.SerializeToString(), "onnx"))
