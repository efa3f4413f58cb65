import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch

from edgedf.artifact import ModelFormat
from edgedf.distill.networks.checkpoints import load_checkpoint, save_checkpoint
from edgedf.distill.networks.student import Student
from edgedf.distill.settings import StudentConfig
from edgedf.errors import (
    ArtifactUnreadable,
    CheckpointError,
    ConfigError,
    EdgedfError,
    SpecMismatch,
    SpecMissing,
    SpecUnsupported,
)
from edgedf.formats.onnx.container import embed as embed_onnx
from edgedf.formats.tflite.container import SPEC_FILE
from edgedf.formats.tflite.container import embed as embed_tflite
from edgedf.formats.tflite.container import strip as strip_tflite
from edgedf.quantize.making.input_type import described_input
from edgedf.quantize.models.run import open_model
from edgedf.quantize.sources.source import load_source, possible_formats, stem_of
from edgedf.runtime.models import shipped_model
from tests.contract.specs import make_spec
from tests.formats.stages import with_input_type
from tests.quantize.students import (
    METADATA,
    SMALL,
    small_checkpoint,
    small_exports,
    small_int8,
    small_model,
)

FORMATS: tuple[ModelFormat, ...] = ("tflite", "onnx")


def test_without_a_name_it_is_the_shipped_student_in_both_formats() -> None:
    source = load_source(None)
    assert not source.from_checkpoint
    assert list(source.models) == ["tflite", "onnx"]
    assert source.paths == (shipped_model("tflite"), shipped_model("onnx"))
    assert {spec.precision for spec in source.specs.values()} == {"fp32"}


@pytest.mark.parametrize(
    ("source", "stem", "formats"),
    [
        (None, "student", FORMATS),
        ("a/b_fp32.onnx", "b", ("onnx",)),
        (Path("b.TFLITE"), "b", ("tflite",)),
        ("b.safetensors", "b", FORMATS),
    ],
)
def test_names_of_results_are_known_before_anything_is_loaded(
    source: str | Path | None, stem: str, formats: tuple[str, ...]
) -> None:
    assert stem_of(source) == stem
    assert possible_formats(source) == formats


@pytest.mark.parametrize("model_format", FORMATS)
def test_a_float_model_gives_its_own_format(model_format: ModelFormat) -> None:
    source = load_source(small_model(model_format))
    assert list(source.models) == [model_format]
    image = np.random.default_rng(0).integers(0, 256, (SMALL, SMALL, 3), np.uint8)
    wanted, found = small_exports().torch_run(image), source.originals[model_format](image)
    for name in ("fake_logit", "defocus_map"):
        np.testing.assert_allclose(found[name], wanted[name], atol=1e-4)


@pytest.mark.parametrize("model_format", FORMATS)
def test_a_float_model_with_another_input_is_refused(
    model_format: ModelFormat, tmp_path: Path
) -> None:
    changed = with_input_type(small_exports().models[model_format], model_format, "float32")
    spec = small_exports().specs[model_format]
    spec = spec.with_changes(input=described_input(spec.input, "float32"))
    path = tmp_path / f"float.{model_format}"
    embed = embed_tflite if model_format == "tflite" else embed_onnx
    path.write_bytes(embed(changed, spec))
    with pytest.raises(ConfigError, match="takes float32 input"):
        load_source(path)


def test_a_student_of_another_width_and_size_is_converted_like_any_other(tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        config = StudentConfig(input_size=96, decoder_channels=16, blocks=12, local_blocks=1)
        path = save_checkpoint(tmp_path / "own.safetensors", Student(config).eval(), METADATA)
    source = load_source(path, ["onnx"])
    assert source.specs["onnx"].input.height == 96
    image = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    made = open_model(source.models["onnx"].file, "onnx", source.specs["onnx"])(image)
    wanted = source.originals["onnx"](image)
    assert made["defocus_map"].shape == (24, 24)
    for name in ("fake_logit", "defocus_map"):
        np.testing.assert_allclose(made[name], wanted[name], atol=1e-4)


# Checkpoints that cannot be used


def without_its_metadata() -> bytes:
    student, _ = load_checkpoint(small_checkpoint())
    return bytes(safetensors.torch.save(dict(student.state_dict())))


def with_wrong_keys() -> bytes:
    data = safetensors.numpy.load(small_checkpoint().read_bytes())
    data["blur.wait"] = data.pop("blur.weight")
    return bytes(safetensors.numpy.save(data, metadata_of(small_checkpoint())))


def with_nan() -> bytes:
    data = safetensors.numpy.load(small_checkpoint().read_bytes())
    data["blur.weight"] = np.full_like(data["blur.weight"], np.nan)
    return bytes(safetensors.numpy.save(data, metadata_of(small_checkpoint())))


def without_a_licence() -> bytes:
    metadata = metadata_of(small_checkpoint())
    data = safetensors.numpy.load(small_checkpoint().read_bytes())
    described = metadata["edgedf"].replace('"licence"', '"license"')
    return bytes(safetensors.numpy.save(data, {"edgedf": described}))


def with_a_number_for_a_name() -> bytes:
    metadata = metadata_of(small_checkpoint())
    data = safetensors.numpy.load(small_checkpoint().read_bytes())
    described = {**json.loads(metadata["edgedf"]), "name": 5}
    return bytes(safetensors.numpy.save(data, {"edgedf": json.dumps(described)}))


def metadata_of(path: Path) -> dict[str, str]:
    with safetensors.safe_open(str(path), framework="numpy") as file:
        return dict(file.metadata())


def saved_by_torch() -> bytes:
    stream = io.BytesIO()
    torch.save({"blur.weight": torch.zeros(3)}, stream)
    return stream.getvalue()


CHECKPOINTS: dict[str, tuple[Callable[[], bytes], str]] = {
    "wrong keys": (with_wrong_keys, "missing blur.weight; unknown blur.wait"),
    "other weights": (without_its_metadata, "not of an edgedf student"),
    "no licence": (without_a_licence, "licence is missing"),
    "a number for a name": (with_a_number_for_a_name, "name is int, not string"),
    "not a number": (with_nan, "not finite"),
    "pickle": (lambda: pickle.dumps({"weights": [1.0]}), "pickle"),
    "torch.save": (saved_by_torch, "pickle"),
    "cut off": (lambda: small_checkpoint().read_bytes()[:100_000], "cut off"),
    "empty": (lambda: b"", "cut off or damaged"),
    "text": (lambda: b"not a checkpoint at all", "cut off or damaged"),
}


@pytest.mark.parametrize("fault", CHECKPOINTS)
def test_a_bad_checkpoint_is_refused(fault: str, tmp_path: Path) -> None:
    content, said = CHECKPOINTS[fault]
    path = tmp_path / "student.safetensors"
    path.write_bytes(content())
    with pytest.raises(CheckpointError) as caught:
        load_source(path)
    assert said in caught.value.message
    assert caught.value.expected


def test_a_pickle_is_never_unpickled(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "exploded",))

    for name in ("student.safetensors", "student.pt"):
        (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(EdgedfError, match="pickle"):
            raise_with_everything_said(tmp_path / name)
    assert not (tmp_path / "exploded").exists()


def raise_with_everything_said(path: Path) -> None:
    try:
        load_source(path)
    except EdgedfError as error:
        raise EdgedfError(str(error)) from error


@pytest.mark.parametrize("name", ["gone.safetensors", "gone.pt", "gone"])
def test_a_checkpoint_that_is_not_there_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"{name} does not exist"):
        load_source(tmp_path / name)


