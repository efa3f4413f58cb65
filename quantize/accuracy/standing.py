"""Whether files of one student are accurate enough to be shipped: measured, or as on record.

The float file is what the others are held against. On labelled pictures that is
:mod:`~edgedf.quantize.accuracy.verify`'s work, with all its limits. On record are AUCs that a
file's spec states of the file itself, beside that of the float model on the same pictures; most
specs state the float model's alone, which says nothing of what quantizing cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgedf.artifact import Artifact, read_artifact
from edgedf.errors import ArtifactError, ConfigError
from edgedf.progress import Progress, silent
from edgedf.quantize.accuracy.limits import Limits
from edgedf.quantize.accuracy.verify import Gate, Verification, verify
from edgedf.quantize.accuracy.wording import lines
from edgedf.quantize.models.pair import shipped_parent
from edgedf.runtime.detector import naming
from edgedf.runtime.profile.document import ModelAccuracy
from edgedf.spec import Accuracy, ModelSpec

__all__ = ["files_of_one_student", "on_pictures", "on_record"]

_FLOAT = "fp32"
_METRIC = "AUC"
_MEASURE = "judge them on labelled pictures: --data DIR"


def files_of_one_student(paths: Sequence[Path]) -> list[Artifact]:
    """Read the files that one is chosen among.

    Args:
        paths: ``.tflite`` and ``.onnx`` files of ours.

    Raises:
        ArtifactError: One of them cannot be used.
        ConfigError: There are fewer than two, or they were made from different checkpoints.
    """
    if len(paths) < 2:
        raise ConfigError(
            "There is nothing to choose among.",
            expected="at least two files of one student, such as its float and its int8 file",
            next_step="name them: edgedf profile --recommend a.tflite b.tflite",
        )
    files = []
    for path in paths:
        try:
            files.append(read_artifact(path))
        except ArtifactError as error:
            raise naming(path, error) from error
    first = files[0]
    for file in files[1:]:
        if file.spec.parent_sha256 != first.spec.parent_sha256:
            raise ConfigError(
                f"{first.path} and {file.path} were made from different checkpoints.",
                expected="files of one student, in several formats or precisions",
                next_step="compare students by accuracy first: edgedf evaluate MODEL DATA",
            )
    return files


def on_record(files: Sequence[Artifact]) -> list[ModelAccuracy]:
    """What the files' specs say of their accuracy.

    Args:
        files: As :func:`files_of_one_student` gives them.

    Returns:
        One for each. Estimates decide: specs have no interval of a difference.
    """
    return [_recorded(file.spec) for file in files]


def on_pictures(
    files: Sequence[Artifact],
    gate: Gate,
    *,
    progress: Progress = silent,
) -> list[ModelAccuracy]:
    """What the files lose on labelled pictures against the float file, as edgedf verify judges it.

    Args:
        files: As :func:`files_of_one_student` gives them.
        gate: The labelled pictures that they are judged on, and what may be lost on them.
        progress: Told about each picture.

    Raises:
        ConfigError: No float file is among them, and they were not made from the student that
            edgedf carries.
        EdgedfError: As :func:`~edgedf.quantize.accuracy.verify.verify`.
    """
    parents = [_parent(file, files) for file in files]
    return [
        _float_model()
        if file.spec.precision == _FLOAT
        else _judged(verify(file.path, gate, against=parent, worst=0, progress=progress))
        for file, parent in zip(files, parents, strict=True)
    ]


def _parent(file: Artifact, files: Sequence[Artifact]) -> Path:
    """The float file that a file is held against, best of its own format."""
    floats = [other for other in files if other.spec.precision == _FLOAT]
    floats.sort(key=lambda other: other.format != file.format)
    if floats:
        return floats[0].path
    try:
        return shipped_parent(file)
    except ConfigError as error:
        raise ConfigError(
            error.message,
            expected="the float file among those to choose from",
            next_step="name it as well",
        ) from error


def _judged(verification: Verification) -> ModelAccuracy:
    shown = lines(verification)
    auc = verification.measurements.auc
    if auc is None:
        return ModelAccuracy(
            "unknown",
            "the pictures are all real or all fake, so there is no AUC",
            "take pictures of both kinds: --data DIR",
        )
    drop = next(line for line in shown if line.title == "AUC drop")
    text = f"AUC {auc.second.value:.3f}, a drop of {drop.measured} ({drop.interval})"
    if verification.verdict == "pass":
        return ModelAccuracy("within", text)
    why = "; ".join(f"{line.title}: {line.reason}" for line in shown if line.reason)
    if verification.verdict == "fail":
        return ModelAccuracy("over", f"{text}; {why}")
    needed = verification.images_needed
    more = "other pictures" if needed is None else f"about {needed:,} pictures of the same kind"
    return ModelAccuracy("unknown", f"{text}; {why}", f"judge on {more}: --data DIR")


def _recorded(spec: ModelSpec) -> ModelAccuracy:
    stated = [figure for figure in spec.accuracy if figure.metric == _METRIC]
    of_float = {(f.dataset, f.n): f for f in stated if f.model == _FLOAT}
    if spec.precision == _FLOAT:
        return _float_model(max(of_float.values(), key=lambda figure: figure.n, default=None))
    own = [f for f in stated if f.model == spec.precision and (f.dataset, f.n) in of_float]
    if not own:
        return ModelAccuracy(
            "unknown", f"its spec states no AUC of the {spec.precision} model", _MEASURE
        )
    figure = max(own, key=lambda figure: figure.n)
    drop = of_float[figure.dataset, figure.n].value - figure.value
    limit = Limits().auc_drop
    text = f"{_shown(figure)}, a drop of {drop:.4f}"
    if drop <= limit:
        return ModelAccuracy("within", text)
    return ModelAccuracy("over", f"{text}, over the limit of {limit:g}")


def _float_model(figure: Accuracy | None = None) -> ModelAccuracy:
    text = "the float model, which the others are held against"
    return ModelAccuracy("within", text if figure is None else f"{text}: {_shown(figure)}")


def _shown(figure: Accuracy) -> str:
    return (
        f"AUC {figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f}) on {figure.n:,} pictures "
        f"of {figure.dataset}"
    )
