import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgedf.distill.losses import (
    distilled_feature_loss,
    distilled_logit_loss,
    fake_loss,
    map_loss,
)

NAN = float("nan")
seeds = st.integers(0, 2**31)


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_cross_entropy_by_hand_ignores_records_without_a_label() -> None:
    logits, labels = torch.tensor([0.0, 2.0, 50.0]), torch.tensor([1.0, 0.0, NAN])
    expected = (math.log(2) + math.log(1 + math.exp(2))) / 2
    assert fake_loss(logits, labels).item() == pytest.approx(expected, rel=1e-6)


@given(st.floats(0.01, 0.4))
def test_smoothing_puts_the_minimum_at_the_smoothed_label(smoothing: float) -> None:
    best = torch.logit(torch.tensor([1 - smoothing], dtype=torch.float64)).requires_grad_()
    fake_loss(best, torch.ones(1, dtype=torch.float64), smoothing=smoothing).backward()
    assert best.grad is not None
    assert abs(best.grad.item()) < 1e-6


@pytest.mark.parametrize(
    ("loss", "outputs", "targets"),
    [
        (fake_loss, torch.ones(2), torch.full((2,), NAN)),
        (distilled_logit_loss, torch.ones(2), torch.full((2,), NAN)),
    ],
)
def test_without_a_target_the_loss_and_its_gradient_are_zero(loss, outputs, targets) -> None:  # type: ignore[no-untyped-def]
    outputs = outputs.clone().requires_grad_()
    value = loss(outputs, targets)
    value.backward()
    assert value.item() == 0
    assert torch.equal(outputs.grad, torch.zeros_like(outputs))
    assert loss(outputs, targets, count=0.0).item() == 0


def test_a_softened_score_by_hand() -> None:
    logits, teacher = torch.tensor([4.0, 9.0]), torch.tensor([2.0, NAN])
    target = 1 / (1 + math.exp(-1))
    expected = 4 * (math.log(1 + math.exp(2)) - target * 2)
    assert distilled_logit_loss(logits, teacher).item() == pytest.approx(expected, rel=1e-6)


@given(st.floats(-6, 6), st.floats(0.5, 20))
def test_the_teachers_own_logit_is_the_best(logit: float, temperature: float) -> None:
    best = torch.tensor([logit], requires_grad=True)
    distilled_logit_loss(best, torch.tensor([logit]), temperature=temperature).backward()
    assert best.grad is not None
    assert abs(best.grad.item()) < 1e-5


def test_the_gradient_hardly_depends_on_a_high_temperature() -> None:
    """Hinton et al. (2015), eq. 4: towards high temperatures it is the difference of logits / 4."""
    for temperature in (20.0, 50.0):
        logit = torch.tensor([1.0], requires_grad=True)
        distilled_logit_loss(logit, torch.tensor([-1.0]), temperature=temperature).backward()
        assert logit.grad is not None
        assert logit.grad.item() == pytest.approx(0.5, rel=1e-2)


def layers(seed: int) -> list[torch.Tensor]:
    """Features of two layers."""
    return [normal(seed, 2, 3, 4, 4), normal(seed + 1, 2, 5, 2, 2) + 1]


def test_features_by_hand() -> None:
    """Mean squared errors 1 and 2, variances (with n - 1) 20 / 3 and 1 / 3."""
    features = [torch.tensor([1.0, 1, 3, 7]), torch.tensor([2.0, 1, 1, 2])]
    teacher = [torch.tensor([0.0, 2, 4, 6]), torch.tensor([0.0, 1, 1, 0])]
    shaped = [[x.reshape(1, 1, 2, 2) for x in side] for side in (features, teacher)]
    expected = (1 / (20 / 3) + 2 / (1 / 3)) / 2
    assert distilled_feature_loss(*shaped).item() == pytest.approx(expected, rel=1e-6)


@given(seeds)
def test_features_that_agree_cost_nothing_and_the_mean_costs_one(seed: int) -> None:
    teacher = layers(seed)
    assert distilled_feature_loss(teacher, [x.clone() for x in teacher]).item() == 0
    means = [x.mean().expand_as(x) for x in teacher]
    expected = sum((x.numel() - 1) / x.numel() for x in teacher) / 2
    assert distilled_feature_loss(means, teacher).item() == pytest.approx(expected, rel=1e-4)


@given(seeds, st.floats(0.01, 100))
def test_a_layer_counts_the_same_however_large_its_values(seed: int, factor: float) -> None:
    features, teacher = layers(seed), layers(seed + 2)
    one = distilled_feature_loss(features, teacher).item()
    features[0], teacher[0] = factor * features[0], factor * teacher[0]
    assert distilled_feature_loss(features, teacher).item() == pytest.approx(one, rel=1e-3)
    features[0] = features[0] + factor
    assert distilled_feature_loss(features, teacher).item() > one


