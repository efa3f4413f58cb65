"""The student: RGB in, a fake logit and a defocus map out, in operators that stay int8.

The encoder is the first blocks of EfficientNet-Lite0 with their ImageNet weights. A light decoder
adds its strides up to a map at stride 4. The fake head is linear in statistics over the picture:
the mean of each wide channel of the last blocks, and the mean of what exceeds a threshold, which
grows with the channel's spread. Left out sources one at a time, such a head on a frozen encoder
does better than a tuned encoder (see docs/results.md).
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn

from edgedf import typed_json
from edgedf.distill.backbones import MEAN, STD, Block, Conv, EfficientNetLite
from edgedf.errors import CheckpointError, ConfigError, EdgedfError
from edgedf.files import write_bytes

__all__ = [
    "FORMAT_VERSION",
    "MAX_CHECKPOINT_BYTES",
    "Deployable",
    "Student",
    "StudentConfig",
    "StudentOutput",
    "load_checkpoint",
    "save_checkpoint",
]

FORMAT_VERSION = 2
MAX_CHECKPOINT_BYTES = 64 * 1024 * 1024

_METADATA_KEY = "edgedf"
_MOST_JUDGED = 5  # XNNPACK joins at most five tensors


@dataclass(frozen=True)
class StudentConfig:
    """Architecture of a student.

    Args:
        input_size: Side of the input in pixels, a multiple of 32.
        blocks: Blocks of EfficientNet-Lite0 that are kept, 11 to 16; its 13th is the first that
            looks at the picture at stride 32.
        judged_blocks: How many of the last blocks the fake head looks into.
        decoder_channels: Width of the decoder.
        dropout: Share of the fake head's inputs dropped in training, in [0, 1).
        int8_weights: Whether convolutions round their weights to 255 levels per output channel, in
            training as later on the device, so that quantizing the weights changes nothing.

    Raises:
        ConfigError: A value out of range.
    """

    input_size: int = 256
    blocks: int = 13
    judged_blocks: int = 4
    decoder_channels: int = 48
    dropout: float = 0.3
    int8_weights: bool = True

    def __post_init__(self) -> None:
        # Upper bounds keep a hostile checkpoint from asking for the whole memory.
        if (
            not 32 <= self.input_size <= 2048
            or self.input_size % 32
            or not 11 <= self.blocks <= 16
            or not 1 <= self.judged_blocks <= _MOST_JUDGED
            or not 1 <= self.decoder_channels <= 2048
            or not 0.0 <= self.dropout < 1.0
        ):
            raise ConfigError(
                f"No student can be built from {self}.",
                expected="an input side that is a multiple of 32, 11 to 16 blocks of which 1 to "
                f"{_MOST_JUDGED} are judged, 1 to 2048 decoder channels, a dropout of at least 0 "
                "and below 1",
                next_step="change the value that is outside",
            )


class StudentOutput(NamedTuple):
    """What the student says.

    Args:
        fake_logit: (N, 1), unbounded; its sigmoid is the fake score.
        defocus_map: (N, 1, H / 4, W / 4), blur as the standard deviation of a Gaussian in pixels
            of the input, in [0, 6].
    """

    fake_logit: Tensor
    defocus_map: Tensor


class _Decoder(nn.Module):
    """Features at strides 4, 8 and 16 → features at stride 4."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        _, four, eight, _, sixteen = EfficientNetLite(blocks=11).channels
        self.reduce16 = Conv(sixteen, channels)
        self.reduce8 = Conv(eight, channels)
        self.reduce4 = Conv(four, channels)
        self.mix8 = _separable(channels)
        self.mix4 = _separable(channels)

    def forward(self, four: Tensor, eight: Tensor, sixteen: Tensor) -> Tensor:
        x = self.mix8(_double(self.reduce16(sixteen)) + self.reduce8(eight))
        mixed: Tensor = self.mix4(_double(x) + self.reduce4(four))
        return mixed


