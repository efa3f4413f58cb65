"""A student's outputs for pictures in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgedf.distill.networks.running import batches_of, run
from edgedf.progress import Progress, silent

__all__ = ["Network", "Predictions", "predict"]

Network = Callable[[Tensor], tuple[Tensor, Tensor]]
"""(N, 3, H, W) in [0, 255] → logit (N, 1), map (N, 1, H / 4, W / 4)."""


class Predictions(NamedTuple):
    """Outputs for some pictures.

    Args:
        logits: float64, (n,).
        maps: float32, (n, H / 4, W / 4), sigma in pixels.
    """

    logits: NDArray[np.float64]
    maps: NDArray[np.float32]


def predict(
    network: Network,
    images: NDArray[np.uint8],
    *,
    device: torch.device | None = None,
    batch: int = 32,
    step: str = "evaluate",
    progress: Progress = silent,
) -> Predictions:
    """Run a network on prepared pictures.

    Args:
        network: A student or something like it; a module is run in evaluation mode.
        images: uint8 RGB, (n, size, size, 3).
        device: Where the network is; None for the CPU.
        batch: Pictures at a time.
        step: Name of the step for ``progress``.
        progress: Told about each batch.
    """
    was_training = isinstance(network, nn.Module) and network.training
    if isinstance(network, nn.Module):
        network.eval()
    batches = batches_of(images, size=batch, device=device)
    logits, maps = run(network, batches, len(images), step=step, progress=progress)
    if isinstance(network, nn.Module):
        network.train(was_training)
    return Predictions(logits[:, 0].astype(np.float64), maps[:, 0].astype(np.float32))
