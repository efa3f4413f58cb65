"""The runtimes that can execute a model, behind one interface.

Nothing here is imported before a model is opened: importing this package loads no runtime.
"""

from __future__ import annotations

from edgedf.artifact import ModelFormat
from edgedf.runtime.backends.base import Backend

__all__ = ["Backend", "open_backend"]


def open_backend(model: bytes, model_format: ModelFormat, *, threads: int = 1) -> Backend:
    """Load a model into the runtime for its format.

    Args:
        model: A ``.tflite`` or ``.onnx`` file.
        model_format: Which of the two.
        threads: For the runtime's operators, at least 1.

    Returns:
        The backend, ready to run.

    Raises:
        ArtifactUnreadable: The runtime refuses the model.
        MissingExtra: No runtime for the format is installed.
    """
    if model_format == "tflite":
        from edgedf.runtime.backends.tflite import TFLiteBackend

        return TFLiteBackend(model, threads=threads)
    from edgedf.runtime.backends.onnx import OnnxBackend

    return OnnxBackend(model, threads=threads)