class Student(nn.Module):
    """The trainable student.

    Args:
        config: Architecture.

    Example:
        >>> student = Student(StudentConfig(input_size=64)).eval()
        >>> output = student(torch.zeros(1, 3, 64, 64))
        >>> output.defocus_map.shape
        torch.Size([1, 1, 16, 16])
    """

    def __init__(self, config: StudentConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or StudentConfig()
        self.encoder = EfficientNetLite("lite0", config.blocks)
        self.decoder = _Decoder(config.decoder_channels)
        self.blur = Conv(config.decoder_channels, 1, 3)
        # relu6 passes no gradient outside (0, 6): start inside, at a usual blur.
        nn.init.normal_(self.blur.weight, std=0.01)
        nn.init.constant_(self.blur.bias, 1.5)
        widths = [block.depthwise.groups for block in self._judged()]
        self.spreads = nn.ModuleList(Conv(width, width, depthwise=True) for width in widths)
        self.dropout = nn.Dropout(config.dropout)
        self.fake = nn.Linear(2 * sum(widths), 1)
        for module in self.modules():
            if isinstance(module, Conv):
                module.int8_weights = config.int8_weights

    def forward(self, image: Tensor) -> StudentOutput:
        """Run the network.

        Args:
            image: RGB, float, (N, 3, H, W) in [0, 255]; H and W multiples of 32.
        """
        return self._outputs((image - MEAN) / STD)

    def statistics(self, image: Tensor) -> Tensor:
        """What the fake head judges by.

        Args:
            image: As for :meth:`forward`.

        Returns:
            (N, features): for each judged block the mean of each inner channel over the picture,
            and the mean of what exceeds its threshold.
        """
        return self._pooled(self._features((image - MEAN) / STD)[1])

    def fit_spreads(self, mean: Tensor, deviation: Tensor) -> None:
        """Set the thresholds of the spread layers to a channel's usual mean.

        Args:
            mean: (sum of the judged blocks' inner channels,): mean of each channel over pictures
                and pixels, after the depthwise layer.
            deviation: The same shape: its standard deviation.
        """
        at = 0
        with torch.no_grad():
            for spread in self.spreads:
                count = spread.weight.shape[0]
                scale = 1 / deviation[at : at + count].clamp_min(0.05)
                spread.weight.copy_(scale.reshape(-1, 1, 1, 1))
                spread.bias.copy_(-mean[at : at + count] * scale)
                at += count

    def _judged(self) -> list[Block]:
        return list(self.encoder.blocks())[-self.config.judged_blocks :]

    def _features(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The features at the end of each stage, and the inner ones of the judged blocks."""
        x = self.encoder.stem(x)
        ends, inner = [], []
        first = self.config.blocks - self.config.judged_blocks
        index = 0
        for stage in self.encoder.stages:
            for block in stage:
                wide, x = block.inner_and_outer(x)
                if index >= first:
                    inner.append(wide)
                index += 1
            ends.append(x)
        return ends, inner

    def _pooled(self, inner: list[Tensor]) -> Tensor:
        means = [F.adaptive_avg_pool2d(x, 1) for x in inner]
        spreads = [
            F.adaptive_avg_pool2d(spread(x), 1)
            for spread, x in zip(self.spreads, inner, strict=True)
        ]
        # XNNPACK joins at most five tensors; without the reshape in between the TFLite converter
        # makes one join of the two halves again, and a second delegate partition.
        return torch.cat([torch.cat(part, dim=1).flatten(1) for part in (means, spreads)], dim=1)

    def _outputs(self, x: Tensor) -> StudentOutput:
        ends, inner = self._features(x)
        decoded = self.decoder(ends[1], ends[2], ends[4])
        return StudentOutput(self.fake(self.dropout(self._pooled(inner))), self.blur(decoded))

    def deployable(self) -> Deployable:
        """The same function with gains and the input's normalisation folded into the weights."""
        return Deployable(self)


class Deployable(nn.Module):
    """A student for export: float32 (N, 3, H, W) in [0, 255] → (fake_logit, defocus_map).

    The first convolution takes raw grey levels: its weights are divided by the standard deviation
    and its bias takes the mean. Zeros around the raw picture are what the student pads its
    normalised input with (black), so the two are equal at the border as well.

    Args:
        student: Copied, not kept.
    """

    def __init__(self, student: Student) -> None:
        super().__init__()
        copy = Student(student.config)
        copy.load_state_dict(student.state_dict())
        self.student = copy.eval().requires_grad_(False)
        with torch.no_grad():
            for module in copy.modules():
                if isinstance(module, Conv):
                    module.weight.copy_(module.effective_weight())
                    module.gain.fill_(1.0)
            stem = copy.encoder.stem
            stem.bias.sub_(stem.weight.sum(dim=(1, 2, 3)) * (MEAN / STD))
            stem.weight.div_(STD)
        stem.pad_value = 0.0
        for module in copy.modules():
            if isinstance(module, Conv):
                # An exported graph must not carry multiplications by one.
                module.effective_weight = _plain_weight(module)  # type: ignore[method-assign]
        self.eval()

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Run the network; see the class."""
        output = self.student._outputs(image)
        return output.fake_logit, output.defocus_map


def save_checkpoint(path: str | Path, student: Student, metadata: Mapping[str, Any]) -> Path:
    """Write a student to a ``.safetensors`` file, whole or not at all.

    Args:
        path: Where to.
        student: What.
        metadata: JSON-compatible facts (name, version, thresholds, training data, accuracy);
            ``format_version``, ``architecture`` and ``input`` are added here.

    Returns:
        The path.

    Raises:
        CheckpointError: A weight is not finite.
        OutputError: The file cannot be written.
    """
    state = {name: tensor.detach().contiguous() for name, tensor in student.state_dict().items()}
    _check_finite(state, Path(path))
    described = {
        **metadata,
        "format_version": FORMAT_VERSION,
        "architecture": asdict(student.config),
        "input": {"size": student.config.input_size, "mean": [MEAN] * 3, "std": [STD] * 3},
    }
    return write_bytes(path, save(state, {_METADATA_KEY: json.dumps(described, sort_keys=True)}))


def load_checkpoint(path: str | Path) -> tuple[Student, dict[str, Any]]:
    """Read a student written by :func:`save_checkpoint`. Nothing in the file is executed.

    Args:
        path: A ``.safetensors`` file.

    Returns:
        The student in evaluation mode, and the metadata.

    Raises:
        CheckpointError: No such file, a pickle, cut off, too large, not ours, from a newer edgedf,
            with missing, unknown or misshapen weights, or with weights that are not finite.
    """
    path = Path(path)
    _check_container(path)
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            text = (file.metadata() or {}).get(_METADATA_KEY)
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is cut off or damaged: {error}.",
            expected="a .safetensors file written by `edgedf distill train`",
            next_step="copy or download it again",
        ) from error
    metadata = _parse_metadata(path, text)
    student = _build(path, metadata)
    _check_weights(path, student.state_dict(), state)
    _check_finite(state, path)
    student.load_state_dict(state)
    return student.eval(), metadata


def _check_container(path: Path) -> None:
    """Refuse what is no safetensors file before anything parses it."""
    expected = "a .safetensors file written by `edgedf distill train`"
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise OSError(22, "it is not a file")
        size = path.stat().st_size
        with path.open("rb") as stream:
            head = stream.read(8)
    except OSError as error:
        raise CheckpointError(
            f"Cannot read the checkpoint {path}: {error.strerror or error}.",
            expected=expected,
            next_step="check the path and its permissions",
        ) from error
    # A pickle runs code when it is loaded; torch.save writes one, inside a zip since 1.6.
    if zipfile.is_zipfile(path) or (len(head) > 1 and head[0] == 0x80 and head[1] <= 5):
        raise CheckpointError(
            f"{path} is a pickle, which can run any code when it is loaded.",
            expected=expected,
            next_step="where it was made: load it there and write it with "
            "edgedf.distill.student.save_checkpoint",
        )
    if size > MAX_CHECKPOINT_BYTES:
        raise CheckpointError(
            f"{path} has {size / 1e6:.0f} MB.",
            expected=f"a student of at most {MAX_CHECKPOINT_BYTES / 1e6:.0f} MB",
            next_step="name the student's own file, not that of a whole run",
        )


def _parse_metadata(path: Path, text: str | None) -> dict[str, Any]:
    if text is None:
        raise CheckpointError(
            f"{path} holds weights, but not of an edgedf student.",
            expected=f"safetensors metadata with the key '{_METADATA_KEY}'",
            next_step="write it with edgedf.distill.student.save_checkpoint",
        )
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"The metadata of {path} is not JSON: {error}.",
            expected="what `edgedf distill train` writes",
            next_step="copy or download it again",
        ) from error
    version = metadata.get("format_version") if isinstance(metadata, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has checkpoint format {version}.",
            expected=f"format {FORMAT_VERSION}",
            next_step="pip install --upgrade edgedf",
        )
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"The metadata of {path} names no checkpoint format.",
            expected=f"format_version {FORMAT_VERSION}",
            next_step="write it with edgedf.distill.student.save_checkpoint",
        )
    return dict(metadata)


def _build(path: Path, metadata: Mapping[str, Any]) -> Student:
    try:
        config = typed_json.decode(StudentConfig, metadata.get("architecture"))
    except (EdgedfError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"The architecture in {path} is none of ours: {error}",
            expected="the fields of edgedf.distill.student.StudentConfig",
            next_step="train it again, or use the edgedf that wrote it",
        ) from error
    return Student(config)


def _check_weights(path: Path, wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    missing, unknown = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    if missing or unknown:
        parts = [
            f"{title} {', '.join(names[:3])}{f' and {len(names) - 3} more' * (len(names) > 3)}"
            for title, names in (("missing", missing), ("unknown", unknown))
            if names
        ]
        raise CheckpointError(
            f"The weights in {path} are not those of its architecture: {'; '.join(parts)}.",
            expected=f"{len(wanted)} tensors such as {next(iter(wanted))}",
            next_step="train it again, or use the edgedf that wrote it",
        )
    for name, tensor in wanted.items():
        if found[name].shape != tensor.shape or found[name].dtype != tensor.dtype:
            raise CheckpointError(
                f"{name} in {path} is {found[name].dtype} {tuple(found[name].shape)}.",
                expected=f"{tensor.dtype} {tuple(tensor.shape)}",
                next_step="train it again, or use the edgedf that wrote it",
            )


def _check_finite(state: Mapping[str, Tensor], path: Path) -> None:
    for name, tensor in state.items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(
                f"{name} of {path} holds values that are not finite.",
                expected="finite weights",
                next_step="go back to an earlier checkpoint; training has diverged",
            )


def _separable(channels: int) -> nn.Sequential:
    return nn.Sequential(Conv(channels, channels, 3, depthwise=True), Conv(channels, channels))


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def _plain_weight(module: Conv) -> Any:
    return lambda: module.weight
