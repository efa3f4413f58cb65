"""The teacher: frozen encoders look at the picture, its fine detail and its defocus map.

Each modality is a branch of its own. A branch shows the encoder a picture (the photograph, what a
high-pass filter leaves of it, or its physical defocus map), takes the mean and the standard
deviation of each inner channel over the picture, and judges them by a linear function that is
found in closed form (:mod:`edgedf.distill.networks.probe`). Branches are added up after each is
scaled to log odds, so any of them can be left out. A dense head improves the physical map: it is
learned from renderings, whose maps are exact, and looks at the finest branch's features beside the
map.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn

from edgedf import typed_json
from edgedf.distill.networks.backbones import (
    MEAN,
    STD,
    VARIANTS,
    EfficientNetLite,
    HighPass,
    load_imagenet_weights,
)
from edgedf.distill.networks.decoder import MapHead
from edgedf.distill.networks.probe import Calibration, Probe
from edgedf.errors import CheckpointError, ConfigError, EdgedfError
from edgedf.files import write_bytes

__all__ = [
    "MODALITIES",
    "Branch",
    "Teacher",
    "TeacherConfig",
    "TeacherOutput",
    "improved_map",
    "load_teacher",
    "save_teacher",
]

MODALITIES = ("rgb", "frequency", "defocus")
FORMAT_VERSION = 2
MAX_TEACHER_BYTES = 256 * 1024 * 1024

_METADATA_KEY = "edgedf-teacher"
# Grey levels for a pixel of blur, so that the map's 0 to 5 px fill the range of a picture.
_LEVELS_PER_PX = 50.0
# Modalities from the one with most to say of blur down; the dense head looks at the first there is.
_FINEST = ("frequency", "rgb", "defocus")
# Stages of an encoder down to stride 16, which the dense head needs.
_STAGES = 5


@dataclass(frozen=True)
class TeacherConfig:
    """Architecture of a teacher.

    Args:
        modalities: Which branches it has, of :data:`MODALITIES`.
        backbone: Encoder of each branch: ``lite0``, ``lite1`` or ``lite2``.
        first_block: Number of the first block whose inner channels are judged, from 0.
        last_block: Number of the last.
        map_channels: Width of the dense head; 0 leaves it out.
        map_blocks: Of the head's path from the picture.

    Raises:
        ConfigError: A value out of range.
    """

    modalities: tuple[str, ...] = MODALITIES
    backbone: str = "lite0"
    first_block: int = 9
    last_block: int = 14
    map_channels: int = 64
    map_blocks: int = 4

    def __post_init__(self) -> None:
        unknown = [name for name in self.modalities if name not in MODALITIES]
        twice = len(set(self.modalities)) < len(self.modalities)
        if unknown or twice or not self.modalities:
            raise ConfigError(
                f"No teacher can be built from the modalities {', '.join(self.modalities) or '-'}.",
                expected=f"one or more of {', '.join(MODALITIES)}, each once",
                next_step="--modalities rgb,frequency,defocus",
            )
        # Upper bounds keep a hostile file from asking for the whole memory.
        if (
            self.backbone not in VARIANTS
            or not 0 <= self.first_block <= self.last_block <= 15
            or not 0 <= self.map_channels <= 2048
            or not 0 <= self.map_blocks <= 64
        ):
            raise ConfigError(
                f"No teacher can be built from {self}.",
                expected=f"a backbone of {', '.join(VARIANTS)}, blocks from 0 to 15 in order, "
                "0 to 2048 channels and 0 to 64 blocks for the map",
                next_step="change the value that is outside",
            )


class TeacherOutput(NamedTuple):
    """What the teacher says.

    Args:
        fake_logit: (N,), log odds of being fake where both are equally frequent.
        by_modality: (N, modalities): that of each branch by itself.
        defocus_map: (N, 1, H / 4, W / 4), sigma in pixels of the image, in [0, 6]; None where the
            pictures were not looked at or there is no dense head.
    """

    fake_logit: Tensor
    by_modality: Tensor
    defocus_map: Tensor | None = None


class Branch(nn.Module):
    """One modality: a picture for the encoder, statistics of its inner channels, a verdict.

    Args:
        modality: One of :data:`MODALITIES`.
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
            dense = F.interpolate(levels, image.shape[2:], mode="bilinear", align_corners=False)
            return dense.expand(-1, 3, -1, -1)
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
    """All branches, and the dense head.

    Args:
        config: Architecture.

    Raises:
        ConfigError: The encoders end before stride 16, and a dense head is asked for.
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
        """The dense head's map, or the physical one where there is no head.

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
        """The branch whose features the dense head looks at."""
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

    def load_imagenet(self) -> None:
        """Give each encoder its ImageNet weights.

        Raises:
            MissingExtra: Their package is not installed.
        """
        for branch in self.each():
            load_imagenet_weights(branch.encoder)


