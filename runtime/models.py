"""Where models are: the shipped student, and what ``edgedf convert`` made of it here."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from edgedf.artifact import ModelFormat
from edgedf.errors import ArtifactUnreadable, MissingExtra
from edgedf.formats import formats

__all__ = ["default_model", "runnable_formats", "shipped_model"]

CONVERTED = "build/student_int8"


def shipped_model(model_format: ModelFormat) -> Path:
    """Path of the float export that the package carries.

    Args:
        model_format: Of the file.

    Raises:
        ArtifactUnreadable: The installed package has lost it.
    """
    path = Path(str(resources.files("edgedf.weights") / f"student.{model_format}"))
    if not path.is_file():
        raise ArtifactUnreadable(
            f"The installed edgedf carries no {path.name}.",
            expected=f"the shipped student at {path}",
            next_step="install edgedf again, or name a model with --model",
        )
    return path


def runnable_formats() -> tuple[ModelFormat, ...]:
    """Formats that an installed runtime can run, the preferred one first; nothing is imported."""
    return tuple(entry.name for entry in formats() if entry.runtime() is not None)


def default_model(folder: str | Path = ".") -> Path:
    """The model to use where none was named.

    Args:
        folder: Where ``edgedf convert`` was run.

    Returns:
        ``build/student_int8`` of any format below ``folder`` if it is there, else the shipped float
        export; of both, the first format that can be run here.

    Raises:
        ArtifactUnreadable: The installed package has lost its student.
        MissingExtra: No runtime is installed.
    """
    runnable = runnable_formats()
    if not runnable:
        raise MissingExtra(formats()[0].extra, "Running a model")
    for model_format in runnable:
        converted = Path(folder) / f"{CONVERTED}.{model_format}"
        if converted.is_file():
            return converted
    return shipped_model(runnable[0])
