import json
import pickle
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedf.distill.networks import checkpoints
from edgedf.distill.networks.checkpoints import load_checkpoint, save_checkpoint
from edgedf.distill.networks.layers import Conv
from edgedf.distill.networks.student import Student
from edgedf.distill.settings import StudentConfig
from edgedf.errors import CheckpointError
from tests.distill.networks.samples import TINY, picture, with_a_head

FEATURES = 2 * 672


def convolutions(network: torch.nn.Module) -> list[Conv]:
    return [layer for layer in network.modules() if isinstance(layer, Conv)]


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A checkpoint."""
    path = tmp_path_factory.mktemp("student") / "student.safetensors"
    return save_checkpoint(path, Student(TINY), {"name": "tiny"}).read_bytes()


@pytest.fixture
def checkpoint(content: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "student.safetensors"
    path.write_bytes(content)
    return path


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    student = with_a_head(TINY)
    path = save_checkpoint(tmp_path / "a.safetensors", student, {"name": "tiny", "extra": [1]})
    again, metadata = load_checkpoint(path)
    assert metadata["extra"] == [1]
    assert metadata["format_version"] == 2
    assert metadata["input"] == {"size": 32, "mean": [127.0] * 3, "std": [128.0] * 3}
    assert again.config == TINY
    assert not again.training
    assert again.state_dict().keys() >= {"centre", "deviation", "spreads.0.weight", "fake.weight"}
    for name, value in student.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    with torch.no_grad():
        assert torch.equal(again(picture()).fake_logit, student(picture()).fake_logit)
    assert path.read_bytes() == save_checkpoint(path, again, metadata).read_bytes()


@pytest.mark.parametrize(
    "config",
    [replace(TINY, high_pass=False, int8_weights=False), replace(TINY, blocks=16, local_blocks=0)],
)
def test_a_checkpoint_says_its_architecture(tmp_path: Path, config: StudentConfig) -> None:
    path = save_checkpoint(tmp_path / "a.safetensors", Student(config), {})
    again = load_checkpoint(path)[0]
    assert again.config == config
    assert (again.high_pass is not None) == config.high_pass
    assert {conv.int8_weights for conv in convolutions(again)} == {config.int8_weights}


@settings(max_examples=40, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_checkpoint_cut_anywhere_is_refused(
    content: bytes, tmp_path_factory: pytest.TempPathFactory, share: float
) -> None:
    path = tmp_path_factory.mktemp("cut") / "a.safetensors"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError):
        load_checkpoint(path)
    path.unlink()


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
        ({"format_version": 3}, {}, "has checkpoint format 3"),
        ({"format_version": 1}, {}, "has checkpoint format 1"),
        ({"format_version": None}, {}, "has checkpoint format None"),
        ({"architecture": {"blocks": "many"}}, {}, "none of ours"),
        ({"architecture": {"hidden": 128}}, {}, "none of ours"),
        ({"architecture": None}, {}, "none of ours"),
        ({"architecture": {"input_size": 10**9}}, {}, "none of ours"),
        ({"architecture": {"blocks": 10**9}}, {}, "none of ours"),
        ({"architecture": {"decoder_channels": 10**9}}, {}, "none of ours"),
        ({"architecture": {"local_blocks": 10**9}}, {}, "none of ours"),
        ({"architecture": {"high_pass": "yes"}}, {}, "none of ours"),
        ({"architecture": {"blocks": 12}}, {}, r"missing encoder\.stages\.5\.0"),
        ({}, {"surplus": torch.ones(1)}, "unknown surplus"),
        ({}, {"fake.weight": torch.ones(1, 9)}, r"fake\.weight in .* is .* \(1, 9\)"),
        ({}, {"fake.weight": torch.ones(1, FEATURES).half()}, r"torch\.float16"),
        ({}, {"centre": torch.zeros(FEATURES + 1)}, rf"centre in .* \({FEATURES + 1},\)"),
        ({}, {"fake.bias": torch.tensor([float("nan")])}, "not finite"),
        ({}, {"deviation": torch.full((FEATURES,), float("inf"))}, "not finite"),
    ],
)
def test_a_checkpoint_with_a_mistake_is_refused(
    checkpoint: Path, change: dict[str, object], tensors: dict[str, torch.Tensor], message: str
) -> None:
    _rewrite(checkpoint, change, tensors)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(checkpoint)


@settings(max_examples=60, deadline=None)
@given(share=st.floats(0, 1), value=st.integers(0, 255))
def test_a_byte_that_flipped_in_the_header_never_ends_in_a_traceback(
    content: bytes, tmp_path_factory: pytest.TempPathFactory, share: float, value: int
) -> None:
    path = tmp_path_factory.mktemp("flipped") / "a.safetensors"
    data = bytearray(content)
    # Eight bytes say how long the header is.
    data[int(share * (7 + int.from_bytes(data[:8], "little")))] = value
    path.write_bytes(data)
    try:
        student, _ = load_checkpoint(path)
    except CheckpointError as error:
        assert str(path) in error.message
    else:
        assert student.config.blocks >= 11
    path.unlink()


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
    monkeypatch.setattr(checkpoints, "STUDENT", checkpoints.STUDENT._replace(most_bytes=10))
    with pytest.raises(CheckpointError, match="MB"):
        load_checkpoint(foreign)


def test_diverged_weights_are_not_written(tmp_path: Path) -> None:
    student = Student(TINY)
    torch.nn.init.constant_(student.fake.bias, float("inf"))
    with pytest.raises(CheckpointError, match="not finite"):
        save_checkpoint(tmp_path / "a.safetensors", student, {})
    assert not list(tmp_path.iterdir())


def test_a_deviation_of_zero_is_refused(tmp_path: Path) -> None:
    student = Student(TINY)
    student.deviation[3] = 0
    path = save_checkpoint(tmp_path / "a.safetensors", student, {})
    with pytest.raises(CheckpointError, match="deviation"):
        load_checkpoint(path)
