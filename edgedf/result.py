"""The result of running a detector on one image."""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from edgedf.errors import ConfigError
from edgedf.int8_kernels import Int8Kernels

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Detection", "Label", "Threshold", "sigmoid", "source_fields"]

Label = Literal["real", "fake", "unsure"]


def sigmoid(logit: float) -> float:
    """Logistic function that does not overflow: logit in (-inf, inf) → (0, 1)."""
    if logit >= 0:
        return 1.0 / (1.0 + math.exp(-logit))
    power = math.exp(logit)
    return power / (1.0 + power)


def source_fields(source: str) -> dict[str, str]:
    """A path for JSON, which has no word for bytes that are no UTF-8.

    Args:
        source: A path, undecodable bytes in it as the surrogates that :func:`os.fsdecode` makes.

    Returns:
        ``source``; and where that cannot say it all, with U+FFFD for what it cannot, also
        ``source_bytes``, the path in base64.
    """
    raw = os.fsencode(source)
    try:
        return {"source": raw.decode("utf-8")}
    except UnicodeDecodeError:
        text = raw.decode("utf-8", "replace")
        return {"source": text, "source_bytes": base64.b64encode(raw).decode("ascii")}


@dataclass(frozen=True)
class Threshold:
    """Where a score turns into a verdict.

    A score at or above ``fake_at`` is ``fake``, at or below ``real_at`` it is ``real``, and
    ``unsure`` between the two.

    Args:
        fake_at: In [0, 1].
        real_at: In [0, fake_at].
        how: How the two were chosen, on what data.

    Raises:
        ConfigError: The two are out of range or out of order.

    Example:
        >>> Threshold(fake_at=0.7, real_at=0.3).label(0.5)
        'unsure'
    """

    fake_at: float
    real_at: float
    how: str = ""

    def __post_init__(self) -> None:
        if not 0.0 <= self.real_at <= self.fake_at <= 1.0:
            raise ConfigError(
                f"Thresholds real_at={self.real_at} and fake_at={self.fake_at} are not usable.",
                expected="0 <= real_at <= fake_at <= 1",
                next_step="swap them, or bring them into that range",
            )

    def label(self, score: float) -> Label:
        """Verdict for a score in [0, 1]."""
        if score >= self.fake_at:
            return "fake"
        return "real" if score <= self.real_at else "unsure"


@dataclass(frozen=True, eq=False)
class Detection:
    """What a detector says about one image.

    Args:
        score: Probability-like fake score in [0, 1]: the sigmoid of the model's logit.
        label: ``real``, ``fake`` or ``unsure``, by ``threshold``.
        threshold: The thresholds applied.
        defocus_map: float32, (height, width): blur as the standard deviation of a Gaussian, in
            pixels of the model's input. It covers the centre square of the picture.
        model: Which model said so, such as ``edgedf-student 0.1.0 int8 tflite``.
        timings: Milliseconds per stage: ``decode``, ``preprocess``, ``inference``.
        source: Path of the image, or an empty string.
        runtime: Package and version that ran the model, such as ``onnxruntime 1.32.0``.
        int8_kernels: How that runtime multiplies int8 on this processor; None for a model that
            computes in float.
        damaged: Whether the JPEG decoder found data missing, left over or senseless; the verdict is
            on what it made of the rest.
    """

    score: float
    label: Label
    threshold: Threshold
    defocus_map: NDArray[np.float32] = field(repr=False)
    model: str
    timings: Mapping[str, float] = field(default_factory=dict)
    source: str = ""
    runtime: str = ""
    int8_kernels: Int8Kernels | None = None
    damaged: bool = False

    @classmethod
    def from_outputs(
        cls,
        fake_logit: float,
        defocus_map: NDArray[np.float32],
        threshold: Threshold,
        model: str,
        **circumstances: Any,
    ) -> Detection:
        """Build a detection from a model's two outputs.

        Args:
            fake_logit: The model's logit.
            defocus_map: float32, (height, width), sigma in pixels.
            threshold: Thresholds of the model.
            model: Which model it was.
            circumstances: The fields from ``timings`` on, by name.
        """
        score = sigmoid(fake_logit)
        return cls(score, threshold.label(score), threshold, defocus_map, model, **circumstances)

    def to_dict(self, *, with_map: bool = False) -> dict[str, Any]:
        """Plain data for JSON. The map goes in as nested lists on demand; else its range."""
        data: dict[str, Any] = {
            **source_fields(self.source),
            "damaged": self.damaged,
            "label": self.label,
            "score": round(self.score, 6),
            "fake_at": self.threshold.fake_at,
            "real_at": self.threshold.real_at,
            "model": self.model,
            "runtime": self.runtime,
            "int8_kernels": self.int8_kernels,
            "timings_ms": {name: round(value, 3) for name, value in self.timings.items()},
            "defocus_sigma_px": {
                "min": round(float(self.defocus_map.min()), 4),
                "mean": round(float(self.defocus_map.mean()), 4),
                "max": round(float(self.defocus_map.max()), 4),
            },
        }
        if with_map:
            data["defocus_map"] = self.defocus_map.round(4).tolist()
        return data
