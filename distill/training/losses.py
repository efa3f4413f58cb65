"""What networks are trained to do, each part measured by itself.

Each loss is a sum over records, divided by ``count``: by default the number of records that take
part, so that the result is a mean. Where several processes share a batch, ``count`` is the number
in the whole batch divided by the number of processes: the mean of the processes' gradients, which
is what DistributedDataParallel makes, is then the gradient of the whole batch, however unevenly the
records that have a label are spread.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["distilled_feature_loss", "fake_loss", "map_loss"]


def fake_loss(logits: Tensor, labels: Tensor, *, count: float | None = None) -> Tensor:
    """Binary cross-entropy over the records that have a label.

    Args:
        logits: (N,).
        labels: (N,): 1 fake, 0 real, NaN neither.
        count: What the sum is divided by; None for the number of labels.

    Returns:
        A scalar; 0 when no record has a label.
    """
    labelled = ~torch.isnan(labels)
    entropy = F.binary_cross_entropy_with_logits(
        logits[labelled].float(), labels[labelled].float(), reduction="sum"
    )
    total = float(labelled.sum()) if count is None else count
    # Tied to all outputs: a batch without labels must leave gradients of zero.
    return entropy / max(total, 1e-12) + logits.sum() * 0.0


def distilled_feature_loss(features: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
    """How far the student's features are from the teacher's, layer by layer.

    Hints as in Romero et al., "FitNets" (ICLR 2015). Features are rectified by relu6 and so of one
    scale whatever the layer.

    Args:
        features: The student's, (N, C, h, w) a layer.
        teacher: The teacher's, of the same shapes.

    Returns:
        Mean squared error, averaged over layers: a scalar in [0, 36].
    """
    errors = [
        F.mse_loss(own.float(), wanted.float())
        for own, wanted in zip(features, teacher, strict=True)
    ]
    return torch.stack(errors).mean()


def map_loss(
    maps: Tensor, wanted: Tensor, *, gradient_weight: float = 0.5, count: float | None = None
) -> Tensor:
    """Error of a defocus map on a scale that is linear below about 1 px and logarithmic above.

    A pixel of error matters much at a blur of 0.5 px and little at 4 px, where no method measures
    it that finely. Both maps are taken through log(1 + sigma / 1 px) first, as log depth is
    compared in Eigen, Puhrsch & Fergus, "Depth Map Prediction from a Single Image" (NIPS 2014).
    Unlike dividing the error by the wanted blur, this leaves the best guess where it was (the
    median goes through the logarithm), while dividing would pull it to the smaller blurs.

    The second term compares differences between neighbours 1, 2 and 4 pixels apart, after the
    multi-scale gradient matching of Li & Snavely, "MegaDepth" (CVPR 2018): it asks for borders
    where the blur changes, which the first term alone smooths away.

    Args:
        maps: (N, 1, H, W), sigma in pixels. Values below 0 count as they are.
        wanted: The same shape, 0 or more.
        gradient_weight: Of the second term beside the first.
        count: What the sum over records is divided by; None for N.

    Returns:
        A scalar; 0 when there is no record.
    """
    difference = _compressed(maps.float()) - torch.log1p(wanted.float())
    errors = difference.abs().mean(dim=(1, 2, 3))
    gaps = [gap for gap in (1, 2, 4) if gap < min(maps.shape[2:])]
    for gap in gaps:
        across = difference[..., gap:] - difference[..., :-gap]
        down = difference[..., gap:, :] - difference[..., :-gap, :]
        edges = across.abs().mean(dim=(1, 2, 3)) + down.abs().mean(dim=(1, 2, 3))
        errors = errors + gradient_weight * edges / len(gaps)
    return errors.sum() / (count or max(1, len(maps)))


def _compressed(blur: Tensor) -> Tensor:
    """log(1 + blur), continued below 0 by its tangent, so that no gradient is lost there."""
    return torch.where(blur > 0, torch.log1p(blur.clamp_min(0)), blur)
