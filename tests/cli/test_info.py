import json
import re
from pathlib import Path

import jsonschema
import pytest

from edgedf.cli import main
from edgedf.files import sha256_of
from edgedf.runtime.models import shipped_model
from edgedf.spec import LayerOverride, ModelSpec
from tests.cli.runs import assert_clear, run, workshop
from tests.runtime.absent import with_broken, without
from tests.runtime.tiny import tiny_spec, write_tiny

__all__ = ["workshop"]

Captured = pytest.CaptureFixture[str]


def info(*arguments: str | Path) -> int:
    return main(["info", *map(str, arguments)])


@pytest.mark.parametrize("model_format", ["tflite", "onnx"])
def test_everything_in_the_spec_is_shown(
    model_format: str, workshop: Path, capsys: Captured
) -> None:
    path = Path("build") / f"student_int8.{model_format}"
    assert info(path) == 0
    out, err = capsys.readouterr()
    assert err == ""
    spec = tiny_spec()
    shown: dict[str, str] = {}
    for line in out.splitlines():
        name, _, value = line.partition("  ")
        shown.setdefault(name, value.strip())
    assert shown["file"] == str(path)
    assert shown["format"] == model_format
    assert shown["sha256"] == sha256_of(path)
    assert shown["tensors"].startswith("as the spec says, loaded in ")
    assert shown["model"] == spec.model_id
    assert shown["input"] == "image: uint8 (1, 32, 32, 3) RGB NHWC"
    assert shown["thresholds"] == "real up to 0.4, fake from 0.6. by hand"
    assert shown["licence"] == "none"
    assert shown["parent sha256"] == spec.parent_sha256
    assert shown["data sha256"] == spec.training.data_sha256
    for step in spec.preprocessing:
        assert step.step in shown["preprocessing"]
    for output in spec.outputs:
        assert f"{output.name}: float32" in out
    assert re.search(r"test\s+AUC\s+0\.900  0\.800 to 0\.950  100", out)


def test_the_json_carries_the_whole_spec(workshop: Path, capsys: Captured) -> None:
    path = Path("build/student_int8.onnx")
    assert info(path, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert ModelSpec.from_json(json.dumps(found["spec"])) == tiny_spec()
    assert found["bytes"] == path.stat().st_size
    assert found["sha256"] == sha256_of(path)
    assert found["loads_in"].startswith("onnxruntime ")
    assert (found["path"], found["format"]) == (str(path), "onnx")


def test_the_schema_is_valid_and_accepts_what_the_json_shows(
    workshop: Path, capsys: Captured
) -> None:
    assert info("--schema") == 0
    schema = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    models = [Path("build/student_int8.tflite"), shipped_model("tflite"), shipped_model("onnx")]
    for model in models:
        assert info(model, "--json") == 0
        spec = json.loads(capsys.readouterr().out)["spec"]
        validator.validate(spec)
        for field in ("threshold", "input", "outputs"):
            broken = {key: value for key, value in spec.items() if key != field}
            assert not validator.is_valid(broken)


def test_kept_layers_are_shown(workshop: Path, capsys: Captured) -> None:
    override = LayerOverride("fp32", "decoder.*", ("decoder.a", "decoder.b"), ("head",))
    write_tiny(workshop, "onnx", overrides=(override,))
    assert info("tiny.onnx") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "kept fp32 by decoder.*: decoder.a, decoder.b; what takes these: head" in text


def test_without_a_file_it_says_how_it_is_called(capsys: Captured) -> None:
    assert info() == 2
    err = capsys.readouterr().err
    assert_clear(err)
    assert "edgedf info FILE" in err


def test_texts_in_a_spec_cannot_steer_the_terminal(workshop: Path, capsys: Captured) -> None:
    write_tiny(workshop, "onnx", licence="[red]free[/]\x1b[2J\n", created_by="\x07 bell")
    assert info("tiny.onnx") == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\x07" not in out
    assert "[red]free[/]" in out


@pytest.mark.parametrize("model_format", ["tflite", "onnx"])
def test_no_runtime_is_needed_to_read_a_spec(model_format: str, tmp_path: Path) -> None:
    path = write_tiny(tmp_path, model_format)
    hidden = without(tmp_path / "site", "onnxruntime", "ai_edge_litert", "tflite_runtime", "onnx")
    done = run("info", path, cwd=tmp_path, environment=hidden)
    assert done.returncode == 0, done.stderr
    assert f"not checked: install edgedf[{model_format}] to load the model" in done.stdout
    assert tiny_spec().model_id in done.stdout


def test_a_broken_runtime_does_not_hide_the_spec(tmp_path: Path) -> None:
    path = write_tiny(tmp_path, "onnx")
    broken = with_broken(tmp_path / "site", "onnxruntime")
    done = run("info", path, "--json", cwd=tmp_path, environment=broken)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["loads_in"] is None
