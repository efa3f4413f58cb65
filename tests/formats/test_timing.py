"""Both formats, through the real runtimes: what a worker asks for."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

import edgedf.sample
from edgedf.artifact import ModelFormat, read_artifact
from edgedf.errors import OutputError
from edgedf.formats import format_named, open_backend
from edgedf.formats.onnx import timing as onnx
from edgedf.formats.onnx.container import read_onnx_nodes
from edgedf.formats.tflite import timing as tflite
from edgedf.formats.tflite.litert import ProfiledModel
from edgedf.formats.timed import Operators
from edgedf.imaging import RGBImage, preprocess
from edgedf.runtime.models import shipped_model
from edgedf.runtime.profile.events import from_line, to_line
from edgedf.runtime.profile.operator_verdict import delegation_verdict
from tests.runtime.tiny import SIZE, write_tiny


def time_operators(
    configuration: int, path: Path, threads: int, images: Sequence[RGBImage], queries: int
) -> Operators:
    artifact = read_artifact(path)
    timer = format_named(artifact.format).time_operators
    return timer(configuration, artifact.model, threads, images, queries)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, of this process and of those it starts."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def pictures(size: int) -> list[RGBImage]:
    return [preprocess(image, size) for image in edgedf.sample.images()[:2]]


@pytest.mark.parametrize("model_format", ["tflite", "onnx"])
def test_the_operators_of_the_student_add_up(model_format: ModelFormat, temporary: Path) -> None:
    found = time_operators(3, shipped_model(model_format), 1, pictures(256), 4)
    names = [operator.name for operator in found.operators]
    assert len(set(names)) == len(names)
    assert min(operator.milliseconds for operator in found.operators) >= 0
    total = sum(operator.milliseconds for operator in found.operators)
    assert 0 < total <= found.inference_ms  # a part of it, rounded down
    assert found.plain_ms > 0
    assert from_line(to_line(found)) == found
    assert list(temporary.glob("edgedf-*")) == []


def test_operators_of_tflite_have_the_names_that_layers_have_everywhere() -> None:
    found = time_operators(0, shipped_model("tflite"), 1, pictures(256), 1)
    assert "XNNPACK's own times" in found.source
    assert len(found.operators) == found.in_file
    kinds = {operator.name: operator.kind for operator in found.operators}
    assert kinds["Conv_conv"] == "CONV_2D"
    assert kinds["Conv_depthwise@1"] == "DEPTHWISE_CONV_2D"
    assert [o.kind for o in found.operators if o.delegate != "XNNPACK"] == ["CAST"]
    assert delegation_verdict(found) == f"1 of {found.in_file} operators left the delegate: CAST"


def test_nodes_of_onnx_have_the_names_of_their_weights() -> None:
    path = shipped_model("onnx")
    found = time_operators(0, path, 1, pictures(256), 1)
    kinds = {operator.name: operator.kind for operator in found.operators}
    assert kinds["student.high_pass.conv"] == "Conv"
    assert kinds["student.encoder.stages.0.0.depthwise"] == "Conv"
    assert found.delegated is None
    assert found.in_file == len(read_onnx_nodes(path.read_bytes()))
    assert found.in_float is not None
    assert found.in_float.count("Conv") == sum(kind == "Conv" for kind in kinds.values())


def test_the_profiled_model_is_the_one_that_is_run() -> None:
    model = read_artifact(shipped_model("tflite")).model
    plain = open_backend(model, "tflite")
    profiled = ProfiledModel(model, 1, (*plain.inputs, *plain.outputs))
    for image in pictures(256):
        logit, dense = profiled.run(image)
        expected, expected_map = plain.run(image)
        assert logit == pytest.approx(expected, abs=1e-4)
        assert dense == pytest.approx(expected_map, abs=1e-4)
        assert len(profiled.take_events()) > 79
        assert profiled.take_events() == []
    profiled.close()


def test_a_crash_of_the_library_costs_the_times_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "crashing.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n", "utf-8"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(tflite, "_CHILD", "crashing")
    found = time_operators(0, write_tiny(tmp_path, "tflite"), 1, pictures(SIZE), 2)
    assert found.operators == ()
    assert found.source == (
        "operators not timed: LiteRT's profiler cannot be used: it was ended by signal 11"
    )
    assert found.plain_ms == found.inference_ms > 0
    assert found.in_file == 5
    assert delegation_verdict(found).startswith("1 of 5 operators left the delegate: CAST")


def test_a_runtime_without_a_profiler_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tflite, "_SUPPORTED", "another-runtime")
    found = time_operators(0, write_tiny(tmp_path, "tflite"), 1, pictures(SIZE), 2)
    assert found.operators == ()
    assert found.source == (
        "operators not timed: ai-edge-litert has no profiler of operators (another-runtime has)"
    )


def test_what_the_child_does_not_understand_is_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tflite, "_CHILD", "json.tool")
    found = time_operators(0, write_tiny(tmp_path, "tflite"), 1, pictures(SIZE), 1)
    assert found.operators == ()
    assert "operators not timed" in found.source


@pytest.mark.parametrize("content", ['[{"cat": "Node"', '{"cat": "Node"}'])
def test_a_profile_that_was_cut_off_is_told(tmp_path: Path, content: str) -> None:
    path = tmp_path / "profile.json"
    path.write_text(content, "utf-8")
    with pytest.raises(OutputError, match="profile cannot be read"):
        onnx._read(path)


def test_a_profile_that_is_too_large_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "profile.json"
    path.write_text("[]", "utf-8")
    monkeypatch.setattr(onnx, "_MAX_PROFILE_BYTES", 1)
    with pytest.raises(OutputError, match="it has 0 MB"):
        onnx._read(path)
