"""The spec that every exported model carries: all that is needed to run it.

A spec is JSON with a ``schema_version``. Readers accept their own version; a file from a newer
edgedf is refused rather than guessed at. :func:`spec_schema` gives the JSON Schema.

The whole schema is one module, however long: whoever reads a spec looks in one place.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, get_args

from edgedf import typed_json
from edgedf.errors import ConfigError, SpecMismatch, SpecUnsupported
from edgedf.precision import PrecisionName
from edgedf.result import Threshold

__all__ = [
    "INPUT_NAME",
    "INPUT_TYPES",
    "INPUT_ZERO_POINTS",
    "LOGIT_BOUND",
    "MAP_MAXIMUM",
    "MAP_STRIDE",
    "OUTPUT_NAMES",
    "SCHEMA_VERSION",
    "Accuracy",
    "Calibration",
    "InputSpec",
    "InputType",
    "LayerOverride",
    "ModelSpec",
    "OperatingPoint",
    "OutputSpec",
    "PreprocessStep",
    "Recalibration",
    "TensorInfo",
    "Training",
    "check_tensors",
    "spec_schema",
]

SCHEMA_VERSION = 1

INPUT_NAME = "image"
OUTPUT_NAMES = ("fake_logit", "defocus_map")

MAP_STRIDE = 4
"""Input pixels per pixel of the defocus map."""

MAP_MAXIMUM = 6.0
"""Largest blur that a defocus map can show, in pixels of the input: where relu6 ends."""

LOGIT_BOUND = 8.0
"""A calibrated model's logit ends here on either side, where the score is within 0.0004 of 0 or 1.

