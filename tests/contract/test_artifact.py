import contextlib
import io
import os
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgedf import artifact
from edgedf.artifact import read_artifact
from edgedf.errors import ArtifactError, ArtifactUnreadable, SpecMissing, SpecUnsupported
from edgedf.formats.onnx.container import SEAL_KEY, SPEC_KEY
from edgedf.formats.onnx.container import embed as embed_onnx
from edgedf.formats.tflite.container import SEAL_FILE, SPEC_FILE
from edgedf.formats.tflite.container import embed as embed_tflite
from edgedf.formats.tflite.container import strip as strip_tflite
from tests.contract.specs import make_spec

# The reader looks at the identifier and the appended zip only, so any payload will do here; real
# models go through the runtimes in tests/runtime.
FLATBUFFER = b"\x1c\0\0\0TFL3" + bytes(range(256)) * 8


def onnx_model() -> bytes:
    node = helper.make_node("Identity", ["a"], ["b"])
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "ab"]
    model = helper.make_model(helper.make_graph([node], "g", info[:1], info[1:]))
    helper.set_model_props(model, {"other": "kept"})
    return bytes(model.SerializeToString())


MODELS = {
    "tflite": embed_tflite(FLATBUFFER, make_spec()),
    "onnx": embed_onnx(onnx_model(), make_spec()),
}


@pytest.mark.parametrize("kind", MODELS)
def test_the_spec_comes_back_and_the_content_decides_the_format(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(MODELS[kind])
    found = read_artifact(path)
    assert (found.format, found.spec, found.model) == (kind, make_spec(), MODELS[kind])


def test_tflite_metadata_are_a_plain_zip_after_the_flatbuffer() -> None:
    data = MODELS["tflite"]
    assert data.startswith(FLATBUFFER)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.namelist() == [SPEC_FILE, SEAL_FILE]
    assert strip_tflite(data) == FLATBUFFER
    assert strip_tflite(FLATBUFFER) == FLATBUFFER


def test_onnx_keeps_other_metadata_and_stays_valid() -> None:
    model = onnx.load_model_from_string(MODELS["onnx"])
    onnx.checker.check_model(model)
    assert {p.key for p in model.metadata_props} == {"other", SPEC_KEY, SEAL_KEY}


def test_embedding_again_replaces_the_spec_and_is_reproducible(tmp_path: Path) -> None:
    other = make_spec(name="other")
    for kind, embed in (("tflite", embed_tflite), ("onnx", embed_onnx)):
        again = embed(MODELS[kind], other)
        assert again == embed(again, other)
        path = tmp_path / kind
        path.write_bytes(again)
        assert read_artifact(path).spec.name == "other"
    assert embed_tflite(MODELS["tflite"], make_spec()) == MODELS["tflite"]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(MODELS)), st.floats(0, 1, exclude_max=True))
def test_a_file_cut_anywhere_is_refused(
    tmp_path_factory: pytest.TempPathFactory, kind: str, share: float
) -> None:
    data = MODELS[kind]
    path = tmp_path_factory.mktemp("cut") / "model"
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ArtifactError):
        read_artifact(path)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(MODELS)), st.data())
def test_damaged_bytes_give_an_artifact_or_our_error(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject
) -> None:
    damaged = bytearray(MODELS[kind])
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.mktemp("damaged") / "model"
    path.write_bytes(damaged)
    with contextlib.suppress(ArtifactError):  # such as the date of the zip's entries
        found = read_artifact(path)
        assert found.spec == make_spec()
        if kind == "onnx":  # the changes may undo each other
            assert bytes(damaged) == MODELS[kind]
        else:
            assert strip_tflite(found.model) == FLATBUFFER


