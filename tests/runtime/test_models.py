import subprocess
import sys
from pathlib import Path

import pytest

from edgedf.artifact import read_artifact
from edgedf.errors import MissingExtra
from edgedf.runtime import models
from edgedf.runtime.models import default_model, runnable_formats, shipped_model
from tests.runtime.absent import without


def make(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / "build" / name
        path.parent.mkdir(exist_ok=True)
        path.touch()


@pytest.mark.parametrize("model_format", ["tflite", "onnx"])
def test_the_package_carries_both_float_exports(model_format: str) -> None:
    artifact = read_artifact(shipped_model(model_format))  # type: ignore[arg-type]
    assert artifact.format == model_format
    assert artifact.spec.precision == "fp32"


def test_both_formats_can_be_run_here() -> None:
    assert runnable_formats() == ("tflite", "onnx")


def test_without_a_converted_model_the_shipped_one_is_used(tmp_path: Path) -> None:
    assert default_model(tmp_path) == shipped_model("tflite")


def test_a_converted_model_goes_before_the_shipped_one(tmp_path: Path) -> None:
    make(tmp_path, "student_fp16.tflite")
    assert default_model(tmp_path) == shipped_model("tflite")
    make(tmp_path, "student_int8.onnx")
    assert default_model(tmp_path) == tmp_path / "build" / "student_int8.onnx"
    make(tmp_path, "student_int8.tflite")
    assert default_model(tmp_path) == tmp_path / "build" / "student_int8.tflite"


def test_the_current_folder_is_where_a_converted_model_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "student_int8.tflite")
    monkeypatch.chdir(tmp_path)
    assert default_model().resolve() == (tmp_path / "build" / "student_int8.tflite").resolve()


def test_with_one_runtime_its_format_is_chosen(tmp_path: Path) -> None:
    make(tmp_path, "student_int8.tflite", "student_int8.onnx")
    hidden = without(tmp_path / "site", "ai_edge_litert", "tflite_runtime")
    code = "import sys; from edgedf.runtime.models import *; print(default_model(sys.argv[1]))"
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env=hidden,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert run.stdout.strip() == str(tmp_path / "build" / "student_int8.onnx")


def test_without_any_runtime_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(models, "runnable_formats", lambda: ())
    with pytest.raises(MissingExtra, match="pip install") as caught:
        default_model()
    assert caught.value.next_step == "pip install 'edgedf[tflite]'"
