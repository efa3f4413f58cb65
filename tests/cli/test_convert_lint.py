"""``edgedf convert --lint`` and ``--describe``, as they are typed."""

import json
import re
from pathlib import Path

import pytest

from edgedf.cli import main
from edgedf.runtime.models import shipped_model
from tests.quantize.own_models import MEAN, STD, own_model
from tests.quantize.students import photograph_folder

Captured = pytest.CaptureFixture[str]
PAGE = Path(__file__).resolve().parents[2] / "docs" / "commands" / "convert.md"


def hostile(folder: Path) -> Path:
    """A model of somebody's own with a curve that ONNX Runtime computes in float."""
    model = own_model()
    relu = next(node for node in model.graph.node if node.op_type == "Relu")
    relu.op_type = "Tanh"
    path = folder / "detector.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def described(folder: Path) -> Path:
    """The description on the page, of the model beside it."""
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text("utf-8"), re.S)
    path = folder / "model.toml"
    path.write_text(text, "utf-8")
    return path


def test_the_shipped_student_is_made_for_int8(capsys: Captured) -> None:
    assert main(["convert", "--lint"]) == 0
    out = capsys.readouterr().out
    assert "✓ .tflite is made for int8" in out
    assert "in 1 partition" in out
    assert "(tolerated)" in out


def test_a_hostile_model_exits_with_1_and_names_the_layer(tmp_path: Path, capsys: Captured) -> None:
    path = hostile(tmp_path)
    assert main(["convert", str(path), "--lint"]) == 1
    shown = capsys.readouterr()
    assert "✗ .onnx is not made for int8" in shown.out
    for part in ("features", "Tanh", "stays float", "use relu"):
        assert part in " ".join(shown.out.split())
    assert main(["convert", str(path), "--lint", "--json"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert not data["friendly"]
    (model,) = data["models"]
    assert [layer["operator"] for layer in model["layers"]] == ["Tanh"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_float_export_of_ours_can_be_linted(capsys: Captured) -> None:
    assert main(["convert", str(shipped_model("tflite")), "--lint", "--json"]) == 0
    (model,) = json.loads(capsys.readouterr().out)["models"]
    assert (model["format"], model["pieces"], model["layers"]) == ("tflite", 1, [])


def test_what_cannot_be_linted_is_an_error(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "a.onnx").write_text("nothing")
    for arguments in (["a.onnx"], ["no.tflite"], ["--to", "coreml"]):
        given = [a if a.startswith("-") or "." not in a else str(tmp_path / a) for a in arguments]
        assert main(["convert", *given, "--lint"]) == 2
        shown = capsys.readouterr()
        assert shown.out == ""
        assert "Error" in shown.err


def test_a_hostile_model_is_converted_by_force_or_with_its_layers_kept(
    tmp_path: Path, capsys: Captured
) -> None:
    given = (
        "convert",
        str(hostile(tmp_path)),
        "--describe",
        str(described(tmp_path)),
        "--calibration",
        str(photograph_folder()),
        "--samples",
        "8",
        "--out",
        str(tmp_path / "out"),
    )
    assert main([*given]) == 2
    assert "--force" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())
    assert main([*given, "--keep", "fp32:features", "--keep-failing"]) in (0, 1)
    assert (tmp_path / "out" / "detector_int8.onnx").is_file()
    capsys.readouterr()
    assert main([*given, "--force", "--keep-failing", "--json"]) in (0, 1)
    shown = capsys.readouterr()
    (model,) = json.loads(shown.out)["models"]
    assert "Tanh" in model["float_operators"]
    assert model["forced"]
    assert "computes in float" not in shown.err


def test_the_description_on_the_page_fits_the_model_of_the_tests(
    tmp_path: Path, capsys: Captured
) -> None:
    path = tmp_path / "detector.onnx"
    path.write_bytes(own_model().SerializeToString())
    text = described(tmp_path).read_text("utf-8")
    assert str(list(MEAN)) in text
    assert str(list(STD)) in text
    options = ("--describe", str(tmp_path / "model.toml"), "--precision", "fp32", "--json")
    assert main(["convert", str(path), *options, "--out", str(tmp_path / "out")]) == 0
    assert json.loads(capsys.readouterr().out)["passed"]
    assert (tmp_path / "out" / "detector_fp32.onnx").is_file()


def test_a_mistyped_key_is_named(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "model.toml").write_text("licens = 'MIT'\n")
    options = ("--describe", str(tmp_path / "model.toml"))
    assert main(["convert", str(hostile(tmp_path)), *options]) == 2
    assert "licence" in capsys.readouterr().err