def test_a_folder_is_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(CheckpointError, match="not a file"):
        load_source(tmp_path / "folder.safetensors")
    with pytest.raises(ConfigError, match="can be converted"):
        load_source(tmp_path)


# Models that cannot be used


def from_the_future(model_format: ModelFormat) -> bytes:
    text = small_exports().specs[model_format].to_json()
    later = text.replace('"schema_version": 1', '"schema_version": 99')
    assert later != text
    if model_format == "onnx":
        import onnx

        proto = onnx.load_model_from_string(small_exports().models["onnx"])
        proto.metadata_props[0].value = later
        return bytes(proto.SerializeToString())
    stream = io.BytesIO(strip_tflite(small_exports().models["tflite"]))
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr(SPEC_FILE, later)
    return stream.getvalue()


def with_another_spec(model_format: ModelFormat) -> bytes:
    spec = make_spec(2 * SMALL, precision="fp32", calibration=None)
    embed = embed_tflite if model_format == "tflite" else embed_onnx
    return embed(small_exports().models[model_format], spec)


def without_a_spec(model_format: ModelFormat) -> bytes:
    if model_format == "tflite":
        return strip_tflite(small_exports().models["tflite"])
    return small_int8("onnx")


def cut_off(model_format: ModelFormat) -> bytes:
    model = small_exports().models[model_format]
    return model[: len(model) // 2]


MODELS: dict[str, tuple[Callable[[ModelFormat], bytes], type[EdgedfError], str]] = {
    "no spec": (without_a_spec, SpecMissing, "carries no edgedf spec"),
    "future": (from_the_future, SpecUnsupported, "schema version 99"),
    "mismatch": (with_another_spec, SpecMismatch, "its spec says image uint8 [1, 128, 128, 3]"),
    "empty": (lambda _: b"", ArtifactUnreadable, "is empty"),
    "text": (lambda _: b"no model, whatever it is called", ArtifactUnreadable, "is no model"),
}


@pytest.mark.parametrize("fault", MODELS)
@pytest.mark.parametrize("model_format", FORMATS)
def test_a_bad_model_is_refused(model_format: ModelFormat, fault: str, tmp_path: Path) -> None:
    content, kind, said = MODELS[fault]
    path = tmp_path / f"model.{model_format}"
    path.write_bytes(content(model_format))
    with pytest.raises(kind) as caught:
        load_source(path)
    assert said in caught.value.message
    assert caught.value.expected


@pytest.mark.parametrize("model_format", FORMATS)
def test_a_model_that_was_cut_off_is_refused(model_format: ModelFormat, tmp_path: Path) -> None:
    path = tmp_path / f"model.{model_format}"
    path.write_bytes(cut_off(model_format))
    with pytest.raises((ArtifactUnreadable, SpecMissing)) as caught:
        load_source(path)
    assert "cut off" in caught.value.message or "lost its end" in caught.value.next_step


@pytest.mark.parametrize("model_format", FORMATS)
def test_a_model_that_is_int8_already_is_refused(model_format: ModelFormat, tmp_path: Path) -> None:
    embed = embed_tflite if model_format == "tflite" else embed_onnx
    path = tmp_path / f"student_int8.{model_format}"
    path.write_bytes(embed(small_int8(model_format), make_spec(SMALL)))
    with pytest.raises(ConfigError, match="is int8 already"):
        load_source(path)


def test_one_format_cannot_be_made_from_the_other() -> None:
    with pytest.raises(ConfigError, match=r"\.onnx model cannot be made from small\.tflite"):
        load_source(small_model("tflite"), ["tflite", "onnx"])
