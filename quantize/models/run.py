"""Float and quantized models as functions, for the proof: the runtime's backends, or torch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgedf.artifact import ModelFormat
from edgedf.errors import ArtifactUnreadable, MissingExtra
from edgedf.formats import open_backend
from edgedf.spec import OUTPUT_NAMES, ModelSpec, check_tensors

__all__ = ["Outputs", "Run", "as_outputs", "nan_where_it_fails", "open_model"]

Outputs = dict[str, NDArray[np.float32]]
Run = Callable[[NDArray[np.uint8]], Outputs]
"""uint8 RGB (N, N, 3) → ``fake_logit`` (1,) and ``defocus_map`` (N / 4, N / 4), both float32."""


def open_model(
    model: bytes,
    model_format: ModelFormat,
    spec: ModelSpec,
    *,
    threads: int = 1,
    reference: bool = False,
) -> Run:
    """Load a model and give the function that runs it.

    Args:
        model: A ``.tflite`` or ``.onnx`` file.
        model_format: Which of the two.
        spec: What its tensors have to be.
        threads: For the runtime.
        reference: As for :func:`edgedf.formats.open_backend`.

    Returns:
        The function; it raises ArtifactUnreadable where an output is not a finite number.

    Raises:
        ArtifactUnreadable: The runtime does not accept the model.
        MissingExtra: The runtime is not installed.
        SpecMismatch: The tensors are not what the spec says.
    """
    try:
        backend = open_backend(model, model_format, threads=threads, reference=reference)
    except (ImportError, MissingExtra) as error:
        raise MissingExtra("convert", f"Running a .{model_format} model") from error
    check_tensors(spec, backend.inputs, backend.outputs)

    def run(image: NDArray[np.uint8]) -> Outputs:
        logit, dense = backend.run(image)
        return as_outputs(logit, dense)

    return run


def as_outputs(logit: float, dense: NDArray[np.float32]) -> Outputs:
    """What a backend returns, by name."""
    return dict(zip(OUTPUT_NAMES, (np.array([logit], np.float32), dense), strict=True))


def nan_where_it_fails(run: Run, spec: ModelSpec) -> Run:
    """The same function, but an image that it fails on gives NaN.

    A model that was just made and does not run is a finding for the report, not a reason to have
    none.

    Args:
        run: The model.
        spec: Its spec.
    """
    side = spec.output("defocus_map").shape[1:3]

    def guarded(image: NDArray[np.uint8]) -> Outputs:
        try:
            return run(image)
        except ArtifactUnreadable:
            return as_outputs(float("nan"), np.full(side, np.nan, np.float32))

    return guarded