The range found on calibration images would end at the most extreme of them: a model calibrated on
weak fakes could never reach the threshold for ``fake``.
"""

InputType = Literal["uint8", "int8", "float32"]
INPUT_TYPES: tuple[InputType, ...] = get_args(InputType)

INPUT_ZERO_POINTS: Mapping[InputType, int] = MappingProxyType(
    {"uint8": 0, "int8": -128, "float32": 0}
)
"""What an input of each type holds for a grey level of 0; a grey level is one step in all."""

_CONVERT_AGAIN = "convert the model again"

StepName = Literal["exif_orientation", "center_square_crop", "resize_exact", "uint8"]


@dataclass(frozen=True)
class PreprocessStep:
    """One named step, defined in :mod:`edgedf.imaging`.

    Args:
        step: Name of the step.
        size: Side in pixels, for ``resize_exact`` only.
    """

    step: StepName
    size: int | None = None


@dataclass(frozen=True)
class InputSpec:
    """The one input tensor.

    Args:
        name: Tensor name.
        height: Pixels.
        width: Pixels.
        layout: Always ``NHWC`` with N = 1.
        channels: Always ``RGB``.
        dtype: ``uint8`` takes the bytes of the picture, ``int8`` byte - 128, ``float32`` the same
            0 to 255 as floats.
        scale: Grey level = scale * (value - zero_point), which is what the first convolution
            sees; always 1.0, as the normalisation is folded into that convolution.
        zero_point: That of :data:`INPUT_ZERO_POINTS`.
        mean: Per channel, in grey levels: what the first layer subtracts (already folded in).
        std: Per channel, in grey levels: what the first layer divides by (already folded in).
    """

    name: str
    height: int
    width: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    layout: Literal["NHWC"] = "NHWC"
    channels: Literal["RGB"] = "RGB"
    dtype: InputType = "uint8"
    scale: float = 1.0
    zero_point: int = 0


@dataclass(frozen=True)
class OutputSpec:
    """One output tensor.

    Args:
        name: ``fake_logit`` or ``defocus_map``.
        shape: Tensor shape, NHWC for the map.
        meaning: In a sentence.
        units: ``logit`` or ``px``.
        minimum: Lower bound of the value; None when unbounded.
        maximum: Upper bound; None when unbounded.
        stride: Input pixels per map pixel; None for the logit.
        dtype: Type at the boundary, after dequantization.
        scale: Scale of the quantized tensor behind the boundary; None for float models.
        zero_point: Its zero point; None for float models.
    """

    name: Literal["fake_logit", "defocus_map"]
    shape: tuple[int, ...]
    meaning: str
    units: Literal["logit", "px"]
    minimum: float | None = None
    maximum: float | None = None
    stride: int | None = None
    dtype: Literal["float32"] = "float32"
    scale: float | None = None
    zero_point: int | None = None


@dataclass(frozen=True)
class Training:
    """Where the weights come from.

    Args:
        data: Names of the training sets.
        data_sha256: SHA-256 of the data manifest.
        steps: Optimiser steps.
    """

    data: str
    data_sha256: str
    steps: int = 0


@dataclass(frozen=True)
class Accuracy:
    """One measured figure of the float model with its interval.

    Args:
        dataset: Name and split.
        metric: Such as ``AUC``.
        value: The figure.
        low: Lower end of the 95 % interval.
        high: Upper end.
        n: Number of images.
        model: Which model was measured, such as ``fp32``.
    """

    dataset: str
    metric: str
    value: float
    low: float
    high: float
    n: int
    model: str = "fp32"


@dataclass(frozen=True)
class Calibration:
    """How the activation ranges were found.

    Args:
        method: ``minmax``, ``percentile``, ``mse`` or ``entropy``, as
            :mod:`edgedf.quantize.calibration.ranges` has them; ``qat`` where training found the
            ranges.
        samples: Number of images.
        images_sha256: SHA-256 over the sorted SHA-256 values of the images used.
        seed: Seed of the choice.
        ranges: Lowest and highest value of each activation, by the short name of its tensor, in
            order of execution; both ends are float32 numbers. Empty in files that were made before
            ranges were recorded.
        equalized: Whether channels were made equally large before.
        corrected_biases: Whether biases make up for rounded weights.
    """

    method: Literal["minmax", "percentile", "mse", "entropy", "qat"]
    samples: int
    images_sha256: str
    seed: int
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    equalized: bool = False
    corrected_biases: bool = False


@dataclass(frozen=True)
class OperatingPoint:
    """What a model's thresholds do to labelled pictures; the rest is called unsure.

    Args:
        real_called_fake: Share of the real pictures (false positive rate).
        real_called_real: Share of the real pictures (true negative rate).
        fake_called_fake: Share of the fakes (true positive rate).
        fake_called_real: Share of the fakes (false negative rate).
    """

    real_called_fake: float
    real_called_real: float
    fake_called_fake: float
    fake_called_real: float


@dataclass(frozen=True)
class Recalibration:
    """How a converted model's thresholds differ from its parent's, on labelled images.

    Args:
        parent: Thresholds of the parent.
        real: Number of real images.
        fake: Number of fakes.
        of_parent: The parent with its thresholds.
        kept: The converted model with those of the parent.
        chosen: The converted model with its own.
    """

    parent: Threshold
    real: int
    fake: int
    of_parent: OperatingPoint
    kept: OperatingPoint
    chosen: OperatingPoint


@dataclass(frozen=True)
class LayerOverride:
    """Layers that have another precision than the model.

    Args:
        precision: Theirs.
        pattern: What was asked for: a glob of layer names.
        layers: Names of the layers that it matches.
        followers: Names of those that take what these make, and therefore compute alike.
    """

    precision: PrecisionName
    pattern: str
    layers: tuple[str, ...]
    followers: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelSpec:
    """Everything a runtime needs to know about a model file.

    Args:
        name: Model name.
        version: Model version.
        created_by: Program and version that wrote the file.
        licence: Licence of the weights.
        precision: Of weights and activations.
        parent_sha256: SHA-256 of the checkpoint file this was exported from.
        input: The input tensor.
        preprocessing: Steps from a file to the input tensor, in order.
        outputs: The two outputs.
        threshold: Where a score turns into a verdict.
        training: Where the weights come from.
        accuracy: Measured figures.
        calibration: For quantized models.
        recalibration: For converted models: what ``threshold`` changes against the parent's.
        tools: Versions of the converters used, by package name.
        schema_version: Version of this schema.
        overrides: Layers of another precision.
        session_options: For an app that opens an ``.onnx`` file with a session of its own: session
            configuration of ONNX Runtime, value by name, without which the file answers wrongly on
            x86-64 processors without VNNI; see :mod:`edgedf.int8_kernels`. Left out of the JSON
            where there is nothing to set.

    Raises:
        SpecUnsupported: The parts contradict each other.
    """

    name: str
    version: str
    created_by: str
    licence: str
    precision: PrecisionName
    parent_sha256: str
    input: InputSpec
    preprocessing: tuple[PreprocessStep, ...]
    outputs: tuple[OutputSpec, ...]
    threshold: Threshold
    training: Training
    accuracy: tuple[Accuracy, ...] = ()
    calibration: Calibration | None = None
    recalibration: Recalibration | None = None
    tools: dict[str, str] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION
    overrides: tuple[LayerOverride, ...] = ()
    session_options: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = sorted(output.name for output in self.outputs)
        if names != ["defocus_map", "fake_logit"]:
            raise _broken(f"lists the outputs {names}", "fake_logit and defocus_map")
        shapes = self.output("fake_logit").shape, self.output("defocus_map").shape
        if shapes[0] != (1, 1) or len(shapes[1]) != 4:
            raise _broken(
                f"gives the shapes {shapes[0]} and {shapes[1]}",
                "fake_logit (1, 1) and defocus_map (1, height, width, 1)",
            )
        height, width = self.input.height, self.input.width
        resize = [step.size for step in self.preprocessing if step.step == "resize_exact"]
        if resize != [height] or height != width:
            raise _broken(
                f"resizes to {resize} for an input of {height} x {width}",
                "one resize_exact step to the square input's side",
            )
        wanted = (1.0, INPUT_ZERO_POINTS[self.input.dtype])
        if (self.input.scale, self.input.zero_point) != wanted:
            raise _broken(
                f"gives its {self.input.dtype} input the scale {self.input.scale:g} and the zero "
                f"point {self.input.zero_point}",
                f"{wanted[0]:g} and {wanted[1]}",
            )

    def output(self, name: str) -> OutputSpec:
        """The output with that name.

        Raises:
            SpecUnsupported: There is none.
        """
        for output in self.outputs:
            if output.name == name:
                return output
        raise _broken(f"has no output {name!r}", "fake_logit or defocus_map")

    @property
    def model_id(self) -> str:
        """Name, version and precision in one line."""
        return f"{self.name} {self.version} {self.precision}"

    def with_changes(self, **changes: Any) -> ModelSpec:
        """A copy with some fields changed, checked again."""
        return replace(self, **changes)

    def to_json(self) -> str:
        """The spec as JSON text, the same text for the same spec."""
        data = typed_json.encode(self)
        for late in ("overrides", "session_options"):
            if not data[late]:
                del data[late]  # older readers refuse a field that they do not know
        return json.dumps(data, indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> ModelSpec:
        """Parse and check a spec.

        Raises:
            SpecUnsupported: Not JSON, another schema version, or a field that breaks the schema.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SpecUnsupported(
                f"The model's spec is not valid JSON ({error}).",
                expected="a model that edgedf convert wrote",
                next_step=_CONVERT_AGAIN,
            ) from error
        version = data.get("schema_version") if isinstance(data, dict) else None
        if version != SCHEMA_VERSION:
            newer = isinstance(version, int) and version > SCHEMA_VERSION
            raise SpecUnsupported(
                f"The model's spec has schema version {version}.",
                expected=f"version {SCHEMA_VERSION}",
                next_step="upgrade edgedf" if newer else _CONVERT_AGAIN,
            )
        try:
            return typed_json.decode(cls, data)
        except (ValueError, ConfigError, RecursionError) as error:
            raise SpecUnsupported(
                f"The model's spec breaks its schema: {error}.",
                expected=f"schema version {SCHEMA_VERSION}",
                next_step=_CONVERT_AGAIN,
            ) from error


