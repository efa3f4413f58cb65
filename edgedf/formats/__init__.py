"""Model file formats: one registry, and a folder for each format.

Importing this package loads no runtime and no quantizer.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from edgedf.errors import ConfigError
from edgedf.formats.base import Format, ModelFormat, ModelGraph, named

if TYPE_CHECKING:
    from edgedf.formats.backend import Backend

__all__ = [
    "REGISTRY",
    "Format",
    "ModelFormat",
    "ModelGraph",
    "format_named",
    "format_of",
    "formats",
    "open_backend",
    "open_graph",
]

REGISTRY: dict[str, str] = {
    "tflite": "edgedf.formats.tflite:TFLite",
    "onnx": "edgedf.formats.onnx:Onnx",
}
"""Module and class of each format by its name, in the order in which formats are preferred."""


def formats() -> tuple[Format, ...]:
    """All formats, in the order of :data:`REGISTRY`."""
    return tuple(map(_opened, REGISTRY.values()))


def format_named(name: str) -> Format:
    """The format of that name.

    Raises:
        ConfigError: There is none.
    """
    if name not in REGISTRY:
        raise ConfigError(
            f"There is no format {name!r}.",
            expected=f"one of {', '.join(REGISTRY)}",
            next_step="edgedf convert --help",
        )
    return _opened(REGISTRY[name])


def format_of(data: bytes) -> Format | None:
    """The format of a file's content; None where no format recognises it."""
    return next((entry for entry in formats() if entry.recognises(data)), None)


def open_backend(
    model: bytes, model_format: ModelFormat, *, threads: int = 1, reference: bool = False
) -> Backend:
    """Load a model into the runtime for its format.

    Args:
        model: A model file.
        model_format: Its format.
        threads: For the runtime's operators, at least 1.
        reference: Whether to compute what the file says instead of what is quick here: TFLite by
            its portable reference kernels, ONNX in float on the quantized values. Much slower, and
            the same on every processor up to rounding: it tells a model from the kernels that run
            it.

    Returns:
        The backend, ready to run.

    Raises:
        ArtifactUnreadable: The runtime refuses the model.
        MissingExtra: No runtime for the format is installed.
    """
    return format_named(model_format).open_backend(model, threads=threads, reference=reference)


def open_graph(model: bytes, model_format: ModelFormat) -> ModelGraph:
    """A model to look into and to make others from.

    Args:
        model: A model file.
        model_format: Its format.

    Raises:
        ArtifactUnreadable: The model is damaged.
        MissingExtra: What reads the format is not installed.
    """
    return format_named(model_format).graph(model)


@functools.cache
def _opened(place: str) -> Format:
    found: Format = named(place)()
    return found
