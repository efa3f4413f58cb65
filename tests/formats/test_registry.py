"""The registry, and what a third format has to bring: one class."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import edgedf
from edgedf import formats
from edgedf.artifact import read_artifact, read_model
from edgedf.cli import main
from edgedf.errors import ConfigError, MissingExtra
from edgedf.formats.backend import Backend
from edgedf.formats.base import ModelGraph
from edgedf.formats.container import Embedded
from edgedf.formats.tflite import TFLite
from edgedf.spec import ModelSpec
from tests.quantize.students import small_exports

MAGIC = b"TOY!"


class Toy(TFLite):
    """A flatbuffer with four bytes in front, which no other format recognises."""

    name = "toy"

    def recognises(self, data: bytes) -> bool:
        return data.startswith(MAGIC)

    def read_spec(self, data: bytes, path: Path) -> Embedded:
        return super().read_spec(_inside(data), path)

    def embed(self, model: bytes, spec: ModelSpec) -> bytes:
        return MAGIC + super().embed(_inside(model), spec)

    def open_backend(self, model: bytes, *, threads: int = 1, reference: bool = False) -> Backend:
        return super().open_backend(_inside(model), threads=threads, reference=reference)

    def graph(self, model: bytes) -> ModelGraph:
        return super().graph(_inside(model))


def _inside(data: bytes) -> bytes:
    return data[len(MAGIC) :] if data.startswith(MAGIC) else data


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A float model in the toy format; the registry knows it while a test runs."""
    monkeypatch.setitem(formats.REGISTRY, "toy", f"{__name__}:Toy")
    exports = small_exports()
    path = tmp_path / "student.toy"
    path.write_bytes(Toy().embed(exports.models["tflite"], exports.specs["tflite"]))
    return path


def test_formats_are_known_by_name_and_by_content() -> None:
    assert [entry.name for entry in formats.formats()] == list(formats.REGISTRY)
    models = small_exports().models
    for name in formats.REGISTRY:
        found = formats.format_of(models[name])
        assert found is formats.format_named(name)
    assert formats.format_of(b"no model at all") is None
    with pytest.raises(ConfigError, match="no format 'coreml'"):
        formats.format_named("coreml")


@pytest.mark.parametrize(
    ("name", "modules", "missing"),
    [
        ("tflite", ("graph", "parsed", "weights", "layers"), "ai_edge_litert"),
        ("onnx", ("graph", "parsed", "weights", "layers"), "onnx"),
    ],
)
def test_without_the_tools_it_says_what_to_install(
    name: str, modules: tuple[str, ...], missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_exports().models[name]
    for module in modules:
        monkeypatch.delitem(sys.modules, f"edgedf.formats.{name}.{module}", raising=False)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingExtra, match=rf"Reading a .{name} model.*convert"):
        formats.open_graph(model, name)


def test_a_third_format_is_converted_proved_verified_compared_and_described(
    toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert read_model(toy)[0] == "toy"
    report = edgedf.convert(toy, calibration=edgedf.CalibrationImages(samples=8), out=tmp_path)
    (model,) = report.models
    assert report.passed and model.written and model.path.suffix == ".toy"
    assert [c.model for c in report.comparisons] == ["toy int8", "toy int8"]
    assert model.delegate_partitions == 1 and model.float_operators == ()
    artifact = read_artifact(model.path)
    assert (artifact.format, artifact.spec.precision) == ("toy", "int8")

    def run(*arguments: str) -> dict[str, object]:
        capsys.readouterr()
        # A verdict is no mistake: pass, fail, cannot tell.
        assert main([*arguments, "--json"]) in (0, 1, 2), capsys.readouterr().err
        found: dict[str, object] = json.loads(capsys.readouterr().out)
        return found

    assert run("info", str(model.path))["format"] == "toy"
    compared = run("diff", str(toy), str(model.path), "--no-latency")
    assert compared["same_format"] is True
    limits = [f"--{name}=1" for name in ("auc-drop-bound", "flips", "flips-bound", "auc-drop")]
    verified = run("verify", str(model.path), "--against", str(toy), *limits)
    assert verified["verdict"] in ("pass", "cannot tell")
