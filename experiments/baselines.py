"""What the student is compared with: networks that learn the labels step by step.

The paper that edgedf follows (Jeon & Woo, "Seeing Through the Blur", CIKM 2025) feeds defocus maps
to Xception; the usual detector fine-tunes an ImageNet network on the pictures themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor, nn

from edgedf.distill.distributed import World
from edgedf.distill.networks.backbones import EfficientNetLite, load_imagenet_weights
from edgedf.distill.networks.layers import MEAN, STD
from edgedf.distill.networks.running import batches_of, run
from edgedf.distill.records.batches import Batch, RecordBatches
from edgedf.distill.records.targets import Records
from edgedf.distill.settings import LoopSettings
from edgedf.distill.training.loop import Loop
from edgedf.distill.training.losses import fake_loss
from edgedf.distill.training.task import ParameterGroup
from edgedf.files import write_bytes
from edgedf.metrics import auc_with_interval
from edgedf.progress import Progress, silent

__all__ = ["FineTuned", "MapXception", "Xception", "judge_all", "learn_labels"]

# Records that the score of the loop's only look, at the end, is taken on.
_LOOKED_AT = 512


class Xception(nn.Module):
    """Xception (Chollet, CVPR 2017) with one output, by its figure 5; 20.8 M parameters.

    Example:
        >>> Xception().eval()(torch.zeros(1, 3, 71, 71)).shape
        torch.Size([1, 1])
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_conv(3, 32, 3, stride=2), *_conv(32, 64, 3))
        entry = [_Module(64, 128, 2, stride=2, leads=False)]
        entry += [_Module(128, 256, 2, stride=2), _Module(256, 728, 2, stride=2)]
        middle = [_Module(728, 728, 3) for _ in range(8)]
        self.flow = nn.Sequential(*entry, *middle, _Module(728, 1024, 2, stride=2, last=728))
        self.end = nn.Sequential(*_separable(1024, 1536), nn.ReLU(), *_separable(1536, 2048))
        self.verdict = nn.Linear(2048, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W), sides of at least 71 → (N, 1)."""
        x = F.relu(self.end(F.relu(self.flow(self.stem(x)))))
        verdict: Tensor = self.verdict(x.mean(dim=(2, 3)))
        return verdict


class _Module(nn.Module):
    """Separable convolutions beside a shortcut."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        convolutions: int,
        *,
        stride: int = 1,
        leads: bool = True,
        last: int | None = None,
    ) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        width = inputs
        for number in range(convolutions):
            if number or leads:
                parts.append(nn.ReLU())
            # The exit module widens with its second convolution, the others with their first.
            wider = last if last is not None and number == 0 else outputs
            parts += _separable(width, wider)
            width = wider
        if stride > 1:
            parts.append(nn.MaxPool2d(3, stride, 1))
        self.path = nn.Sequential(*parts)
        changes = stride > 1 or inputs != outputs
        shortcut = [nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)]
        self.shortcut = nn.Sequential(*shortcut) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor = self.path(x) + self.shortcut(x)
        return total


class MapXception(nn.Module):
    """The paper's detector: defocus map, stretched to its own range, → Xception.

    Args:
        side: Pixels that the map is scaled to; the paper has 299.
    """

    def __init__(self, side: int = 128) -> None:
        super().__init__()
        self.side, self.network = side, Xception()

    def forward(self, images: Tensor, maps: Tensor) -> Tensor:
        """(N, 3, H, W) and (N, 1, h, w) → (N,); the pictures are not looked at."""
        low, high = maps.amin(dim=(2, 3), keepdim=True), maps.amax(dim=(2, 3), keepdim=True)
        stretched = (maps - low) / (high - low).clamp_min(1e-6)
        size = (self.side, self.side)
        scaled = F.interpolate(stretched, size, mode="bilinear", align_corners=False)
        logits: Tensor = self.network((scaled * 2 - 1).expand(-1, 3, -1, -1))[:, 0]
        return logits


class FineTuned(nn.Module):
    """EfficientNet-Lite0 with ImageNet weights on the picture, all of it learning."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = EfficientNetLite("lite0")
        load_imagenet_weights(self.encoder)
        self.verdict = nn.Linear(self.encoder.channels[-1], 1)

    def forward(self, images: Tensor, maps: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 255] and (N, 1, h, w) → (N,); the maps are not looked at."""
        last = self.encoder((images - MEAN) / STD)[-1]
        logits: Tensor = self.verdict(last.mean(dim=(2, 3)))[:, 0]
        return logits


class _Labels:
    """The task: labels alone."""

    def __init__(self, records: Records, settings: LoopSettings, ranks: int) -> None:
        self.weights = {"label": 1.0}
        self._records = records
        self.batches = RecordBatches(records, size=settings.batch * ranks, seed=settings.seed)

    def losses(self, module: nn.Module, batch: Batch) -> dict[str, Tensor]:
        logits = module(batch.images, batch.maps[:, :1])
        return {"label": fake_loss(logits, batch.labels, count=batch.labelled)}

    def evaluate(self, averaged: nn.Module, progress: Progress) -> dict[str, float]:
        chosen = np.random.default_rng(0).permutation(len(self._records))[:_LOOKED_AT]
        some = self._records.subset(np.sort(chosen))
        some = some.subset(some.labelled)
        logits = judge_all(averaged, some)
        return {"score": auc_with_interval(some.labels, logits, some.groups).value}

    def save_best(self, path: Path, averaged: nn.Module, step: int) -> None:
        write_bytes(path, save({k: v.contiguous() for k, v in averaged.state_dict().items()}))


def learn_labels(
    build: Callable[[], nn.Module],
    records: Records,
    folder: Path,
    settings: LoopSettings,
    *,
    rate: float,
    world: World | None = None,
    progress: Progress = silent,
) -> nn.Module:
    """Train a network on labels, or go on where a run was cut off.

    Args:
        build: Makes the network: images and maps → (N,) logits.
        records: What it learns from.
        folder: Of the run.
        settings: Steps, batch, seed; there is one look, after the last step, so nothing is chosen.
        rate: Learning rate.
        world: The processes that share the work.
        progress: Told about the steps.

    Returns:
        The network with averaged weights, in evaluation mode.
    """
    world = world or World()
    torch.manual_seed(settings.seed)
    network = build().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    groups = [ParameterGroup(list(network.parameters()), rate)]
    loop = Loop(folder, settings, network, _Labels(records, settings, world.size), groups, world)
    loop.go(progress)
    return loop.averaged


def judge_all(
    network: nn.Module, records: Records, progress: Progress = silent
) -> NDArray[np.float64]:
    """Logits of a network for records, (n,)."""
    batches = batches_of(records.images, records.maps)
    (logits,) = run(network, batches, len(records), step="judge", progress=progress)
    return np.asarray(logits, np.float64)


def _conv(inputs: int, outputs: int, kernel: int, *, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]


def _separable(inputs: int, outputs: int) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False),
        nn.Conv2d(inputs, outputs, 1, bias=False),
        nn.BatchNorm2d(outputs),
    ]