def improved_map(branch: Branch, head: MapHead, image: Tensor, defocus: Tensor) -> Tensor:
    """A dense head's map; gradients reach the head alone.

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
    found: Tensor = head(ends, seen, defocus)
    return found


def save_teacher(path: str | Path, teacher: Teacher, metadata: Mapping[str, Any]) -> Path:
    """Write a teacher to a ``.safetensors`` file, whole or not at all.

    Encoders are ImageNet's and are not written.

    Args:
        path: Where to.
        teacher: What.
        metadata: JSON-compatible facts.

    Raises:
        CheckpointError: A weight is not finite.
        OutputError: The file cannot be written.
    """
    described = {
        **metadata,
        "format_version": FORMAT_VERSION,
        "architecture": typed_json.encode(teacher.config),
    }
    own = _own(teacher)
    if not all(torch.isfinite(value).all() for value in own.values()):
        raise CheckpointError(
            "The teacher holds values that are not finite.",
            expected="finite weights",
            next_step="look for pictures whose statistics are not finite; none should be",
        )
    text = json.dumps(described, sort_keys=True)
    return write_bytes(path, save(own, {_METADATA_KEY: text}))


def load_teacher(path: str | Path) -> tuple[Teacher, dict[str, Any]]:
    """Read a teacher written by :func:`save_teacher`.

    Returns:
        The teacher with ImageNet's encoders, and the metadata with ``sha256``, a hash of what it
        judges by, added.

    Raises:
        CheckpointError: No such file, not a teacher, damaged, or of another version.
        MissingExtra: The package with the ImageNet weights is not installed.
    """
    path = Path(path)
    expected = "a teacher written by `edgedf distill teach`"
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise ValueError("it is not a file")
        if path.stat().st_size > MAX_TEACHER_BYTES:
            raise ValueError(f"it has {path.stat().st_size / 1e6:.0f} MB")
        with safetensors.safe_open(str(path), framework="pt") as file:
            metadata = json.loads((file.metadata() or {})[_METADATA_KEY])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if metadata["format_version"] != FORMAT_VERSION:
            raise ValueError(f"its format is {metadata['format_version']}")
        teacher = Teacher(typed_json.decode(TeacherConfig, metadata["architecture"]))
        own = _own(teacher)
        if {k: v.shape for k, v in own.items()} != {k: v.shape for k, v in state.items()}:
            raise ValueError("its weights are not those of its architecture")
        if not all(torch.isfinite(value).all() for value in state.values()):
            raise ValueError("it holds values that are not finite")
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(
            f"Cannot read the teacher {path}: {getattr(error, 'strerror', None) or error}.",
            expected=expected,
            next_step="check the path, or run `edgedf distill teach` again",
        ) from error
    except (KeyError, TypeError, ValueError, EdgedfError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is no teacher of this edgedf: {error}.",
            expected=expected,
            next_step="run `edgedf distill teach` again",
        ) from error
    teacher.load_state_dict(state, strict=False)
    teacher.load_imagenet()
    return teacher.eval(), {**metadata, "sha256": fingerprint(teacher)}


def fingerprint(teacher: Teacher) -> str:
    """Hash of what a teacher judges by, to key what it said."""
    digest = hashlib.sha256(json.dumps(asdict(teacher.config), sort_keys=True).encode())
    for name, value in sorted(_own(teacher).items()):
        digest.update(name.encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()


def _map_head(branch: Branch, config: TeacherConfig) -> MapHead:
    channels = branch.encoder.channels
    if len(channels) < _STAGES:
        raise ConfigError(
            f"Encoders that end with block {config.last_block} have nothing at stride 16.",
            expected="encoders that go on to stride 16 where there is a dense head",
            next_step="choose a later teacher.last_block, or teacher.map_channels=0",
        )
    inputs = (channels[1], channels[2], channels[4])
    takes_map = "defocus" in config.modalities
    return MapHead(inputs, config.map_channels, config.map_blocks, takes_map=takes_map)


def _deviation(x: Tensor) -> Tensor:
    """Standard deviation over the picture; 0 where the picture is one pixel at that stride."""
    return x.std(dim=(2, 3), correction=min(1, x.shape[2] * x.shape[3] - 1))


def _own(teacher: Teacher) -> dict[str, Tensor]:
    """The weights that are not ImageNet's or fixed."""
    return {
        name: value.detach().contiguous()
        for name, value in teacher.state_dict().items()
        if ".encoder." not in name and ".high_pass." not in name
    }
