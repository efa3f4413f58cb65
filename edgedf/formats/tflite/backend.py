"""TFLite models through ai-edge-litert, or through the tflite-runtime it succeeded."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedf.errors import MissingExtra
from edgedf.formats.backend import (
    as_input,
    distribution_version,
    failed_to_run,
    import_runtime,
    refused,
    unpack,
)
from edgedf.int8_kernels import Int8Kernels
from edgedf.spec import TensorInfo

__all__ = ["RUNTIMES", "TFLiteBackend", "installed_runtime"]

RUNTIMES = {
    "ai-edge-litert": "ai_edge_litert.interpreter",
    "tflite-runtime": "tflite_runtime.interpreter",
}
"""Distribution and module with ``Interpreter``, the preferred one first."""

# What the two interpreters raise for models they do not accept. MemoryError and bugs pass.
_REFUSALS = (ValueError, RuntimeError, KeyError, TypeError)


class TFLiteBackend:
    """A TFLite model, run by its signature so that the order of tensors never matters.

    Args:
        model: The flatbuffer; an appended zip does no harm.
        threads: At least 1.
        reference: Whether to use the portable reference kernels, see
            :func:`edgedf.formats.open_backend`.

    Raises:
        ArtifactUnreadable: The interpreter refuses the model, or it has no signature.
        MissingExtra: Neither runtime is installed.
    """

    int8_kernels: Int8Kernels = "exact"  # XNNPACK and the built-in kernels add in 32 bits

    def __init__(self, model: bytes, *, threads: int = 1, reference: bool = False) -> None:
        found = installed_runtime()
        if found is None:
            raise MissingExtra("tflite", "Running a .tflite model")
        self.name = found
        self.version = distribution_version(found)
        module = import_runtime(RUNTIMES[found])
        resolver = module.OpResolverType
        try:
            interpreter = module.Interpreter(
                model_content=model,
                num_threads=threads,
                experimental_op_resolver_type=resolver.BUILTIN_REF if reference else resolver.AUTO,
            )
            signatures = sorted(interpreter.get_signature_list())
            if not signatures:
                raise ValueError("it has no signature, so its tensors have no stable names")
            interpreter.allocate_tensors()  # now, so that a bad model fails here
            runner = interpreter.get_signature_runner(signatures[0])
            self.inputs = _tensors(runner.get_input_details())
            self.outputs = _tensors(runner.get_output_details())
        except _REFUSALS as error:
            raise refused("tflite", self.name, error) from error
        self._runner: Any = runner

    def run(self, image: NDArray[np.uint8]) -> tuple[float, NDArray[np.float32]]:
        """See :meth:`edgedf.formats.backend.Backend.run`."""
        batch = as_input(image, self.inputs[0].dtype)
        try:
            if batch.shape != self.inputs[0].shape:  # else the interpreter resizes the model
                raise ValueError(f"it takes {self.inputs[0].shape}, not {batch.shape}")
            outputs = self._runner(**{self.inputs[0].name: batch})
        except _REFUSALS as error:
            raise failed_to_run(self.name, error) from error
        return unpack(outputs["fake_logit"], outputs["defocus_map"], self.name)

    def close(self) -> None:
        """Free the interpreter."""
        self._runner = None


def installed_runtime() -> str | None:
    """The distribution that will run TFLite models, or None; nothing is imported."""
    for distribution, module in RUNTIMES.items():
        if find_spec(module.partition(".")[0]) is None:
            continue
        # Its only builds are for numpy 1: with numpy 2 it imports and then fails on every model.
        if distribution != "tflite-runtime" or np.lib.NumpyVersion(np.__version__) < "2.0.0":
            return distribution
    return None


def _tensors(details: dict[str, Any]) -> tuple[TensorInfo, ...]:
    return tuple(
        TensorInfo(
            name, tuple(int(size) for size in detail["shape"]), np.dtype(detail["dtype"]).name
        )
        for name, detail in sorted(details.items())
    )