@pytest.mark.parametrize("kind", MODELS)
def test_one_wrong_bit_of_a_weight_or_of_the_spec_is_noticed(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model"
    for place in (b"test-student", b"\x1c\0\0\0TFL3\0\1\2\3" if kind == "tflite" else b"Identity"):
        damaged = bytearray(MODELS[kind])
        damaged[damaged.index(place) + len(place) - 1] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(ArtifactUnreadable, match=r"checksum is wrong|damaged \(Bad CRC"):
            read_artifact(path)


def test_a_file_without_a_checksum_is_refused(tmp_path: Path) -> None:
    stream = io.BytesIO(FLATBUFFER)
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr(SPEC_FILE, make_spec().to_json())
    model = onnx.load_model_from_string(onnx_model())
    helper.set_model_props(model, {SPEC_KEY: make_spec().to_json()})
    for data in (stream.getvalue(), model.SerializeToString()):
        (tmp_path / "model").write_bytes(data)
        with pytest.raises(ArtifactUnreadable, match="checksum is wrong or missing"):
            read_artifact(tmp_path / "model")


def test_models_without_a_spec(tmp_path: Path) -> None:
    for name, data in (("a.tflite", FLATBUFFER), ("b.onnx", onnx_model())):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(SpecMissing, match="carries no edgedf spec"):
            read_artifact(tmp_path / name)
    stream = io.BytesIO(FLATBUFFER)
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr("labels.txt", "somebody else's metadata")
    (tmp_path / "c.tflite").write_bytes(stream.getvalue())
    with pytest.raises(SpecMissing):
        read_artifact(tmp_path / "c.tflite")


def test_an_onnx_model_with_its_weights_in_another_file_is_refused(tmp_path: Path) -> None:
    weights = numpy_helper.from_array(np.ones((64, 64), np.float32), "w")
    node = helper.make_node("MatMul", ["a", "w"], ["b"])
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [64, 64]) for name in "ab"]
    model = helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:], [weights]))
    model = onnx.load_model_from_string(embed_onnx(model.SerializeToString(), make_spec()))
    (tmp_path / "whole.onnx").write_bytes(model.SerializeToString())
    assert read_artifact(tmp_path / "whole.onnx").spec == make_spec()
    onnx.save(model, tmp_path / "split.onnx", save_as_external_data=True, size_threshold=0)
    with pytest.raises(ArtifactUnreadable, match="weights in another file"):
        read_artifact(tmp_path / "split.onnx")


def test_missing_folder_empty_and_foreign_files(tmp_path: Path) -> None:
    (tmp_path / "empty.tflite").write_bytes(b"")
    (tmp_path / "text.onnx").write_text("hello")
    for name in (".", "none.tflite", "empty.tflite", "text.onnx"):
        with pytest.raises(ArtifactUnreadable) as caught:
            read_artifact(tmp_path / name)
        assert caught.value.expected


def test_a_huge_spec_or_file_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.BytesIO(FLATBUFFER)
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(SPEC_FILE, " " * 50_000_000)
    assert len(stream.getvalue()) < 100_000
    (tmp_path / "bomb.tflite").write_bytes(stream.getvalue())
    with pytest.raises(SpecUnsupported, match="claims 50 MB"):
        read_artifact(tmp_path / "bomb.tflite")
    monkeypatch.setattr(artifact, "MAX_MODEL_BYTES", 10)
    (tmp_path / "large.tflite").write_bytes(FLATBUFFER)
    with pytest.raises(ArtifactUnreadable, match="MB"):
        read_artifact(tmp_path / "large.tflite")


def test_a_future_spec_is_refused(tmp_path: Path) -> None:
    data = MODELS["tflite"].replace(b'"schema_version": 1', b'"schema_version": 2')
    stream = io.BytesIO(FLATBUFFER)
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr(
            SPEC_FILE, make_spec().to_json().replace('"schema_version": 1', '"schema_version": 2')
        )
    assert data != MODELS["tflite"]
    (tmp_path / "future.tflite").write_bytes(stream.getvalue())
    with pytest.raises(SpecUnsupported, match="upgrade edgedf"):
        read_artifact(tmp_path / "future.tflite")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_damaged_compressed_spec_is_refused(tmp_path: Path, method: int) -> None:
    stream = io.BytesIO(FLATBUFFER)
    with zipfile.ZipFile(stream, "a", method) as archive:
        archive.writestr(SPEC_FILE, make_spec().to_json())
    damaged = bytearray(stream.getvalue())
    for at in range(len(FLATBUFFER) + 60, len(FLATBUFFER) + 200):
        damaged[at] ^= 0x5A
    (tmp_path / "model.tflite").write_bytes(damaged)
    with pytest.raises(ArtifactUnreadable, match="damaged"):
        read_artifact(tmp_path / "model.tflite")


def test_a_spec_that_another_tool_has_compressed_is_read(tmp_path: Path) -> None:
    stream = io.BytesIO(FLATBUFFER)
    with (
        zipfile.ZipFile(io.BytesIO(MODELS["tflite"])) as ours,
        zipfile.ZipFile(stream, "a", zipfile.ZIP_DEFLATED) as archive,
    ):
        archive.writestr("labels.txt", "of that tool")
        for name in ours.namelist():
            archive.writestr(name, ours.read(name))
    (tmp_path / "model.tflite").write_bytes(stream.getvalue())
    assert read_artifact(tmp_path / "model.tflite").spec == make_spec()


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.tflite")
    with pytest.raises(ArtifactUnreadable, match="not a file"):
        read_artifact(tmp_path / "pipe.tflite")
