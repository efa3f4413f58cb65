"""ONNX models through ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedf.errors import EdgedfError
from edgedf.formats.backend import (
    as_input,
    failed_to_run,
    import_runtime,
    refused,
    unpack,
)
from edgedf.formats.onnx.session import int8_kernels, open_session
from edgedf.spec import TensorInfo

__all__ = ["NUMPY_NAMES", "OPTIMIZED", "OnnxBackend"]

OPTIMIZED = "optimized.onnx"
"""File name of the graph that the runtime executes."""

NUMPY_NAMES = {
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
}
"""NumPy names of the types that ONNX Runtime reports."""


class OnnxBackend:
    """An ONNX model.

    Args:
        model: The serialized ``ModelProto``, weights included.
        threads: At least 1.
        reference: Whether to compute in float on the quantized values, see
            :func:`edgedf.formats.open_backend`.
        profile: A folder where the runtime shall write its profile of every node and, as
            :data:`OPTIMIZED`, the graph that it made of the model; None for neither.

    Raises:
        ArtifactUnreadable: ONNX Runtime refuses the model.
        MissingExtra: ONNX Runtime is not installed.
    """

    name = "onnxruntime"

    def __init__(
        self,
        model: bytes,
        *,
        threads: int = 1,
        reference: bool = False,
        profile: Path | None = None,
    ) -> None:
        try:
            session = open_session(
                model,
                threads=threads,
                integers=not reference,
                profile_prefix=None if profile is None else profile / "profile",
                optimized_model=None if profile is None else profile / OPTIMIZED,
            )
        except EdgedfError:
            raise
        except Exception as error:  # its exception types share no base but Exception
            raise refused("onnx", self.name, error) from error
        self.version: str = import_runtime("onnxruntime").__version__
        self.int8_kernels = int8_kernels()
        self.inputs = tuple(_tensor(node) for node in session.get_inputs())
        self.outputs = tuple(_tensor(node) for node in session.get_outputs())
        self._session: Any = session

    def run(self, image: NDArray[np.uint8]) -> tuple[float, NDArray[np.float32]]:
        """See :meth:`edgedf.formats.backend.Backend.run`."""
        taken = self.inputs[0]
        feed = {taken.name: as_input(image, taken.dtype)}
        try:
            logit, dense = self._session.run(["fake_logit", "defocus_map"], feed)
        except Exception as error:
            raise failed_to_run(self.name, error) from error
        return unpack(logit, dense, self.name)

    def end_profile(self) -> Path:
        """Finish the profile that was asked for and return the path of its file."""
        return Path(self._session.end_profiling())

    def close(self) -> None:
        """Free the session."""
        self._session = None


def _tensor(node: Any) -> TensorInfo:
    # A dimension without a fixed size is reported by name; -1 never equals a spec's.
    shape = tuple(size if isinstance(size, int) else -1 for size in node.shape)
    return TensorInfo(node.name, shape, NUMPY_NAMES.get(node.type, node.type))
