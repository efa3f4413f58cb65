"""What a user has after ``pip install``: environments with one runtime each, and no torch.

Everything else in the suite runs where all extras are installed, so only this can tell that a
phone maker's machine needs no more than the README says.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import edgedf
import edgedf.sample
from edgedf import Detector

pytestmark = pytest.mark.environments

ROOT = Path(__file__).resolve().parents[2]
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
SOURCES = ("edgedf", "runtime", "quantize", "distill", "pyproject.toml", "README.md")
LICENCES = ("LICENSE", "NOTICE")
# What pip says when it is the network that failed, and not the package.
NO_NETWORK = (
    "Temporary failure in name resolution",
    "Name or service not known",
    "Network is unreachable",
    "Connection refused",
    "ConnectTimeoutError",
    "NewConnectionError",
    "ReadTimeoutError",
)


@dataclass(frozen=True)
class Recipe:
    """What is installed, and what has to come out of it.

    Args:
        extra: Of edgedf; empty for none.
        packages: Installed beside it.
        pinned: Whether the versions of ``constraints.txt`` apply.
        runtime: Distribution that has to run the models.
        model_format: Of the models it runs.
        shipped: Largest difference of a score to this environment's, for the float student.
        int8: Likewise, for the int8 one.
    """

    extra: str
    runtime: str
    model_format: Any
    packages: tuple[str, ...] = ()
    pinned: bool = True
    shipped: float = 1e-4
    int8: float = 1e-3


RECIPES = {
    "tflite": Recipe("tflite", "ai-edge-litert", "tflite"),
    "onnx": Recipe("onnx", "onnxruntime", "onnx"),
    # Other kernels and an older XNNPACK: close, not equal.
    "tflite-runtime": Recipe(
        "",
        "tflite-runtime",
        "tflite",
        packages=("tflite-runtime==2.14.0", "numpy==1.26.4", "opencv-python-headless<5"),
        pinned=False,
        shipped=1e-3,
        int8=0.05,
    ),
}


@dataclass(frozen=True)
class Environment:
    python: Path
    recipe: Recipe
    folder: Path

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run this environment's Python far from the checkout."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        return subprocess.run(
            [str(self.python), *map(str, arguments)],
            cwd=self.folder,
            env={**kept, "NO_COLOR": "1", "COLUMNS": "120"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def edgedf(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return self.run("-m", "edgedf.cli", *arguments)


def pip(arguments: Sequence[str | Path]) -> None:
    """Run pip; without a network the test is skipped, except in CI."""
    done = subprocess.run(
        [*PIP, *map(str, arguments)], capture_output=True, text=True, timeout=600, check=False
    )
    if done.returncode == 0:
        return
    said = (done.stderr or done.stdout).strip()
    if any(sign in said for sign in NO_NETWORK) and "CI" not in os.environ:
        pytest.skip(f"no package index can be reached: {said.splitlines()[-1][:200]}")
    pytest.fail(f"pip {' '.join(map(str, arguments))}\n{said}")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """edgedf as a wheel, built from a copy so that the checkout gets no build folder."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in (*SOURCES, *LICENCES):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, source / name)
    pip(["wheel", "--no-deps", "--wheel-dir", folder, source])
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="session")
def int8_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the shipped student as int8, made with all extras."""
    folder = tmp_path_factory.mktemp("int8")
    # Whether the two agree is asked elsewhere: here it is only run.
    calibration = edgedf.CalibrationImages(samples=16)
    edgedf.convert(calibration=calibration, out=folder, keep_failing=True)
    return folder


@pytest.fixture(scope="module", params=RECIPES)
def environment(
    request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Environment]:
    recipe = RECIPES[request.param]
    if recipe.runtime == "tflite-runtime" and sys.version_info >= (3, 12):
        pytest.skip("tflite-runtime has no builds for Python 3.12 and newer")
    folder = tmp_path_factory.mktemp(request.param)
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True, timeout=120
    )
    python = folder / "venv" / "bin" / "python"
    extra = f"[{recipe.extra}]" if recipe.extra else ""
    constraints: list[str | Path] = (
        ["--constraint", ROOT / "constraints.txt"] if recipe.pinned else []
    )
    wanted = [f"edgedf{extra} @ {wheel.as_uri()}", *recipe.packages]
    pip(["--python", python, "install", "--no-compile", *constraints, *wanted])
    yield Environment(python, recipe, folder)
    shutil.rmtree(folder)  # 300 MB, and pytest keeps the folders of three runs


def photographs() -> list[Path]:
    """Eight pictures of the shipped sample, real ones and fakes."""
    pictures = edgedf.sample.images()
    chosen = [[p for p in pictures if p.label == label][:4] for label in ("real", "fake")]
    return [picture.path for half in chosen for picture in half]


_MODULES = """
import importlib.util, json, edgedf
names = ("torch", "tensorflow", "onnx", "onnxruntime", "ai_edge_litert", "tflite_runtime",
         "ai_edge_quantizer", "scipy")
