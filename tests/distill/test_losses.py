import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edgedf.distill.losses import Losses, fake_loss, map_loss

NAN = float("nan")


def test_cross_entropy_by_hand_ignores_records_without_a_label() -> None:
    logits, labels = torch.tensor([0.0, 2.0, 50.0]), torch.tensor([1.0, 0.0, NAN])
    expected = (math.log(2) + math.log(1 + math.exp(2))) / 2
    assert fake_loss(logits, labels).item() == pytest.approx(expected, rel=1e-6)


def test_no_label_at_all_gives_zero_with_a_gradient() -> None:
    logits = torch.tensor([3.0], requires_grad=True)
    loss = fake_loss(logits, torch.tensor([NAN]))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert logits.grad.item() == 0


@given(st.floats(0.01, 0.4))
def test_smoothing_puts_the_minimum_at_the_smoothed_label(smoothing: float) -> None:
    best = torch.logit(torch.tensor([1 - smoothing], dtype=torch.float64)).requires_grad_()
    fake_loss(best, torch.ones(1, dtype=torch.float64), smoothing=smoothing).backward()
    assert best.grad is not None
    assert abs(best.grad.item()) < 1e-6


def test_map_loss_by_hand() -> None:
    wanted = torch.zeros(1, 1, 2, 2)
    flat = torch.ones(1, 1, 2, 2)
    assert map_loss(flat, wanted).item() == pytest.approx(1.0)
    step = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])
    # Half the pixels are off by one; every difference across is, none of those down.
    assert map_loss(step, wanted).item() == pytest.approx(0.5 + 0.5 * 1.0)
    assert map_loss(wanted, wanted).item() == 0


def test_the_total_is_the_weighted_sum() -> None:
    losses = Losses(torch.tensor(2.0), torch.tensor(3.0))
    assert losses.total(0.5).item() == 3.5