def _broken(what: str, expected: str) -> SpecUnsupported:
    return SpecUnsupported(f"The spec {what}.", expected=expected, next_step=_CONVERT_AGAIN)


def spec_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of :class:`ModelSpec`."""
    return typed_json.json_schema(
        ModelSpec, title="edgedf model spec", identifier=f"edgedf-model-spec-{SCHEMA_VERSION}"
    )


@dataclass(frozen=True)
class TensorInfo:
    """A tensor as a runtime reports it.

    Args:
        name: Tensor name.
        shape: Its shape.
        dtype: NumPy name of its type, such as ``uint8``.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str


def check_tensors(
    spec: ModelSpec, inputs: tuple[TensorInfo, ...], outputs: tuple[TensorInfo, ...]
) -> None:
    """Compare what a runtime loaded with what the spec says.

    Args:
        spec: The model's spec.
        inputs: Tensors the runtime reports.
        outputs: Likewise.

    Raises:
        SpecMismatch: A tensor is missing, extra, or of another name, shape or type.
    """
    wanted_input = TensorInfo(
        spec.input.name, (1, spec.input.height, spec.input.width, 3), spec.input.dtype
    )
    wanted_outputs = {TensorInfo(o.name, o.shape, o.dtype) for o in spec.outputs}
    for side, wanted, loaded in (
        ("inputs", {wanted_input}, set(inputs)),
        ("outputs", wanted_outputs, set(outputs)),
    ):
        if wanted != loaded:
            raise SpecMismatch(
                f"The model's {side} are {_listed(loaded)}, its spec says {_listed(wanted)}.",
                expected="a model whose tensors are those of its spec",
                next_step="convert the model again; the file may have been edited",
            )


def _listed(tensors: set[TensorInfo]) -> str:
    ordered = sorted(tensors, key=lambda tensor: tensor.name)
    return ", ".join(f"{t.name} {t.dtype} {list(t.shape)}" for t in ordered) or "none"
