"""ONNX models through ONNX Runtime on the CPU."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedf.errors import MissingExtra
from edgedf.runtime.backends.base import (
    as_input,
    failed_to_run,
    import_runtime,
    refused,
    unpack,
)
from edgedf.spec import TensorInfo

__all__ = ["NUMPY_NAMES", "OnnxBackend", "is_installed"]

_PROVIDERS = ["CPUExecutionProvider"]
_FATAL = 4
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
        profile_prefix: Where the runtime shall write its profile of every node; what it appends is
            told by :meth:`end_profile`. None for no profile.

    Raises:
        ArtifactUnreadable: ONNX Runtime refuses the model.
        MissingExtra: ONNX Runtime is not installed.
    """

    name = "onnxruntime"

    def __init__(
        self, model: bytes, *, threads: int = 1, profile_prefix: str | None = None
    ) -> None:
        if not is_installed():
            raise MissingExtra("onnx", "Running an .onnx model")
        onnxruntime = import_runtime("onnxruntime")
        self.version: str = onnxruntime.__version__
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _FATAL  # errors are raised; no need to print them as well
        if profile_prefix is not None:
            options.enable_profiling = True
            options.profile_file_prefix = profile_prefix
        try:
            session = onnxruntime.InferenceSession(model, options, providers=_PROVIDERS)
        except Exception as error:  # its exception types share no base but Exception
            raise refused("onnx", self.name, error) from error
        self.inputs = tuple(_tensor(node) for node in session.get_inputs())
        self.outputs = tuple(_tensor(node) for node in session.get_outputs())
        self._session: Any = session

    def run(self, image: NDArray[np.uint8]) -> tuple[float, NDArray[np.float32]]:
        """See :meth:`edgedf.runtime.backends.base.Backend.run`."""
        taken = self.inputs[0]
        feed = {taken.name: as_input(image, taken.dtype)}
        try:
            logit, dense = self._session.run(["fake_logit", "defocus_map"], feed)
        except Exception as error:
            raise failed_to_run(self.name, error) from error
        return unpack(logit, dense, self.name)

    def end_profile(self) -> str:
        """Finish the profile that was asked for and return its path."""
        return str(self._session.end_profiling())

    def close(self) -> None:
        """Free the session."""
        self._session = None


def is_installed() -> bool:
    """Whether ONNX Runtime is there; nothing is imported."""
    return find_spec("onnxruntime") is not None


def _tensor(node: Any) -> TensorInfo:
    # A dimension without a fixed size is reported by name; -1 never equals a spec's.
    shape = tuple(size if isinstance(size, int) else -1 for size in node.shape)
    return TensorInfo(node.name, shape, NUMPY_NAMES.get(node.type, node.type))
