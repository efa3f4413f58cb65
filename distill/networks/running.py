"""Networks run on many pictures, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgedf.progress import Progress, silent

__all__ = ["as_pixels", "batches_of", "run"]


def as_pixels(images: NDArray[np.uint8]) -> Tensor:
    """uint8 (N, H, W, 3) → float32 (N, 3, H, W) in [0, 255], channels last in memory."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    return pixels.contiguous(memory_format=torch.channels_last)


def batches_of(
    images: NDArray[np.uint8],
    maps: NDArray[np.floating] | None = None,
    *,
    size: int = 32,
    device: torch.device | None = None,
) -> Iterator[tuple[Tensor, ...]]:
    """Pictures, and maps where there are any, as a network takes them.

    Args:
        images: uint8 RGB, (n, H, W, 3).
        maps: (n, h, w).
        size: Pictures a batch.
        device: Where the network is; None for the CPU.

    Yields:
        (N, 3, H, W), and with maps (N, 1, h, w), float32.
    """
    for at in range(0, len(images), size):
        inputs = [as_pixels(images[at : at + size])]
        if maps is not None:
            inputs.append(torch.from_numpy(maps[at : at + size].astype(np.float32))[:, None])
        yield tuple(tensor.to(device) for tensor in inputs)


def run(
    network: Callable[..., Any],
    batches: Iterable[tuple[Tensor, ...]],
    count: int,
    *,
    step: str = "running the network",
    progress: Progress = silent,
) -> tuple[NDArray[Any], ...]:
    """Outputs of a network.

    Args:
        network: A tensor, or a tuple of tensors, for each batch.
        batches: Its arguments.
        count: Number of pictures in all of them.
        step: Name of the step for ``progress``.
        progress: Told about each batch.

    Returns:
        An array for each output, its first axis that of the pictures.
    """
    parts, done = [], 0
    with torch.inference_mode():
        for batch in batches:
            outputs = network(*batch)
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            parts.append([output.cpu().numpy() for output in outputs])
            done += len(batch[0])
            progress(step, done, count)
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))
