"""The one place where a model's spec is put together."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import edgedf
from edgedf import typed_json
from edgedf.errors import CheckpointError, ConfigError, SpecUnsupported
from edgedf.formats import Format
from edgedf.precision import CALIBRATED, PrecisionName
from edgedf.result import Threshold
from edgedf.spec import (
    INPUT_NAME,
    LOGIT_BOUND,
    MAP_MAXIMUM,
    MAP_STRIDE,
    Accuracy,
    Calibration,
    InputSpec,
    ModelSpec,
    OutputSpec,
    PreprocessStep,
    Training,
)

if TYPE_CHECKING:
    from edgedf.quantize.sources.description import Description

__all__ = [
    "describe_adopted",
    "describe_checkpoint",
    "describe_converted",
]


def describe_checkpoint(metadata: Mapping[str, Any], parent_sha256: str) -> ModelSpec:
    """The spec of a float export of a checkpoint.

    Args:
        metadata: What the checkpoint says about itself: ``name``, ``version``, ``licence``,
            ``input`` (``size``, ``mean``, ``std``), ``threshold``, ``training``, ``accuracy``.
        parent_sha256: SHA-256 of the checkpoint file.

    Returns:
        A spec with precision ``fp32``.

    Raises:
        CheckpointError: Something is missing from the metadata or of the wrong type.
    """
    try:
        size = metadata["input"]["size"]
        mean = tuple(float(value) for value in metadata["input"]["mean"])
        std = tuple(float(value) for value in metadata["input"]["std"])
        if len(mean) != 3 or len(std) != 3:
            raise ValueError("mean and std have one value a channel, three in all")
        spec = ModelSpec(
            name=metadata["name"],
            version=metadata["version"],
            created_by=_created_by(),
            licence=metadata["licence"],
            precision="fp32",
            parent_sha256=parent_sha256,
            input=InputSpec(INPUT_NAME, size, size, mean, std),
            preprocessing=_preprocessing(size),
            outputs=_outputs(size),
            threshold=typed_json.decode(Threshold, metadata["threshold"], "threshold"),
            training=typed_json.decode(Training, metadata["training"], "training"),
            accuracy=tuple(
                typed_json.decode(Accuracy, entry, f"accuracy[{index}]")
                for index, entry in enumerate(metadata["accuracy"])
            ),
        )
        # As a reader will see it, so that a file is never written which no reader accepts.
        return ModelSpec.from_json(spec.to_json())
    except (KeyError, TypeError, ValueError, ConfigError, SpecUnsupported) as error:
        reason = f"{error.args[0]} is missing" if isinstance(error, KeyError) else error.args[0]
        raise CheckpointError(
            f"The checkpoint does not say what it is: {str(reason).rstrip('.')}.",
            expected="name, version, licence, input, threshold, training and accuracy",
            next_step="save it again with edgedf's training, which writes all of these",
        ) from error


def describe_adopted(
    description: Description, name: str, parent_sha256: str, size: int
) -> ModelSpec:
    """The spec of a user's own model.

    Args:
        description: What its graph does not say.
        name: Of the model, where the description has none.
        parent_sha256: SHA-256 of the file as it was.
        size: Side of the input in pixels.

    Returns:
        A spec with precision ``fp32``.

    Raises:
        ConfigError: The thresholds are not usable.
    """
    return ModelSpec(
        name=description.name or name,
        version=description.version,
        created_by=_created_by(),
        licence=description.licence,
        precision="fp32",
        parent_sha256=parent_sha256,
        input=InputSpec(
            INPUT_NAME,
            size,
            size,
            description.mean or (0.0, 0.0, 0.0),
            description.std or (1.0, 1.0, 1.0),
        ),
        preprocessing=_preprocessing(size),
        outputs=_outputs(size),
        threshold=Threshold(description.fake_at, description.real_at, description.how),
        training=Training(description.data, "not stated"),
        tools=_versions(["onnx"]),
    )


def describe_converted(
    parent: ModelSpec,
    model_format: Format,
    precision: PrecisionName,
    *,
    quantization: Mapping[str, tuple[float, int]] | None = None,
    calibration: Calibration | None = None,
    exported: bool = False,
) -> ModelSpec:
    """The spec of a model made from a float one.

    Args:
        parent: Spec of the float model.
        model_format: Of the new model.
        precision: Of the new model.
        quantization: (scale, zero point) behind each output, where activations are calibrated; a
            layer that is kept in float has none.
        calibration: How the ranges were found, likewise.
        exported: Whether the float model was exported just now, so its tools are known.

    Returns:
        The new spec; accuracy figures stay those of the float model, and say so.
    """
    behind = quantization or {}
    outputs = tuple(
        replace(
            output,
            scale=behind[output.name][0] if output.name in behind else None,
            zero_point=behind[output.name][1] if output.name in behind else None,
        )
        for output in parent.outputs
    )
    if precision in CALIBRATED:
        outputs = tuple(
            replace(output, minimum=-LOGIT_BOUND, maximum=LOGIT_BOUND)
            if output.name == "fake_logit" and output.name in behind
            else output
            for output in outputs
        )
    tools = dict(parent.tools)
    if exported:
        tools.update(_versions(model_format.export_tools))
    if precision != "fp32":
        tools.update(_versions(model_format.quantize_tools))
    return parent.with_changes(
        created_by=_created_by(),
        precision=precision,
        outputs=outputs,
        calibration=calibration,
        tools=dict(sorted(tools.items())),
        session_options=dict(model_format.session_options(precision)),
    )


def _preprocessing(size: int) -> tuple[PreprocessStep, ...]:
    return (
        PreprocessStep("exif_orientation"),
        PreprocessStep("center_square_crop"),
        PreprocessStep("resize_exact", size),
        PreprocessStep("uint8"),
    )


def _outputs(size: int) -> tuple[OutputSpec, OutputSpec]:
    side = size // MAP_STRIDE
    return (
        OutputSpec(
            "fake_logit",
            (1, 1),
            "Logit of the picture being fake; its sigmoid is the score.",
            "logit",
        ),
        OutputSpec(
            "defocus_map",
            (1, side, side, 1),
            "Blur as the standard deviation of a Gaussian, in pixels of the model's input.",
            "px",
            minimum=0.0,
            maximum=MAP_MAXIMUM,
            stride=MAP_STRIDE,
        ),
    )


def _created_by() -> str:
    return f"edgedf {edgedf.__version__}"


def _versions(packages: Iterable[str]) -> dict[str, str]:
    # "2.13.0+cpu" and "2.13.0" are the same code; equal models should have equal specs.
    return {name: importlib.metadata.version(name).split("+")[0] for name in packages}