def test_features_are_drawn_to_the_teachers_which_stay() -> None:
    features, teacher = ([x.requires_grad_() for x in layers(seed)] for seed in (0, 2))
    distilled_feature_loss(features, [x.detach() for x in teacher]).backward()
    for found, wanted in zip(features, teacher, strict=True):
        pull = 2 * (found - wanted) / found.numel() / wanted.var() / 2
        assert found.grad is not None
        assert torch.allclose(found.grad, pull, rtol=1e-4, atol=1e-7)
        assert wanted.grad is None


def test_features_of_low_precision_and_without_variance_are_compared_all_the_same() -> None:
    flat = [torch.ones(1, 2, 2, 2, dtype=torch.bfloat16)]
    assert distilled_feature_loss(flat, flat).item() == 0
    loss = distilled_feature_loss([0.5 * flat[0]], flat)
    assert loss.dtype == torch.float32
    assert math.isfinite(loss.item())
    assert loss.item() > 1


def test_other_layers_than_the_teachers_are_an_error() -> None:
    with pytest.raises(ValueError, match="longer"):
        distilled_feature_loss(layers(0)[:1], layers(0))


def test_map_loss_by_hand() -> None:
    flat = torch.full((1, 1, 8, 8), 3.0)
    assert map_loss(flat, torch.ones(1, 1, 8, 8)).item() == pytest.approx(math.log(4 / 2))
    assert map_loss(flat, flat).item() == 0
    # Off by one in every other column: neighbours differ everywhere, those two apart nowhere.
    stripes = torch.zeros(1, 1, 8, 8)
    stripes[..., ::2] = 1.0
    expected = math.log(2) * (0.5 + 0.5 * 1.0 / 3)
    assert map_loss(stripes, torch.zeros(1, 1, 8, 8)).item() == pytest.approx(expected)


def test_an_error_weighs_less_where_the_blur_is_large() -> None:
    losses = [
        map_loss(torch.full((1, 1, 4, 4), blur + 0.1), torch.full((1, 1, 4, 4), blur)).item()
        for blur in (0.0, 1.0, 4.0)
    ]
    assert losses[0] == pytest.approx(0.1, rel=0.06)  # linear in pixels for a small blur
    assert losses[0] > 1.8 * losses[1] > 1.8 * 2 * losses[2]


def test_the_best_guess_for_an_uncertain_blur_is_its_median() -> None:
    """Dividing by the wanted blur instead would pull it to the smaller ones."""
    wanted = torch.tensor([0.2, 0.4, 1.0, 3.0, 4.0]).reshape(5, 1, 1, 1)
    guesses = torch.arange(0.1, 5, 0.01)
    losses = [map_loss(guess.expand(5, 1, 1, 1), wanted).item() for guess in guesses]
    assert guesses[torch.tensor(losses).argmin()].item() == pytest.approx(1.0, abs=0.011)


def test_a_map_below_zero_still_has_a_gradient() -> None:
    found = torch.full((1, 1, 4, 4), -5.0, requires_grad=True)
    loss = map_loss(found, torch.zeros(1, 1, 4, 4))
    loss.backward()
    assert loss.item() == pytest.approx(5.0)
    assert found.grad is not None
    assert (found.grad < 0).all()


@given(seeds, st.integers(1, 7))
def test_shares_of_a_batch_add_up_to_the_whole(seed: int, first: int) -> None:
    """What makes two processes equal one: the mean over both is the loss of the whole batch."""
    labels = (normal(seed, 8) > 0).float()
    labels[normal(seed + 1, 8) > 0.5] = NAN
    logits = normal(seed + 2, 8)
    maps, wanted = normal(seed + 4, 8, 1, 6, 6), normal(seed + 5, 8, 1, 6, 6).abs()
    labelled = float((~labels.isnan()).sum())
    for loss, outputs, targets, number in (
        (fake_loss, logits, labels, labelled),
        (distilled_logit_loss, logits, labels, labelled),
        (map_loss, maps, wanted, 8.0),
    ):
        parts = [
            loss(outputs[part], targets[part], count=number / 2)  # type: ignore[operator]
            for part in (slice(first), slice(first, None))
        ]
        whole = loss(outputs, targets).item()  # type: ignore[operator]
        assert sum(parts).item() / 2 == pytest.approx(whole, rel=1e-5, abs=1e-7)  # type: ignore[union-attr]
