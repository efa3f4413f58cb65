"""edgedf: deepfake detection for phones and edge devices.

The public API is loaded on first use, so ``import edgedf`` costs nothing:

    >>> import edgedf
    >>> "Detector" in dir(edgedf)
    True
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgedf.artifact import Artifact, read_artifact
    from edgedf.errors import EdgedfError
    from edgedf.imaging import load_image, preprocess
    from edgedf.quantize.calibration.settings import CalibrationImages
    from edgedf.quantize.conversion.convert import convert
    from edgedf.quantize.recipe import Recipe
    from edgedf.result import Detection, Threshold
    from edgedf.runtime.detector import Detector
    from edgedf.spec import ModelSpec

__version__ = "0.1.0"

__all__ = [
    "Artifact",
    "CalibrationImages",
    "Detection",
    "Detector",
    "EdgedfError",
    "ModelSpec",
    "Recipe",
    "Threshold",
    "__version__",
    "convert",
    "load_image",
    "preprocess",
    "read_artifact",
]

# ONNX Runtime 1.32 keeps an identifier of the machine in the user's cache folder, and what it would
# report. A detector that works offline has nothing to report to anybody.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_HOME = {
    "Artifact": "edgedf.artifact",
    "CalibrationImages": "edgedf.quantize.calibration.settings",
    "Detection": "edgedf.result",
    "Detector": "edgedf.runtime.detector",
    "EdgedfError": "edgedf.errors",
    "ModelSpec": "edgedf.spec",
    "Recipe": "edgedf.quantize.recipe",
    "Threshold": "edgedf.result",
    "convert": "edgedf.quantize.conversion.convert",
    "load_image": "edgedf.imaging",
    "preprocess": "edgedf.imaging",
    "read_artifact": "edgedf.artifact",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'edgedf' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
