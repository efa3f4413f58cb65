"""The teacher: frozen encoders look at the picture, its fine detail and its defocus map.

Each modality is a branch of its own. A branch shows the encoder a picture (the photograph, what a
high-pass filter leaves of it, or its physical defocus map), takes the mean and the standard
deviation of each inner channel over the picture, and judges them by a linear function that is
found in closed form (:mod:`edgedf.distill.networks.probe`). Branches are added up after each is
scaled to log odds, so any of them can be left out. A head of its own improves the physical map: it
is learned from renderings, whose maps are exact, and looks at the finest branch's features beside
the map.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgedf.distill.networks.backbones import EfficientNetLite, load_imagenet_weights
from edgedf.distill.networks.decoder import MapHead
from edgedf.distill.networks.layers import MEAN, STD, HighPass
from edgedf.distill.networks.probe import Calibration, Probe
from edgedf.distill.settings import TeacherConfig
from edgedf.errors import ConfigError

__all__ = ["Branch", "Teacher", "TeacherOutput", "improved_map"]

# Grey levels for a pixel of blur, so that the map's 0 to 5 px fill the range of a picture.
_LEVELS_PER_PX = 50.0
# Modalities from the one with most to say of blur down; the map head looks at the first there is.
_FINEST = ("frequency", "rgb", "defocus")
# Stages of an encoder down to stride 16, which the map head needs.
_STAGES = 5


class TeacherOutput(NamedTuple):
    """A teacher's outputs.

    Args:
        fake_logit: (N,), log odds of being fake where both are equally frequent.
        by_modality: (N, modalities): that of each branch by itself.
        defocus_map: (N, 1, H / 4, W / 4), sigma in pixels of the image, in [0, 6]; None where the
            pictures were not looked at or there is no map head.
    """

    fake_logit: Tensor
    by_modality: Tensor
    defocus_map: Tensor | None = None


class Branch(nn.Module):
    """One modality: a picture for the encoder, statistics of its inner channels, a verdict.

    Args:
        modality: One of :data:`edgedf.distill.settings.MODALITIES`.
        config: Of the teacher.
    """

    def __init__(self, modality: str, config: TeacherConfig) -> None:
        super().__init__()
        self.modality, self._first = modality, config.first_block
        self.encoder = EfficientNetLite(config.backbone, config.last_block + 1)
        self.high_pass = HighPass() if modality == "frequency" else None
        judged = list(self.encoder.blocks())[config.first_block :]
        self.features = 2 * sum(block.depthwise.groups for block in judged)
        for name, size in (("centre", 0), ("deviation", 1), ("weight", 0)):
            self.register_buffer(name, torch.full((self.features,), float(size)))
        for name in ("bias", "offset"):
            self.register_buffer(name, torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))
        self.requires_grad_(False)

    def statistics(self, image: Tensor, defocus: Tensor) -> Tensor:
        """Mean and standard deviation over the picture of the judged blocks' inner channels.

        Args:
            image: RGB, float, (N, 3, H, W) in [0, 255].
            defocus: (N, 1, h, w), sigma in pixels of the image.

        Returns:
            (N, features).
        """
        inner = self.encoder.all_features(self.normalised(image, defocus))[1]
        parts = [
            statistic
            for x in inner[self._first :]
            for statistic in (x.mean(dim=(2, 3)), _deviation(x))
        ]
        return torch.cat(parts, dim=1)

    def normalised(self, image: Tensor, defocus: Tensor) -> Tensor:
        """What :meth:`seen` gives, as ImageNet's weights want it."""
        return (self.seen(image, defocus) - MEAN) / STD

    def seen(self, image: Tensor, defocus: Tensor) -> Tensor:
        """The picture that the encoder looks at, (N, 3, H, W) in [0, 255]."""
        if self.modality == "defocus":
            levels = (defocus * _LEVELS_PER_PX).clamp(0, 255)
            full = F.interpolate(levels, image.shape[2:], mode="bilinear", align_corners=False)
            return full.expand(-1, 3, -1, -1)
        return image if self.high_pass is None else self.high_pass(image)

    def take(self, probe: Probe, calibration: Calibration) -> None:
        """Judge by this probe from now on."""
        state = self.state_dict()
        for name in ("centre", "deviation", "weight"):
            state[name].copy_(torch.from_numpy(getattr(probe, name)))
        for name, value in (
            ("bias", probe.bias),
            ("scale", calibration.scale),
            ("offset", calibration.offset),
        ):
            state[name].fill_(value)

    @property
    def temperature(self) -> float:
        """What the probe's value is divided by to be log odds."""
        return 1 / float(dict(self.named_buffers(recurse=False))["scale"])

    def judge(self, statistics: Tensor) -> Tensor:
        """Log odds from statistics: (N, features) → (N,)."""
        state = dict(self.named_buffers(recurse=False))
        scaled = (statistics - state["centre"]) / state["deviation"]
        value = scaled @ state["weight"] + state["bias"]
        return value * state["scale"] + state["offset"]


