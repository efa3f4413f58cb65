from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedf.distill.networks.layers import MEAN, STD, HighPass
from edgedf.distill.networks.probe import Calibration
from edgedf.distill.networks.teacher import Branch, Teacher, improved_map
from edgedf.distill.settings import MODALITIES, TeacherConfig
from edgedf.errors import ConfigError
from tests.distill.networks.samples import (
    CONFIG,
    DENSE,
    FEATURES,
    maps,
    photographs,
    probe,
    trained,
)
from tests.distill.pictures import SIDE

# What branches see


def test_each_branch_shows_the_encoder_another_picture() -> None:
    image, dense = photographs(), maps()
    rgb, frequency, defocus = (Branch(name, CONFIG) for name in MODALITIES)
    assert torch.equal(rgb.seen(image, dense), image)
    assert torch.equal(frequency.seen(image, dense), HighPass()(image))
    seen = defocus.seen(image, dense)
    assert seen.shape == image.shape
    # The same in all colours, 50 grey levels a pixel of blur.
    assert torch.equal(seen[:, 0], seen[:, 2])
    small = torch.nn.functional.avg_pool2d(seen[:, :1], 4)
    torch.testing.assert_close(small.mean(), 50 * dense.mean(), rtol=0.01, atol=0)
    for blur, level in ((0.0, 0.0), (2.0, 100.0), (5.0, 250.0), (6.0, 255.0)):
        flat = defocus.seen(image, torch.full((2, 1, 24, 24), blur))
        assert torch.equal(flat, torch.full_like(flat, level))


def test_only_the_defocus_branch_looks_at_the_map() -> None:
    image, dense = photographs(), maps()
    for branch in trained().each():
        found = branch.statistics(image, dense)
        by_map = branch.modality == "defocus"
        assert torch.equal(branch.statistics(image, maps(seed=1)), found) == (not by_map)
        assert torch.equal(branch.statistics(photographs(seed=1), dense), found) == by_map


def test_statistics_are_mean_and_deviation_of_each_channel() -> None:
    (branch,) = trained(replace(CONFIG, modalities=("frequency",))).each()
    assert branch.features == FEATURES
    image = photographs()
    found = branch.statistics(image, maps())
    assert found.shape == (2, FEATURES)
    inner = branch.encoder.all_features((HighPass()(image) - MEAN) / STD)[1]
    assert len(inner) == 11
    parts = []
    for x in inner[9:]:
        values = x.flatten(2).double().numpy()
        parts += [values.mean(axis=2), values.std(axis=2, ddof=1)]
    np.testing.assert_allclose(found, np.concatenate(parts, axis=1), rtol=1e-3, atol=1e-4)


def test_a_picture_of_one_pixel_at_the_encoders_stride_has_no_deviation() -> None:
    branch = Branch("rgb", replace(CONFIG, first_block=11, last_block=11))
    found = branch.statistics(photographs()[..., :32, :32], maps())
    assert not found[:, 672:].any()
    assert found[:, :672].any()


@pytest.mark.parametrize(
    ("config", "features"),
    [
        (TeacherConfig(), 2 * (3 * 672 + 3 * 1152)),
        (TeacherConfig(backbone="lite2", first_block=0, last_block=1), 2 * (32 + 96)),
    ],
)
def test_the_number_of_features_follows_from_the_blocks(
    config: TeacherConfig, features: int
) -> None:
    branch = Branch("rgb", config)
    assert branch.features == features
    assert branch.statistics(photographs(1), maps(1)).shape == (1, features)


def test_encoders_are_frozen() -> None:
    assert not any(weight.requires_grad for weight in Teacher(CONFIG).parameters())
    asks = {name for name, weight in Teacher(DENSE).named_parameters() if weight.requires_grad}
    assert asks
    assert all(name.startswith("map_head.") for name in asks)


# The map of its head


