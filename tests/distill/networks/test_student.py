from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedf.distill.networks.decoder import LocalPath
from edgedf.distill.networks.deployable import Deployable
from edgedf.distill.networks.layers import MEAN, STD, Conv
from edgedf.distill.networks.student import Student
from edgedf.distill.settings import StudentConfig
from edgedf.spec import MAP_MAXIMUM
from tests.distill.networks.samples import TINY, picture, with_a_head

FEATURES = 2 * 672


# The network


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 2))
def test_any_side_that_is_a_multiple_of_32_works(rows: int, columns: int, batch: int) -> None:
    student = Student(replace(TINY, blocks=12, judged_blocks=2)).eval()
    torch.nn.init.normal_(student.blur.weight, std=5.0)
    with torch.no_grad():
        output = student(torch.rand(batch, 3, 32 * rows, 32 * columns) * 255)
    assert output.fake_logit.shape == (batch, 1)
    assert output.defocus_map.shape == (batch, 1, 8 * rows, 8 * columns)
    assert output.defocus_map.min() >= 0
    assert output.defocus_map.max() <= MAP_MAXIMUM


def test_the_default_student_is_small_enough_for_a_phone() -> None:
    student = Student().eval()
    assert 0.5e6 < sum(weight.numel() for weight in student.parameters()) <= 1.5e6
    side = student.config.input_size
    assert 0.2e9 < multiplications(student, side) <= 0.4e9
    # Exported, the high-pass filter and the local path's first layer carry zeros for speed.
    assert 0.2e9 < multiplications(Deployable(student), side) <= 0.42e9


def multiplications(network: torch.nn.Module, side: int) -> int:
    """Multiplications of all convolutions and linear layers for one picture."""
    counted: list[int] = []

    def count(layer: torch.nn.Module, _: object, output: torch.Tensor) -> None:
        weight = layer.get_parameter("weight")
        counted.append(output.numel() * weight[0].numel())

    hooks = [
        layer.register_forward_hook(count)
        for layer in network.modules()
        if isinstance(layer, Conv | torch.nn.Linear)
    ]
    with torch.no_grad():
        network(picture(side))
    for hook in hooks:
        hook.remove()
    return sum(counted)


