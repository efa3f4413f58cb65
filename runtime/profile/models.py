"""What a profile says of a model file."""

from __future__ import annotations

from pathlib import Path

from edgedf.artifact import read_artifact
from edgedf.files import sha256_of
from edgedf.runtime.profile.document import Model
from edgedf.spec import Accuracy, ModelSpec

__all__ = ["describe_model"]


def describe_model(path: str | Path) -> Model:
    """What a model file is, from its spec and its bytes; no runtime is needed.

    Of several AUCs the one of the most pictures is taken. A spec states those of the float model;
    a quantized file's therefore say whose they are.

    Args:
        path: A ``.tflite`` or ``.onnx`` file of ours.

    Raises:
        ArtifactError: As :func:`edgedf.artifact.read_artifact`.

    Example:
        >>> from edgedf.runtime.models import shipped_model
        >>> described = describe_model(shipped_model("tflite"))
        >>> described.file, described.precision, described.auc is not None
        ('student.tflite', 'fp32', True)
    """
    artifact = read_artifact(path)
    spec = artifact.spec
    accuracy = _auc(spec)
    return Model(
        file=artifact.path.name,
        model_id=spec.model_id,
        format=artifact.format,
        precision=spec.precision,
        size_bytes=len(artifact.model),
        sha256=sha256_of(artifact.model),
        auc=None if accuracy is None else accuracy.value,
        auc_low=None if accuracy is None else accuracy.low,
        auc_high=None if accuracy is None else accuracy.high,
        auc_n=None if accuracy is None else accuracy.n,
        auc_dataset="" if accuracy is None else _dataset(accuracy, spec),
    )


def _auc(spec: ModelSpec) -> Accuracy | None:
    stated = [figure for figure in spec.accuracy if figure.metric == "AUC"]
    # Of as many pictures the file's own figure, else the first one.
    return max(stated, key=lambda figure: (figure.n, figure.model == spec.precision), default=None)


def _dataset(accuracy: Accuracy, spec: ModelSpec) -> str:
    if accuracy.model == spec.precision:
        return accuracy.dataset
    return f"{accuracy.dataset}, measured on the {accuracy.model} model"