def test_a_head_gives_a_map_in_pixels_at_stride_4_beside_the_same_verdict() -> None:
    image, dense = photographs(), maps()
    teacher, blind = trained(DENSE), trained()
    found, plain = teacher(image, dense), blind(image, dense)
    assert torch.equal(found.fake_logit, plain.fake_logit)
    assert torch.equal(found.by_modality, plain.by_modality)
    assert plain.defocus_map is None
    assert found.defocus_map.shape == (2, 1, SIDE // 4, SIDE // 4)
    assert torch.equal(teacher.defocus_map(image, dense), found.defocus_map)
    assert teacher.fuse([b.statistics(image, dense) for b in teacher.each()]).defocus_map is None
    # Without a head the map that is there already is the best there is.
    assert blind.defocus_map(image, dense) is dense


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    scale=st.floats(0, 100),
    blur=st.floats(0, 6),
    sides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
)
def test_no_head_leaves_the_range_of_blur(
    seed: int, scale: float, blur: float, sides: tuple[int, int]
) -> None:
    """Whatever its weights, the picture, and the side and content of the map beside it."""
    torch.manual_seed(seed)
    teacher = trained(replace(DENSE, modalities=("rgb", "defocus")))
    assert teacher.map_head is not None
    for weight in teacher.map_head.parameters():
        torch.nn.init.normal_(weight, std=scale)
    height, width = (32 * side for side in sides)
    image = 255 * torch.rand(1, 3, height, width)
    with torch.no_grad():
        found = teacher.defocus_map(image, torch.full((1, 1, 5, 7), blur))
    assert found.shape == (1, 1, height // 4, width // 4)
    assert 0 <= found.min() <= found.max() <= 6


@pytest.mark.parametrize(
    ("modalities", "finest"),
    [
        (MODALITIES, "frequency"),
        (("defocus", "rgb"), "rgb"),
        (("defocus",), "defocus"),
        (("rgb", "frequency"), "frequency"),
    ],
)
def test_a_head_looks_at_the_finest_branch_and_at_the_map_where_the_teacher_does(
    modalities: tuple[str, ...], finest: str
) -> None:
    teacher, image, dense = trained(replace(DENSE, modalities=modalities)), photographs(), maps()
    assert teacher.map_head is not None
    assert teacher.finest.modality == finest
    found = teacher.defocus_map(image, dense)
    assert found.std() > 0.01
    by_map = not torch.equal(teacher.defocus_map(image, maps(seed=1)), found)
    assert by_map == ("defocus" in modalities)
    assert (teacher.map_head.beside is None) == ("defocus" not in modalities)
    by_picture = not torch.equal(teacher.defocus_map(photographs(seed=1), dense), found)
    assert by_picture == (finest != "defocus")


def test_gradients_reach_the_head_alone() -> None:
    teacher = trained(DENSE)
    assert teacher.map_head is not None
    found = improved_map(teacher.finest, teacher.map_head, photographs(), maps())
    assert torch.equal(found, teacher.defocus_map(photographs(), maps()))
    found.square().mean().backward()
    for name, weight in teacher.named_parameters():
        is_head = name.startswith("map_head.")
        assert (weight.grad is not None) == is_head, name
        assert not is_head or weight.grad.abs().max() > 0, name


@pytest.mark.parametrize(("last", "is_enough"), [(7, False), (8, True)])
def test_a_head_needs_encoders_that_go_on_to_stride_16(last: int, is_enough: bool) -> None:
    """Stage five begins with block 8; four stages end at stride 16 with 80 channels."""
    config = replace(DENSE, modalities=("rgb",), first_block=last, last_block=last)
    assert Teacher(replace(config, map_channels=0)).map_head is None
    if is_enough:
        assert Teacher(config).map_head is not None
        return
    with pytest.raises(ConfigError, match="end with block 7 have nothing at stride 16") as caught:
        Teacher(config)
    assert "teacher.map_channels=0" in caught.value.next_step


# What branches judge


def test_a_branch_judges_as_its_probe_on_the_scale_of_its_calibration() -> None:
    branch = Branch("rgb", CONFIG)
    statistics = np.random.default_rng(5).uniform(0, 2, (4, FEATURES)).astype(np.float32)
    assert branch.judge(torch.from_numpy(statistics)).tolist() == [0.0] * 4
    branch.take(probe(1), Calibration(scale=1.5, offset=-0.25))
    wanted = 1.5 * probe(1)(statistics) - 0.25
    found = branch.judge(torch.from_numpy(statistics))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-3)
    assert branch.temperature == pytest.approx(1 / 1.5)
    assert np.std(wanted) > 0.1


def test_the_teacher_is_the_scaled_mean_of_its_branches() -> None:
    teacher, image, dense = trained(), photographs(3), maps(3)
    statistics = [branch.statistics(image, dense) for branch in teacher.each()]
    single = [branch.judge(x) for branch, x in zip(teacher.each(), statistics, strict=True)]
    found = teacher(image, dense)
    assert torch.equal(found.by_modality, torch.stack(single, dim=1))
    wanted = 0.7 * (single[0] + single[1] + single[2]) / 3 + 0.2
    torch.testing.assert_close(found.fake_logit, wanted)
    assert teacher.temperature == pytest.approx(1 / 0.7)
    assert torch.equal(teacher.fuse(statistics).fake_logit, found.fake_logit)
    with pytest.raises(ValueError, match="shorter"):
        teacher.fuse(statistics[:2])


@pytest.mark.parametrize("modalities", [("rgb",), ("defocus", "rgb"), ("frequency", "defocus")])
def test_any_branch_can_be_left_out(modalities: tuple[str, ...]) -> None:
    teacher, image, dense = trained(replace(CONFIG, modalities=modalities)), photographs(), maps()
    assert [branch.modality for branch in teacher.each()] == list(modalities)
    found, whole = teacher(image, dense), trained()(image, dense)
    columns = [MODALITIES.index(name) for name in modalities]
    torch.testing.assert_close(found.by_modality, whole.by_modality[:, columns])
    wanted = 0.7 * found.by_modality.mean(dim=1) + 0.2
    torch.testing.assert_close(found.fake_logit, wanted)
