import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgedf.distill.training.losses import distilled_feature_loss, fake_loss, map_loss

NAN = float("nan")
seeds = st.integers(0, 2**31)


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_cross_entropy_by_hand_ignores_records_without_a_label() -> None:
    logits, labels = torch.tensor([0.0, 2.0, 50.0]), torch.tensor([1.0, 0.0, NAN])
    expected = (math.log(2) + math.log(1 + math.exp(2))) / 2
    assert fake_loss(logits, labels).item() == pytest.approx(expected, rel=1e-6)


def test_without_a_label_the_loss_and_its_gradient_are_zero() -> None:
    logits, labels = torch.ones(2, requires_grad=True), torch.full((2,), NAN)
    value = fake_loss(logits, labels)
    value.backward()
    assert value.item() == 0
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros_like(logits))
    assert fake_loss(logits, labels, count=0.0).item() == 0


def layers(seed: int) -> list[torch.Tensor]:
    """Features of two layers."""
    return [normal(seed, 2, 3, 4, 4), normal(seed + 1, 2, 5, 2, 2) + 1]


def test_features_by_hand() -> None:
    """Mean squared errors 1 and 2."""
    features = [torch.tensor([1.0, 1, 3, 7]), torch.tensor([2.0, 1, 1, 2])]
    teacher = [torch.tensor([0.0, 2, 4, 6]), torch.tensor([0.0, 1, 1, 0])]
    shaped = [[x.reshape(1, 1, 2, 2) for x in side] for side in (features, teacher)]
    assert distilled_feature_loss(*shaped).item() == pytest.approx(1.5, rel=1e-6)


@given(seeds, st.floats(0.01, 100))
def test_features_that_agree_cost_nothing_and_others_the_square(seed: int, off: float) -> None:
    teacher = layers(seed)
    assert distilled_feature_loss(teacher, [x.clone() for x in teacher]).item() == 0
    loss = distilled_feature_loss([x + off for x in teacher], teacher).item()
    assert loss == pytest.approx(off**2, rel=1e-2)


@given(seeds)
def test_the_loss_of_two_halves_is_that_of_the_whole(seed: int) -> None:
    """As processes that share a batch need it."""
    features, teacher = layers(seed), layers(seed + 2)
    halves = [
        distilled_feature_loss([x[part] for x in features], [x[part] for x in teacher]).item()
        for part in (slice(0, 1), slice(1, 2))
    ]
    whole = distilled_feature_loss(features, teacher).item()
    assert sum(halves) / 2 == pytest.approx(whole, rel=1e-4)


def test_features_are_drawn_to_the_teachers_which_stay() -> None:
    features, teacher = ([x.requires_grad_() for x in layers(seed)] for seed in (0, 2))
    distilled_feature_loss(features, [x.detach() for x in teacher]).backward()
    for found, wanted in zip(features, teacher, strict=True):
        pull = 2 * (found - wanted) / found.numel() / 2
        assert found.grad is not None
        assert torch.allclose(found.grad, pull, rtol=1e-4, atol=1e-7)
        assert wanted.grad is None


def test_features_of_low_precision_are_compared_in_float32() -> None:
    flat = [torch.ones(1, 2, 2, 2, dtype=torch.bfloat16)]
    loss = distilled_feature_loss([0.5 * flat[0]], flat)
    assert loss.dtype == torch.float32
    assert loss.item() == 0.25


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
        (map_loss, maps, wanted, 8.0),
    ):
        parts = [
            loss(outputs[part], targets[part], count=number / 2)  # type: ignore[operator]
            for part in (slice(first), slice(first, None))
        ]
        whole = loss(outputs, targets).item()  # type: ignore[operator]
        assert sum(parts).item() / 2 == pytest.approx(whole, rel=1e-5, abs=1e-7)  # type: ignore[union-attr]
