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
from typing import Any, NamedTuple, cast

import safetensors
import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn

from edgedf import typed_json
from edgedf.distill.networks.backbones import (
    MEAN,
    STD,
    Block,
    Conv,
    EfficientNetLite,
    HighPass,
    Sum,
    on_int8_grid,
)
from edgedf.distill.networks.decoder import Decoder, LocalPath, blur_layer
from edgedf.errors import CheckpointError, ConfigError, EdgedfError
from edgedf.files import write_bytes

__all__ = [
    "FORMAT_VERSION",
    "MAX_CHECKPOINT_BYTES",
    "Deployable",
    "Student",
    "StudentConfig",
    "StudentOutput",
    "folded_weights",
    "load_checkpoint",
    "save_checkpoint",
]

FORMAT_VERSION = 2
MAX_CHECKPOINT_BYTES = 64 * 1024 * 1024

_METADATA_KEY = "edgedf"


@dataclass(frozen=True)
class StudentConfig:
    """Architecture of a student.

    Args:
        input_size: Side of the input in pixels, a multiple of 32.
        blocks: Blocks of EfficientNet-Lite0 that are kept, 11 to 16; its 13th is the first that
            looks at the picture at stride 32.
        judged_blocks: How many of the last blocks the fake head looks into.
        decoder_channels: Width of the decoder.
        local_blocks: Blocks of the path from the picture to the map that does not go through the
            frozen encoder; 0 leaves it out.
        high_pass: Whether the encoder sees the picture's fine detail alone; see
            :class:`edgedf.distill.networks.backbones.HighPass`.
        int8_weights: Whether convolutions round their weights to 255 levels per output channel, in
            training as later on the device, so that quantizing the weights changes nothing.

    Raises:
        ConfigError: A value out of range.
    """

    input_size: int = 256
    blocks: int = 11
    judged_blocks: int = 3
    decoder_channels: int = 48
    local_blocks: int = 2
    high_pass: bool = True
    int8_weights: bool = True

    def __post_init__(self) -> None:
        # Upper bounds keep a hostile checkpoint from asking for the whole memory.
        if (
            not 32 <= self.input_size <= 2048
            or self.input_size % 32
            or not 11 <= self.blocks <= 16
            or not 1 <= self.judged_blocks <= self.blocks
            or not 1 <= self.decoder_channels <= 2048
            or not 0 <= self.local_blocks <= 64
        ):
            raise ConfigError(
                f"No student can be built from {self}.",
                expected="an input side that is a multiple of 32, 11 to 16 blocks of which at "
                "least one is judged, 1 to 2048 decoder channels, 0 to 64 local blocks",
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


class Student(nn.Module):
    """The trainable student.

    Attributes:
        centre: Usual value of each statistic, which is taken away before the fake head.
        deviation: How much it usually varies, which it is divided by.

    Args:
        config: Architecture.

    Example:
        >>> student = Student(StudentConfig(input_size=64)).eval()
        >>> output = student(torch.zeros(1, 3, 64, 64))
        >>> output.defocus_map.shape
        torch.Size([1, 1, 16, 16])
    """

    centre: Tensor
    deviation: Tensor

    def __init__(self, config: StudentConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or StudentConfig()
        self.encoder = EfficientNetLite("lite0", config.blocks)
        _, four, eight, _, sixteen, *_ = self.encoder.channels
        self.decoder = Decoder((four, eight, sixteen), config.decoder_channels)
        self.local = (
            LocalPath(config.decoder_channels, config.local_blocks) if config.local_blocks else None
        )
        self.blur = blur_layer(config.decoder_channels)
        widths = [block.depthwise.groups for block in self._judged()]
        self._widths = widths
        self.spreads = nn.ModuleList(Conv(width, width, depthwise=True) for width in widths)
        self.register_buffer("centre", torch.zeros(2 * sum(widths)))
        self.register_buffer("deviation", torch.ones(2 * sum(widths)))
        self.fake = nn.Linear(2 * sum(widths), 1)
        self.high_pass = HighPass() if config.high_pass else None
        for module in self.modules():
            if isinstance(module, Conv):
                module.int8_weights = config.int8_weights

    def forward(self, image: Tensor) -> StudentOutput:
        """Run the network.

        Args:
            image: RGB, float, (N, 3, H, W) in [0, 255]; H and W multiples of 32.
        """
        ends, inner = self.features(self.seen(image))
        statistics = (self._pooled(inner) - self.centre) / self.deviation
        return StudentOutput(self.fake(statistics), self.defocus_map(ends, image))

    def statistics(self, image: Tensor) -> Tensor:
        """What the fake head judges by, before :attr:`centre` and :attr:`deviation` are applied.

        Args:
            image: As for :meth:`forward`.

        Returns:
            (N, features): the mean of each inner channel of the judged blocks over the picture,
            then the mean of what exceeds each channel's threshold.
        """
        return self._pooled(self.features(self.seen(image))[1])

    def channel_moments(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and mean square of the inner channels over pixels, for :meth:`set_thresholds`.

        Args:
            image: As for :meth:`forward`.

        Returns:
            Twice (N, channels).
        """
        inner = self.features(self.seen(image))[1]
        means = torch.cat([x.mean(dim=(2, 3)) for x in inner], dim=1)
        return means, torch.cat([x.square().mean(dim=(2, 3)) for x in inner], dim=1)

    def set_thresholds(self, mean: Tensor, deviation: Tensor) -> None:
        """Put the threshold of each inner channel at its usual mean.

        Args:
            mean: (channels,): over pictures and pixels.
            deviation: (channels,): standard deviation over pictures and pixels.
        """
        at = 0
        with torch.no_grad():
            for module, count in zip(self.spreads, self._widths, strict=True):
                spread = cast(Conv, module)
                # A channel that hardly moves would only amplify rounding.
                scale = 1 / deviation[at : at + count].clamp_min(0.05)
                spread.weight.copy_(scale.reshape(-1, 1, 1, 1))
                spread.bias.copy_(-mean[at : at + count] * scale)
                at += count

    def storable(self, weights: Tensor) -> Tensor:
        """Weights of the statistics as int8 will store them, where the student rounds its own.

        The exported fake head has a convolution for each judged block's means and one for its
        spreads, each with one scale.

        Args:
            weights: (features,), for statistics that nothing is divided by.
        """
        if not self.config.int8_weights:
            return weights
        parts = weights.split(self._widths * 2)
        rounded = [on_int8_grid(part.reshape(1, -1, 1, 1)).flatten() for part in parts]
        return torch.cat(rounded)

    def seen(self, image: Tensor) -> Tensor:
        """What the encoder looks at, normalised.

        Args:
            image: As for :meth:`forward`.
        """
        return self.normalised(image if self.high_pass is None else self.high_pass(image))

    def _judged(self) -> list[Block]:
        return list(self.encoder.blocks())[-self.config.judged_blocks :]

    def features(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The features at the end of each stage, and the inner ones of the judged blocks.

        Args:
            x: From :meth:`seen`.
        """
        ends, inner = self.encoder.all_features(x)
        return ends, inner[-self.config.judged_blocks :]

    def _pooled(self, inner: list[Tensor]) -> Tensor:
        means = [F.adaptive_avg_pool2d(x, 1) for x in inner]
        spreads = [
            F.adaptive_avg_pool2d(spread(x), 1)
            for spread, x in zip(self.spreads, inner, strict=True)
        ]
        return torch.cat([*means, *spreads], dim=1).flatten(1)

    def defocus_map(self, ends: list[Tensor], image: Tensor) -> Tensor:
        """The map, (N, 1, H / 4, W / 4).

        Args:
            ends: Features at the end of each stage.
            image: As for :meth:`forward`.
        """
        local = None if self.local is None else self.local(self.normalised(image))
        blur: Tensor = self.blur(self.decoder(ends[1], ends[2], ends[4], local))
        return blur

    def normalised(self, image: Tensor) -> Tensor:
        """A picture as ImageNet's weights want it."""
        return (image - MEAN) / STD

    def deployable(self) -> Deployable:
        """The same function with gains and the input's normalisation folded into the weights."""
        return Deployable(self)


class Deployable(nn.Module):
    """A student for export: float32 (N, 3, H, W) in [0, 255] → (fake_logit, defocus_map).

    The first convolution of the encoder takes what precedes it as it is: its weights are divided by
    the standard deviation and its bias takes the mean. Zeros around it are what the student pads
    its normalised input with (black), so the two are equal at the border as well.

    The fake head weighs channels and adds up the blocks before it averages over the picture and not
    after, which is the same sum in another order. In int8 it makes the difference. Rounding
    averages out over the pixels, where thousands of rounded averages would not; and ranges are
    measured on many pixels of a calibration picture, where a picture has but one average, so that
    unusual pictures were cut off.

    Args:
        student: Copied, not kept.
    """

    def __init__(self, student: Student) -> None:
        super().__init__()
        copy = Student(student.config)
        copy.normalised = _as_it_is  # type: ignore[method-assign]
        copy.load_state_dict(student.state_dict())
        self.student = copy
        widths = copy._widths
        self.by_mean = nn.ModuleList(Conv(width, 1, relu=False) for width in widths)
        self.by_spread = nn.ModuleList(Conv(width, 1, relu=False) for width in widths)
        self.evidence = nn.ModuleList(Sum() for _ in widths)
        self.totals = nn.ModuleList(Sum() for _ in widths[1:])
        # An average over 2 x 2 pixels, as a convolution, which XNNPACK has in int8.
        self.halve = Conv(1, 1, 2, stride=2, relu=False)
        self.average = nn.AdaptiveAvgPool2d(1)
        copy.encoder.stem.pad_value = 0.0
        if copy.high_pass is not None:
            # Three channels fill no vector: as a depthwise filter it took half of the whole
            # network's time. As a whole one it has zeros where a channel would look at another.
            copy.high_pass.conv = Conv(3, 3, copy.high_pass.conv.weight.shape[2])
        if copy.local is not None:
            copy.local.stem = _with_even_kernel(copy.local.stem)
        with torch.no_grad():
            for name, value in folded_weights(student).items():
                self.get_parameter(name).copy_(value)
            for module in self.modules():
                if isinstance(module, Conv):
                    module.gain.fill_(1.0)
                    module.folded = True
        self.eval().requires_grad_(False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Run the network; see the class."""
        student = self.student
        ends, inner = student.features(
            image if student.high_pass is None else student.high_pass.conv(image)
        )
        evidence = [
            add(by_mean(x), by_spread(spread(x)))
            for add, by_mean, by_spread, spread, x in zip(
                self.evidence, self.by_mean, self.by_spread, student.spreads, inner, strict=True
            )
        ]
        total = evidence[0]
        for add, part in zip(self.totals, evidence[1:], strict=True):
            while total.shape[2] > part.shape[2]:
                total = self.halve(total)
            total = add(total, part)
        return self.average(total).flatten(1), student.defocus_map(ends, image)


def folded_weights(student: Student) -> dict[str, Tensor]:
    """The weights of a :class:`Deployable` as a function of the student's, with gradients.

    Args:
        student: Gains, the normalisation of the input and that of the statistics are folded.

    Returns:
        Every weight and bias that :meth:`Deployable.forward` uses, by its name there.
    """
    found = {}
    for name, conv in student.named_modules():
        if isinstance(conv, Conv):
            found[f"student.{name}.weight"] = conv.effective_weight()
            found[f"student.{name}.bias"] = conv.bias
    step = 1.0
    if student.high_pass is not None:
        step, name = student.high_pass.step, "student.high_pass.conv.weight"
        found[name] = torch.diag_embed(found[name][:, 0].permute(1, 2, 0)).permute(2, 3, 0, 1)
    _fold_normalisation(found, "student.encoder.stem", step)
    if student.local is not None:
        _fold_normalisation(found, "student.local.stem", 1.0)
        name = "student.local.stem.weight"
        found[name] = F.pad(found[name], (1, 0, 1, 0))
    widths = student._widths
    weights = (student.fake.weight[0] / student.deviation).split(widths * 2)
    centres = student.centre.split(widths * 2)
    names = [f"{kind}.{i}" for kind in ("by_mean", "by_spread") for i in range(len(widths))]
    for name, weight, centre in zip(names, weights, centres, strict=True):
        found[f"{name}.weight"] = weight.reshape(1, -1, 1, 1)
        # Each part by itself is then near 0, which leaves int8 its finest step.
        found[f"{name}.bias"] = -(weight @ centre).reshape(1)
    found["by_mean.0.bias"] = found["by_mean.0.bias"] + student.fake.bias
    found["halve.weight"] = student.centre.new_full((1, 1, 2, 2), 0.25)
    found["halve.bias"] = student.centre.new_zeros(1)
    return found


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
    if not (state["deviation"] > 0).all():
        raise CheckpointError(
            f"A deviation in {path} is not above 0.",
            expected="positive deviations, which statistics are divided by",
            next_step="train it again",
        )
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
            "edgedf.distill.networks.student.save_checkpoint",
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
            next_step="write it with edgedf.distill.networks.student.save_checkpoint",
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
    if isinstance(version, int) and 0 < version < FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has checkpoint format {version}, which is no longer read.",
            expected=f"format {FORMAT_VERSION}",
            next_step="train it again, or use the edgedf that wrote it",
        )
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"The metadata of {path} names no checkpoint format.",
            expected=f"format_version {FORMAT_VERSION}",
            next_step="write it with edgedf.distill.networks.student.save_checkpoint",
        )
    return dict(metadata)


def _build(path: Path, metadata: Mapping[str, Any]) -> Student:
    try:
        config = typed_json.decode(StudentConfig, metadata.get("architecture"))
    except (EdgedfError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"The architecture in {path} is none of ours: {error}",
            expected="the fields of edgedf.distill.networks.student.StudentConfig",
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


def _fold_normalisation(weights: dict[str, Tensor], stem: str, step: float) -> None:
    """Let a first convolution take grey levels divided by ``step`` instead of normalised ones."""
    weight = weights[f"{stem}.weight"]
    weights[f"{stem}.bias"] = weights[f"{stem}.bias"] - weight.sum(dim=(1, 2, 3)) * (MEAN / STD)
    weights[f"{stem}.weight"] = weight * (step / STD)


def _as_it_is(image: Tensor) -> Tensor:
    return image


def _with_even_kernel(conv: Conv) -> Conv:
    """A convolution like it with a row and a column of zero weights to come in front.

    With an odd kernel and a stride of 2 there is a pixel of padding at the end alone, which becomes
    an operator of its own right behind the input, with the picture transposed around it.
    """
    outputs, inputs, side, _ = conv.weight.shape
    return Conv(inputs, outputs, side + 1, stride=conv.stride, relu=conv.relu)
