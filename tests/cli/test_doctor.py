import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgedf
from edgedf.cli import main
from edgedf.errors import DataError
from edgedf.runtime.models import shipped_model
from tests.cli.runs import run, workshop
from tests.runtime.absent import with_broken, without

__all__ = ["workshop"]

Captured = pytest.CaptureFixture[str]
RUNTIMES = ("onnxruntime", "ai_edge_litert", "tflite_runtime")


def test_here_everything_is_there_and_the_student_runs(workshop: Path, capsys: Captured) -> None:
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["detect"] is True
    assert found["system"]["edgedf"] == edgedf.__version__
    assert found["system"]["python"] == platform.python_version()
    assert found["system"]["cores"] >= 1
    assert len(found["system"]["cpu"]) > 2
    extras = {extra["name"]: extra for extra in found["extras"]}
    assert list(extras) == ["", "tflite", "onnx", "convert", "export", "distill"]
    for extra in extras.values():
        assert extra["missing"] == []
        assert extra["needed_for"]
    assert extras[""]["installed"]["numpy"] == np.__version__
    assert extras["onnx"]["installed"] == {"onnxruntime": version("onnxruntime")}
    assert extras["export"]["installed"]["torch"] == version("torch")
    assert {"onnx", "ai-edge-quantizer"} < set(extras["export"]["installed"])  # convert's, nested
    assert extras["convert"]["install"] == "pip install 'edgedf[convert]'"
    for model, model_format in zip(found["models"], ("tflite", "onnx"), strict=True):
        assert model["format"] == model_format
        assert model["runs"] is True
        assert model["path"] == str(shipped_model(model_format))  # type: ignore[arg-type]
        assert " ms for its first picture; int8 is exact " in model["detail"]
        assert model["int8_kernels"] in ("exact", "widened")


def test_the_tables_say_the_same(workshop: Path, capsys: Captured) -> None:
    assert main(["doctor"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "✗" not in out
    for text in ("numpy", "edgedf convert CHECKPOINT", "ms for its first picture", "cpu"):
        assert text in out


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ((3, 10, 13), " (no wheel of onnxruntime 1.32.0: an older one is used)"),
        ((3, 11, 0), ""),
        ((3, 14, 1), ""),
        ((3, 15, 0), " (convert, export and distill need 3.10 to 3.14: no wheels for a newer one)"),
    ],
)
def test_a_python_that_pinned_packages_lack_wheels_for_is_told(
    version: tuple[int, int, int], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgedf.cli import doctor as command

    monkeypatch.setattr(sys, "version_info", version)
    assert command._without_wheels() == said


def doctor(folder: Path, environment: dict[str, str]) -> tuple[int, dict[str, Any]]:
    done = run("doctor", "--json", cwd=folder, environment=environment)
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout)


def test_without_any_runtime_it_says_so_and_what_to_install(tmp_path: Path) -> None:
    environment = without(tmp_path / "site", *RUNTIMES, "torch", "scipy")
    code, found = doctor(tmp_path, environment)
    assert code == 1
    assert found["detect"] is False
    extras = {extra["name"]: extra for extra in found["extras"]}
    assert extras["tflite"]["missing"] == ["ai-edge-litert"]
    assert extras["onnx"]["missing"] == ["onnxruntime"]
    assert set(extras["export"]["missing"]) == {"ai-edge-litert", "onnxruntime", "torch"}
    assert "scipy" in extras["distill"]["missing"]
    assert extras[""]["missing"] == []
    assert [model["detail"] for model in found["models"]] == ["no runtime is installed"] * 2

    done = run("doctor", cwd=tmp_path, environment=environment)
    assert done.returncode == 1
    assert "pip install 'edgedf[tflite]'" in done.stdout
    assert "✗" in done.stdout


def test_one_runtime_is_enough_for_detect_to_work(tmp_path: Path) -> None:
    code, found = doctor(tmp_path, without(tmp_path / "site", "ai_edge_litert", "tflite_runtime"))
    assert code == 0
    assert [model["runs"] for model in found["models"]] == [False, True]


def test_a_runtime_that_cannot_be_loaded_is_shown_with_the_reason(tmp_path: Path) -> None:
    code, found = doctor(tmp_path, with_broken(tmp_path / "site", "onnxruntime"))
    assert code == 0
    tflite, onnx = found["models"]
    assert tflite["runs"]
    assert not onnx["runs"]
    assert "libedge.so.1: cannot open shared object file" in onnx["detail"]


def test_a_runtime_that_crashes_is_a_finding_and_no_crash(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "onnxruntime.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    code, found = doctor(tmp_path, with_broken(site))
    assert code == 0
    assert found["models"][1]["detail"] == "crashed with signal 9"


def test_a_package_without_the_metadata_of_edgedf_is_told_apart(tmp_path: Path) -> None:
    # Hidden as a distribution alone: its modules can be imported, as from a copied folder.
    environment = without(tmp_path / "site")
    helper = tmp_path / "site" / "sitecustomize.py"
    text = helper.read_text()
    assert text.count("not in self.names:") == 1
    helper.write_text(text.replace("not in self.names:", "!= 'edgedf':"))
    code, found = doctor(tmp_path, environment)
    assert code == 0
    assert found["extras"] == []
    assert "not installed, so what it needs is not known" in found["system"]["edgedf"]


def test_a_lost_sample_is_reported_and_no_crash(
    workshop: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    import edgedf.sample

    def lost() -> None:
        raise DataError("The sample is gone.")

    monkeypatch.setattr(edgedf.sample, "images", lost)
    assert main(["doctor", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [model["detail"] for model in found["models"]] == ["The sample is gone."] * 2
