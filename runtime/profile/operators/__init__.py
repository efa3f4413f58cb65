"""Which operator takes the time, from the best source that each runtime has.

``onnx``
    ONNX Runtime's own profile.
``tflite``
    The profiler in LiteRT's C library, which has the times of XNNPACK's own operators.

``verdict`` says in one line what is not executed where it should be.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgedf.artifact import read_artifact
from edgedf.imaging import RGBImage
from edgedf.runtime.profile.events import Operators
from edgedf.runtime.profile.operators.verdict import delegation_verdict

__all__ = ["delegation_verdict", "time_operators"]


def time_operators(
    configuration: int, path: Path, threads: int, images: Sequence[RGBImage], queries: int
) -> Operators:
    """Time each operator of a model, and the same model without that, by turns.

    The model is loaded anew: a runtime that times its operators is another one than the one that
    is measured.

    Args:
        configuration: Index of the configuration, for the event.
        path: A ``.tflite`` or ``.onnx`` file that ``edgedf convert`` wrote.
        threads: For the runtime's operators, at least 1.
        images: Prepared pictures, at least one.
        queries: Inferences whose operators are timed, at least 1, and as many without.

    Returns:
        The operators in order of execution, each with its mean time. Of a TFLite runtime that
        cannot time them there are none, and the source says why.

    Raises:
        ArtifactError: The model cannot be read or run.
        MissingExtra: No runtime for the format is installed.
        OutputError: The folder for temporary files is full.
    """
    artifact = read_artifact(path)
    if artifact.format == "onnx":
        from edgedf.runtime.profile.operators.onnx import time_onnx_operators

        return time_onnx_operators(configuration, artifact.model, threads, images, queries)
    from edgedf.runtime.profile.operators.tflite import time_tflite_operators

    return time_tflite_operators(configuration, artifact.model, threads, images, queries)
