from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from skimage import data
from torch import Tensor

from edgedf.errors import CheckpointError, DataError
from experiments.fakes import autoencoder
from experiments.fakes.autoencoder import Autoencoder
from tests.experiments.fakes import weights

PHOTOGRAPH = np.ascontiguousarray(data.astronaut()[100:164, 200:248])


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return weights.write(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def model(paths: tuple[Path, Path]) -> Autoencoder:
    return Autoencoder.load(*paths)


# --- the structure, written out from its description ---------------------------------------------


def conv(x: Tensor, state: weights.State, name: str, stride: int = 1) -> Tensor:
    return F.conv2d(x, state[f"{name}.weight"], state.get(f"{name}.bias"), stride, padding=1)


def block(x: Tensor, state: weights.State, index: int, gated: bool) -> Tensor:
    if gated:
        gate = F.conv2d(x, state[f"{index}.pool.0.weight"])
        scale, shift = state[f"{index}.pool.1.weight"], state[f"{index}.pool.1.bias"]
        # Group normalisation by hand: 4 groups of channels, over the whole picture.
        grouped = gate.reshape(len(x), 4, -1)
        mean, variance = grouped.mean(2, keepdim=True), grouped.var(2, correction=0, keepdim=True)
        gate = ((grouped - mean) / (variance + 1e-5).sqrt()).reshape(gate.shape)
        gate = F.relu(gate * scale[:, None, None] + shift[:, None, None])
        x = x + F.conv2d(gate, state[f"{index}.pool.3.weight"])
    inner = F.relu(conv(x, state, f"{index}.conv.0"))
    inner = F.relu(conv(inner, state, f"{index}.conv.2"))
    return F.relu(x + conv(inner, state, f"{index}.conv.4"))


def by_hand(x: Tensor, encoder: weights.State, decoder: weights.State) -> Tensor:
    x = conv(x, encoder, "0")
    for index in range(1, 14):
        if index in weights.ENCODER_STRIDED:
            x = conv(x, encoder, str(index), stride=2)
        else:
            x = block(x, encoder, index, gated=index >= 11)
    x = conv(x, encoder, "14")
    x = F.relu(conv(3 * torch.tanh(x / 3), decoder, "1"))
    for index in (3, 4, 5):
        x = block(x, decoder, index, gated=True)
    for index, blocks in ((7, (8, 9, 10)), (12, (13, 14, 15)), (17, (18,))):
        x = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        x = conv(x, decoder, str(index))
        for following in blocks:
            x = block(x, decoder, following, gated=False)
    return conv(x, decoder, "19").clamp(0, 1)


@pytest.mark.parametrize("width", [4, 8, 10])
def test_it_is_the_structure_described(tmp_path: Path, width: int) -> None:
    paths = weights.write(tmp_path, width)
    encoder, decoder = ({k: v.float() for k, v in load_file(path).items()} for path in paths)
    x = torch.from_numpy(PHOTOGRAPH.copy()).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        found, expected = Autoencoder.load(*paths)(x), by_hand(x, encoder, decoder)
    assert found.shape == x.shape
    assert found.std() > 0.01
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    # Eight bits, rounded to the nearest; a value on the border may fall either way.
    rounded = np.rint(expected[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    made = Autoencoder.load(*paths).reconstruct(PHOTOGRAPH[None])[0]
    assert (made != rounded).mean() < 0.02


def test_the_gate_carries_what_is_global(model: Autoencoder) -> None:
    # A single normalisation reaches from one end to the other, where no convolution does.
    x = torch.full((1, 3, 8, 2048), 0.5)
    y = x.clone()
    y[..., -64:] = 1.0
    with torch.inference_mode():
        difference = (model(x) - model(y)).abs()[..., :64].max()
        gates = [layer.pool for layer in model.modules() if getattr(layer, "pool", None)]
        assert len(gates) == 6
        kept = [gate[3].weight.clone() for gate in gates]
        for gate in gates:
            gate[3].weight.zero_()
        without = (model(x) - model(y)).abs()[..., :64].max()
        for gate, weight in zip(gates, kept, strict=True):
            gate[3].weight.copy_(weight)
    assert difference > 1e-4
    assert without == 0


# --- photographs ---------------------------------------------------------------------------------


@settings(max_examples=12, deadline=None)
@given(st.integers(8, 41), st.integers(8, 41), st.integers(1, 2))
def test_any_size_comes_back_as_it_was(height: int, width: int, count: int) -> None:
    torch.manual_seed(0)
    model = Autoencoder(width=4).eval()
    images = np.stack([PHOTOGRAPH[:height, :width]] * count)
    made = model.reconstruct(images)
    assert made.shape == images.shape
    assert made.dtype == np.uint8


def test_what_is_missing_to_a_multiple_of_eight_is_reflected(model: Autoencoder) -> None:
    odd = PHOTOGRAPH[:43, :30]
    padded = np.pad(odd, ((0, 5), (0, 2), (0, 0)), mode="reflect")
    expected = model.reconstruct(padded[None])[0, :43, :30]
    np.testing.assert_array_equal(model.reconstruct(odd[None])[0], expected)


def test_the_same_picture_gives_the_same_fake_in_any_batch(model: Autoencoder) -> None:
    images = np.stack([PHOTOGRAPH, PHOTOGRAPH[::-1], 255 - PHOTOGRAPH])
    images.setflags(write=False)
    together = model.reconstruct(images)
    assert not np.array_equal(together[0], together[1][::-1])
    for image, made in zip(images, together, strict=True):
        np.testing.assert_array_equal(model.reconstruct(image[None])[0], made)


def test_no_picture_is_none_back(model: Autoencoder) -> None:
    assert model.reconstruct(np.empty((0, 16, 16, 3), np.uint8)).shape == (0, 16, 16, 3)


def test_a_loaded_autoencoder_is_frozen(model: Autoencoder) -> None:
    assert not model.training
    assert not any(weight.requires_grad for weight in model.parameters())
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((16, 16, 3), np.uint8),
        np.zeros((1, 16, 16, 1), np.uint8),
        np.zeros((1, 16, 16, 3), np.float32),
        np.zeros((1, 7, 16, 3), np.uint8),
    ],
)
def test_other_arrays_are_refused(model: Autoencoder, images: np.ndarray) -> None:
    with pytest.raises(DataError, match="Cannot encode"):
        model.reconstruct(images)


def test_a_picture_that_would_fill_the_memory_is_refused(
    model: Autoencoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autoencoder, "MAX_PIXELS", 300)
    with pytest.raises(DataError, match="20 x 16 pixels"):
        model.reconstruct(np.zeros((1, 16, 20, 3), np.uint8))


# --- bad files -----------------------------------------------------------------------------------


def test_a_missing_file_and_a_folder_are_named(paths: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no-such"):
        Autoencoder.load(tmp_path / "no-such.safetensors", paths[1])
    with pytest.raises(CheckpointError, match="not a file"):
        Autoencoder.load(paths[0], tmp_path)


def test_a_pickle_is_not_loaded(paths: tuple[Path, Path], tmp_path: Path) -> None:
    torch.save(weights.encoder_state(), tmp_path / "encoder.pth")
    with pytest.raises(CheckpointError, match="a pickle is never loaded"):
        Autoencoder.load(tmp_path / "encoder.pth", paths[1])


def test_a_file_that_is_cut_off_is_refused(paths: tuple[Path, Path], tmp_path: Path) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(paths[1].read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="cut off"):
        Autoencoder.load(paths[0], cut)


def test_a_file_that_is_too_large_is_not_read(
    paths: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autoencoder, "MAX_FILE_BYTES", 1000)
    with pytest.raises(CheckpointError, match="MB"):
        Autoencoder.load(*paths)


def test_halves_that_are_swapped_are_noticed(paths: tuple[Path, Path]) -> None:
    with pytest.raises(CheckpointError, match="no encoder of this structure") as caught:
        Autoencoder.load(paths[1], paths[0])
    assert "encoder first" in caught.value.next_step


def test_halves_of_different_widths_are_refused(paths: tuple[Path, Path], tmp_path: Path) -> None:
    wide = weights.write(tmp_path, width=12)
    with pytest.raises(CheckpointError, match=r"1\.weight in .* \(12, 32, 3, 3\)"):
        Autoencoder.load(paths[0], wide[1])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda state: state.pop("13.pool.0.weight"), r"lacks 13\.pool\.0\.weight"),
        (lambda state: state.update({"20.weight": torch.zeros(1)}), r"unknown 20\.weight"),
        (lambda state: state["7.conv.2.bias"].fill_(torch.inf), "not finite"),
        (lambda state: state.update({"14.bias": torch.zeros(32, dtype=torch.int32)}), "int32"),
        (lambda state: state.update({"0.weight": torch.zeros(600, 3, 3, 3)}), r"\(600, 3, 3, 3\)"),
    ],
)
def test_damaged_weights_are_named(
    paths: tuple[Path, Path], tmp_path: Path, damage: object, message: str
) -> None:
    state = weights.encoder_state()
    damage(state)  # type: ignore[operator]
    save_file(state, tmp_path / "damaged.safetensors")
    with pytest.raises(CheckpointError, match=message):
        Autoencoder.load(tmp_path / "damaged.safetensors", paths[1])
