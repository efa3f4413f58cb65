"""The runtimes that can execute a model, behind one interface.

Nothing here is imported before a model is opened: importing this package loads no runtime.
"""

from __future__ import annotations

from edgedf.artifact import ModelFormat
from edgedf.formats.backend import Backend

__all__ = ["Backend", "open_backend"]


def open_backend(
    model: bytes, model_format: ModelFormat, *, threads: int = 1, reference: bool = False
) -> Backend:
    """Load a model into the runtime for its format.

    Args:
        model: A ``.tflite`` or ``.onnx`` file.
        model_format: Which of the two.
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
    if model_format == "tflite":
        from edgedf.formats.tflite.backend import TFLiteBackend

        return TFLiteBackend(model, threads=threads, reference=reference)
    from edgedf.formats.onnx.backend import OnnxBackend

    return OnnxBackend(model, threads=threads, reference=reference)
