"""A complete, valid spec for tests, with any field changed."""

from typing import Any

from edgedf.result import Threshold
from edgedf.spec import (
    Accuracy,
    Calibration,
    InputSpec,
    ModelSpec,
    OutputSpec,
    PreprocessStep,
    Training,
)


def make_spec(size: int = 256, **changes: Any) -> ModelSpec:
    """A spec of an int8 model with input side ``size``."""
    fields: dict[str, Any] = {
        "name": "test-student",
        "version": "0.0.1",
        "created_by": "tests",
        "licence": "none",
        "precision": "int8",
        "parent_sha256": "0" * 64,
        "input": InputSpec("image", size, size, (127.0,) * 3, (128.0,) * 3),
        "preprocessing": (
            PreprocessStep("exif_orientation"),
            PreprocessStep("center_square_crop"),
            PreprocessStep("resize_exact", size),
            PreprocessStep("uint8"),
        ),
        "outputs": (
            OutputSpec("fake_logit", (1, 1), "Logit of fake.", "logit", scale=0.1, zero_point=3),
            OutputSpec(
                "defocus_map",
                (1, size // 4, size // 4, 1),
                "Blur.",
                "px",
                minimum=0.0,
                maximum=6.0,
                stride=4,
            ),
        ),
        "threshold": Threshold(0.6, 0.4, "by hand"),
        "training": Training("nothing", "1" * 64, 3),
        "accuracy": (Accuracy("test", "AUC", 0.9, 0.8, 0.95, 100),),
        "calibration": Calibration("minmax", 16, "2" * 64, 0),
        "tools": {"onnx": "1"},
    }
    return ModelSpec(**{**fields, **changes})
