"""How far a student is from the float one that it is to be like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgedf.distill.qat.pictures import Pictures, as_batch
from edgedf.metrics import Figure, auc_with_interval
from edgedf.progress import Progress, silent
from edgedf.result import Threshold, sigmoid

__all__ = ["Agreement", "Answers", "Network", "agreement", "answers"]

_AT_ONCE = 16

Network = Callable[[Tensor], tuple[Tensor, Tensor]]
"""(N, 3, H, W) in [0, 255] → logit (N, 1), map (N, 1, H / 4, W / 4)."""


class Answers(NamedTuple):
    """What a network says of pictures.

    Args:
        logits: float64, (n,).
        maps: float32, (n, H / 4, W / 4), sigma in pixels.
    """

    logits: NDArray[np.float64]
    maps: NDArray[np.float32]


@dataclass(frozen=True)
class Agreement:
    """A network against the float student on some pictures.

    Args:
        data: Which pictures.
        model: Which network.
        n: Number of pictures.
        logit_error: Mean absolute difference of the logits.
        logit_correlation: Pearson's; None where one of the two does not vary.
        map_error: Mean absolute difference of the maps, in pixels.
        flips: Verdicts that went from ``real`` to ``fake`` or back.
        changes: Verdicts that went to or from ``unsure``.
        auc: Of the network, all pictures together; None without labels of both classes.
        parent_auc: Of the float student.
    """

    data: str
    model: str
    n: int
    logit_error: float
    logit_correlation: float | None
    map_error: float
    flips: int
    changes: int
    auc: Figure | None
    parent_auc: Figure | None


def answers(
    network: Network,
    pictures: Pictures,
    device: torch.device,
    *,
    step: str = "judge",
    progress: Progress = silent,
) -> Answers:
    """Run a network on pictures.

    Args:
        network: In evaluation mode, on ``device``.
        pictures: Not changed in any way.
        device: Where to.
        step: Name of the step for ``progress``.
        progress: Told about each batch.
    """
    logits, maps = [], []
    with torch.inference_mode():
        for at in range(0, len(pictures), _AT_ONCE):
            batch = as_batch(pictures.images[at : at + _AT_ONCE]).to(device)
            logit, dense = network(batch)
            logits.append(logit[:, 0].double().cpu().numpy())
            maps.append(dense[:, 0].float().cpu().numpy())
            progress(step, min(at + _AT_ONCE, len(pictures)), len(pictures))
    return Answers(np.concatenate(logits), np.concatenate(maps))


def agreement(
    data: str,
    model: str,
    found: Answers,
    wanted: Answers,
    pictures: Pictures,
    threshold: Threshold,
) -> Agreement:
    """Compare what two networks say.

    Args:
        data: Which pictures, in words.
        model: Which network, in words.
        found: What it says.
        wanted: What the float student says.
        pictures: The pictures.
        threshold: Turns scores into verdicts.
    """
    varies = min(np.ptp(found.logits), np.ptp(wanted.logits)) > 0
    verdicts = [
        {threshold.label(sigmoid(float(x))), threshold.label(sigmoid(float(y)))}
        for x, y in zip(found.logits, wanted.logits, strict=True)
    ]
    has_both = len(set(pictures.labels.tolist())) == 2 and not np.isnan(pictures.labels).any()
    aucs = [
        auc_with_interval(pictures.labels, said.logits, np.array(pictures.groups, dtype=object))
        if has_both
        else None
        for said in (found, wanted)
    ]
    return Agreement(
        data,
        model,
        len(pictures),
        float(np.abs(found.logits - wanted.logits).mean()),
        float(np.corrcoef(found.logits, wanted.logits)[0, 1]) if varies else None,
        float(np.abs(found.maps - wanted.maps).mean()),
        sum(pair == {"real", "fake"} for pair in verdicts),
        sum(len(pair) == 2 and "unsure" in pair for pair in verdicts),
        *aucs,
    )