class Teacher(nn.Module):
    """All branches, and the head for the defocus map.

    Args:
        config: Architecture.

    Raises:
        ConfigError: The encoders end before stride 16, and a map head is asked for.
    """

    def __init__(self, config: TeacherConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or TeacherConfig()
        self.branches = nn.ModuleList(Branch(name, config) for name in config.modalities)
        self.map_head = _map_head(self.finest, config) if config.map_channels else None
        # After the branches are added up: they agree often, so that their sum is too sure.
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("offset", torch.zeros(()))

    def forward(self, image: Tensor, defocus: Tensor) -> TeacherOutput:
        """Judge pictures.

        Args:
            image: RGB, float, (N, 3, H, W) in [0, 255].
            defocus: (N, 1, h, w), sigma in pixels of the image.
        """
        verdict = self.fuse([branch.statistics(image, defocus) for branch in self.each()])
        return verdict._replace(
            defocus_map=None if self.map_head is None else self.defocus_map(image, defocus)
        )

    def defocus_map(self, image: Tensor, defocus: Tensor) -> Tensor:
        """The map head's map, or the physical one where there is no head.

        Args:
            image: As for :meth:`forward`.
            defocus: Likewise; not looked at where the teacher has no defocus modality.

        Returns:
            (N, 1, H / 4, W / 4), sigma in pixels of the image.
        """
        if self.map_head is None:
            return defocus
        return improved_map(self.finest, self.map_head, image, defocus)

    @property
    def finest(self) -> Branch:
        """The branch whose features the map head looks at."""
        return min(self.each(), key=lambda branch: _FINEST.index(branch.modality))

    def fuse(self, statistics: Sequence[Tensor]) -> TeacherOutput:
        """Judge by the statistics of each branch, in the order of the modalities."""
        single = torch.stack(
            [branch.judge(x) for branch, x in zip(self.each(), statistics, strict=True)], dim=1
        )
        state = dict(self.named_buffers(recurse=False))
        return TeacherOutput(single.mean(dim=1) * state["scale"] + state["offset"], single)

    def take(self, calibration: Calibration) -> None:
        """Scale the mean of the branches like this from now on."""
        state = self.state_dict()
        state["scale"].fill_(calibration.scale)
        state["offset"].fill_(calibration.offset)

    @property
    def temperature(self) -> float:
        """What the branches' mean is divided by to be log odds."""
        return 1 / float(dict(self.named_buffers(recurse=False))["scale"])

    def each(self) -> list[Branch]:
        """The branches in the order of the modalities."""
        return [branch for branch in self.branches if isinstance(branch, Branch)]

    def own_weights(self) -> dict[str, Tensor]:
        """The weights that are not ImageNet's or fixed."""
        return {
            name: value
            for name, value in self.state_dict().items()
            if ".encoder." not in name and ".high_pass." not in name
        }

    def load_imagenet(self) -> None:
        """Give each encoder its ImageNet weights.

        Raises:
            MissingExtra: Their package is not installed.
        """
        for branch in self.each():
            load_imagenet_weights(branch.encoder)


def improved_map(branch: Branch, head: MapHead, image: Tensor, defocus: Tensor) -> Tensor:
    """A map head's map; gradients reach the head alone.

    Args:
        branch: Whose features the head looks at.
        head: The head.
        image: RGB, float, (N, 3, H, W) in [0, 255].
        defocus: (N, 1, h, w): the physical map, sigma in pixels of the image.

    Returns:
        (N, 1, H / 4, W / 4), likewise.
    """
    seen = branch.normalised(image, defocus)
    with torch.no_grad():
        ends = branch.encoder(seen)
    improved: Tensor = head(ends, seen, defocus)
    return improved


def _map_head(branch: Branch, config: TeacherConfig) -> MapHead:
    channels = branch.encoder.channels
    if len(channels) < _STAGES:
        raise ConfigError(
            f"Encoders that end with block {config.last_block} have nothing at stride 16.",
            expected="encoders that go on to stride 16 where there is a map head",
            next_step="choose a later teacher.last_block, or teacher.map_channels=0",
        )
    inputs = (channels[1], channels[2], channels[4])
    takes_map = "defocus" in config.modalities
    return MapHead(inputs, config.map_channels, config.map_blocks, takes_map=takes_map)


def _deviation(x: Tensor) -> Tensor:
    """Standard deviation over the picture; 0 where the picture is one pixel at that stride."""
    return x.std(dim=(2, 3), correction=min(1, x.shape[2] * x.shape[3] - 1))
