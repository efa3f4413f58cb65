"""What the student is trained to do, each part measured by itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Losses", "fake_loss", "map_loss"]


@dataclass(frozen=True)
class Losses:
    """The parts of the loss of one batch.

    Args:
        fake: Cross-entropy of the verdict.
        map: Error of the defocus map in pixels, gradient term included.
    """

    fake: Tensor
    map: Tensor

    def total(self, map_weight: float) -> Tensor:
        """The weighted sum."""
        return self.fake + map_weight * self.map


def fake_loss(logits: Tensor, labels: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Binary cross-entropy over the records that have a label.

    Args:
        logits: (N,).
        labels: (N,): 1 fake, 0 real, NaN neither.
        smoothing: Labels are moved this far from 0 and 1, in [0, 0.5).

    Returns:
        A scalar; 0 when no record has a label.
    """
    labelled = ~torch.isnan(labels)
    if not labelled.any():
        return logits.sum() * 0.0
    targets = labels[labelled] * (1 - 2 * smoothing) + smoothing
    return F.binary_cross_entropy_with_logits(logits[labelled], targets)


def map_loss(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean absolute error in pixels, plus half that of the map's differences between neighbours.

    The second term asks for borders where the blur changes, which the first alone smooths away.

    Args:
        found: (N, 1, H, W), sigma in pixels.
        wanted: The same shape.
    """
    gradients = [
        (torch.diff(found, dim=axis) - torch.diff(wanted, dim=axis)).abs().mean() for axis in (2, 3)
    ]
    return (found - wanted).abs().mean() + 0.5 * (gradients[0] + gradients[1])