def test_a_picture_is_judged_alike_alone_and_among_others() -> None:
    student = with_a_head(TINY)
    batch = torch.cat([picture(32, seed=seed) for seed in range(3)])
    with torch.no_grad():
        together = student.train()(batch)
        alone = student.eval()(batch[1:2])
    torch.testing.assert_close(alone.fake_logit, together.fake_logit[1:2], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(alone.defocus_map, together.defocus_map[1:2], rtol=0, atol=1e-4)


@pytest.mark.parametrize("high_pass", [True, False])
@pytest.mark.parametrize(
    ("blocks", "judged", "local", "height", "width"),
    [
        (11, 1, 0, 32, 32),
        (11, 3, 2, 64, 64),
        (11, 11, 1, 64, 96),
        (12, 4, 0, 96, 64),
        (13, 2, 3, 64, 64),
        (16, 16, 2, 32, 64),
    ],
)
def test_the_deployable_network_computes_the_same_from_raw_grey_levels(
    high_pass: bool, blocks: int, judged: int, local: int, height: int, width: int
) -> None:
    config = StudentConfig(64, blocks, judged, 8, local, high_pass)
    student = with_a_head(config, seed=blocks)
    deployed = Deployable(student)
    # Borders are where a folded normalisation goes wrong (zero padding is black, not grey), and
    # a white picture is where that shows most.
    noise = picture(height, width)
    for image in (noise, torch.full_like(noise, 255.0)):
        with torch.no_grad():
            wanted = student(image)
            logit, dense = deployed(image)
        torch.testing.assert_close(logit, wanted.fake_logit, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(dense, wanted.defocus_map, rtol=0, atol=1e-3)
        assert wanted.defocus_map.std() > 0.05


def test_the_deployable_network_has_the_weights_of_its_time() -> None:
    """A student that learns on does not change it, nor does deploying change the student."""
    student = with_a_head(TINY)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    deployed = Deployable(student)
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    assert not any(weight.requires_grad for weight in deployed.student.parameters())
    image = picture(32)
    with torch.no_grad():
        logit, _ = deployed(image)
        for weight in student.parameters():
            weight.zero_()
        assert torch.equal(deployed(image)[0], logit)
        assert student(image).fake_logit.item() == 0.0 != logit.item()


def test_deployed_weights_lie_on_the_grid_that_int8_stores() -> None:
    def steps(weight: torch.Tensor) -> torch.Tensor:
        return weight / (weight.abs().amax(dim=(1, 2, 3), keepdim=True).clamp_min(1e-20) / 127)

    student = with_a_head(replace(TINY, blocks=12, judged_blocks=4, local_blocks=2))
    checked = 0
    for name, weight in Deployable(student).student.named_parameters():
        if weight.dim() == 4:
            torch.testing.assert_close(
                steps(weight), steps(weight).round(), rtol=0, atol=2e-3, msg=name
            )
            checked += 1
    # A high-pass filter, a stem, 12 blocks of three but the first of two, a decoder of seven, a
    # path beside the encoder of three and two blocks of two, the layer of the map, four of
    # thresholds.
    assert checked == 1 + 1 + 12 * 3 - 1 + 7 + 3 + 2 * 2 + 1 + 4
    loose = Student(replace(student.config, int8_weights=False))
    loose.load_state_dict(student.state_dict())
    stem = Deployable(loose).get_parameter("student.encoder.stem.weight")
    assert not torch.allclose(steps(stem), steps(stem).round(), atol=2e-3)


def test_a_deployed_student_rounded_again_says_the_same() -> None:
    """Its weights put back into a student that rounds them: rounding twice is rounding once."""
    student = with_a_head(replace(TINY, high_pass=False))
    again = Student(student.config).eval()
    again.load_state_dict(student.state_dict())
    with torch.no_grad():
        for conv, rounded in zip(convolutions(again), convolutions(student), strict=True):
            conv.weight.copy_(rounded.effective_weight())
            conv.gain.fill_(1.0)
        wanted, found = student(picture()), again(picture())
    torch.testing.assert_close(found.fake_logit, wanted.fake_logit, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.defocus_map, wanted.defocus_map, rtol=0, atol=1e-4)


def convolutions(network: torch.nn.Module) -> list[Conv]:
    return [layer for layer in network.modules() if isinstance(layer, Conv)]


def test_rounded_weights_still_learn() -> None:
    student = with_a_head(TINY)
    output = student(picture(32))
    (output.fake_logit.sum() + output.defocus_map.sum()).backward()
    for name in (
        *("encoder.stages.4.2.depthwise", "encoder.stages.0.0.project"),
        *("decoder.mix4.1", "local.stem", "local.blocks.1.0"),
    ):
        gradient = student.get_parameter(f"{name}.weight").grad
        assert gradient is not None
        assert gradient.abs().sum() > 0, name
    assert student.high_pass is not None
    assert all(weight.grad is None for weight in student.high_pass.parameters())


def test_blocks_of_the_path_past_the_encoder_have_a_shortcut() -> None:
    torch.manual_seed(0)
    path = LocalPath(8, blocks=2)
    x = torch.randn(1, 3, 32, 64)
    with torch.no_grad():
        wanted = path.widen(path.shrink(path.stem(x)))
        found = path(x)
        for block in path.blocks:
            block[1].weight.zero_()
        assert torch.equal(path(x), wanted)
    assert wanted.shape == (1, 8, 8, 16)
    assert (found >= wanted).all()
    assert (found > wanted).any()


def test_the_map_and_not_the_verdict_looks_past_the_encoder() -> None:
    student = with_a_head(TINY)
    assert student.local is not None
    assert Student(replace(TINY, local_blocks=0)).local is None
    with torch.no_grad():
        before = student(picture())
        student.local.stem.bias.add_(1.0)
        after = student(picture())
    assert torch.equal(before.fake_logit, after.fake_logit)
    assert (after.defocus_map - before.defocus_map).abs().mean() > 0.01


# What the fake head judges by


def inner_features(student: Student, image: torch.Tensor) -> list[torch.Tensor]:
    """The judged blocks' inner channels, each (N, channels, pixels)."""
    seen = image if student.high_pass is None else student.high_pass(image)
    inner = student.encoder.all_features((seen - MEAN) / STD)[1]
    return [x.flatten(2) for x in inner[-student.config.judged_blocks :]]


@pytest.mark.parametrize("high_pass", [True, False])
def test_statistics_are_means_and_what_exceeds_the_thresholds(high_pass: bool) -> None:
    config = replace(TINY, blocks=12, judged_blocks=3, high_pass=high_pass)
    student = with_a_head(config)
    channels = 3 * 672
    mean, deviation = torch.rand(channels), torch.rand(channels)
    deviation[::7] = 0.0
    student.set_thresholds(mean, deviation)
    image = torch.cat([picture(seed=1), picture(seed=2)])
    with torch.no_grad():
        inner = inner_features(student, image)
        found = student.statistics(image)
    means, spreads, at = [], [], 0
    for x in inner:
        count = x.shape[1]
        # A channel that does not vary is divided by 0.05 all the same.
        scale = deviation[at : at + count, None].clamp_min(0.05)
        means.append(x.mean(dim=2))
        spreads.append(((x - mean[at : at + count, None]) / scale).clamp(0, 6).mean(dim=2))
        at += count
    assert at == channels
    torch.testing.assert_close(found, torch.cat([*means, *spreads], 1), rtol=1e-3, atol=1e-4)
    assert found[:, channels:].std() > 0.1
    with torch.no_grad():
        scaled = (found - student.centre) / student.deviation
        wanted = scaled @ student.fake.weight[0] + student.fake.bias
        torch.testing.assert_close(student(image).fake_logit[:, 0], wanted, rtol=1e-4, atol=1e-4)


def test_channel_moments_give_mean_and_deviation_over_pictures_and_pixels() -> None:
    student = with_a_head(replace(TINY, judged_blocks=2))
    image = torch.cat([picture(seed=seed) for seed in range(3)])
    with torch.no_grad():
        means, squares = student.channel_moments(image)
        inner = inner_features(student, image)
    assert means.shape == squares.shape == (3, 2 * 672)
    values = torch.cat([x.transpose(0, 1).flatten(1) for x in inner])
    torch.testing.assert_close(means.mean(dim=0), values.mean(dim=1), rtol=1e-4, atol=1e-5)
    variance = squares.mean(dim=0) - means.mean(dim=0).square()
    torch.testing.assert_close(variance, values.var(dim=1, correction=0), rtol=1e-3, atol=1e-4)


def test_thresholds_change_nothing_but_the_second_half_of_the_statistics() -> None:
    student = with_a_head(TINY)
    with torch.no_grad():
        before = student.statistics(picture())
        student.set_thresholds(torch.full((672,), 0.5), torch.ones(672))
        after = student.statistics(picture())
    assert torch.equal(before[:, :672], after[:, :672])
    assert not torch.equal(before[:, 672:], after[:, 672:])