found = {name: importlib.util.find_spec(name) is not None for name in names}
print(json.dumps({"edgedf": edgedf.__file__, **found}))
"""


def test_only_the_one_runtime_is_installed(environment: Environment) -> None:
    found = json.loads(environment.run("-c", _MODULES).stdout)
    assert Path(found.pop("edgedf")).is_relative_to(environment.folder)
    there = {name for name, is_there in found.items() if is_there}
    assert there == {environment.recipe.runtime.replace("-", "_")}


def verdicts(environment: Environment, *options: str | Path) -> tuple[str, list[dict[str, Any]]]:
    """What the environment says about the pictures: its standard error, and its results."""
    pictures = photographs()
    done = environment.edgedf("detect", "--json", *options, *pictures)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["source"] for line in lines] == [str(picture) for picture in pictures]
    assert len(lines) >= 8
    return done.stderr, lines


def assert_agree(
    lines: Sequence[Mapping[str, Any]], model: Path, tolerance: float, map_tolerance: float
) -> None:
    """Compare with what the same file gives here, with every extra installed."""
    with Detector(model) as detector:
        here = detector.detect_batch(photographs())
    for line, detection in zip(lines, here, strict=True):
        assert line["label"] in ("real", "fake", "unsure")
        assert line["model"] == detection.model
        assert line["score"] == pytest.approx(detection.score, abs=tolerance)
        blur = line["defocus_sigma_px"]["mean"]
        assert blur == pytest.approx(float(detection.defocus_map.mean()), abs=map_tolerance)
    assert len({line["score"] for line in lines}) > len(lines) / 2  # no dead output


def test_detect_works_with_the_shipped_student(environment: Environment) -> None:
    recipe = environment.recipe
    said, lines = verdicts(environment)
    assert f", {recipe.runtime} " in said.splitlines()[0]
    model = Path(said.removeprefix("Model: ").partition(" (")[0])
    assert model.is_relative_to(environment.folder)  # its own, from the wheel
    assert model.name == f"student.{recipe.model_format}"
    assert_agree(lines, model, recipe.shipped, 1e-3)


def test_detect_works_with_an_int8_model(environment: Environment, int8_models: Path) -> None:
    recipe = environment.recipe
    model = int8_models / f"student_int8.{recipe.model_format}"
    said, lines = verdicts(environment, "--model", model)
    assert f"int8, {recipe.runtime} " in said.splitlines()[0]
    assert_agree(lines, model, recipe.int8, 0.05)


def test_the_other_format_and_converting_say_what_to_install(
    environment: Environment, int8_models: Path
) -> None:
    other = "onnx" if environment.recipe.model_format == "tflite" else "tflite"
    model = int8_models / f"student_int8.{other}"
    commands = {
        f"edgedf[{other}]": ("detect", "--model", model, photographs()[0]),
        "edgedf[convert]": ("convert", "--out", "build"),
    }
    for extra, command in commands.items():
        done = environment.edgedf(*command)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert f"pip install '{extra}'" in done.stderr


def test_info_and_doctor_work(environment: Environment, int8_models: Path) -> None:
    recipe = environment.recipe
    for model_format in ("tflite", "onnx"):
        done = environment.edgedf("info", "--json", int8_models / f"student_int8.{model_format}")
        assert done.returncode == 0, done.stderr
        loads_in = json.loads(done.stdout)["loads_in"]
        if model_format == recipe.model_format:
            assert loads_in.startswith(f"{recipe.runtime} ")
        else:
            assert loads_in is None
    done = environment.edgedf("doctor", "--json")
    assert done.returncode == 0, done.stdout
    found = json.loads(done.stdout)
    assert found["detect"] is True
    runs = {model["format"]: model["runs"] for model in found["models"]}
    assert runs == {f: f == recipe.model_format for f in ("tflite", "onnx")}
    missing = {extra["name"]: extra["missing"] for extra in found["extras"]}
    assert missing[""] == []
    assert missing[recipe.model_format] == []
    assert "torch" in missing["export"]
