"""What every runtime has to offer."""

from __future__ import annotations

import importlib.metadata
from importlib import import_module
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgedf.errors import ArtifactUnreadable, ConfigError, EdgedfError
from edgedf.formats.base import ModelFormat
from edgedf.int8_kernels import Int8Kernels
from edgedf.spec import INPUT_ZERO_POINTS, TensorInfo

__all__ = [
    "Backend",
    "as_input",
    "distribution_version",
    "failed_to_run",
    "first_line",
    "has_no_cast",
    "import_runtime",
    "refused",
    "unpack",
]


class Backend(Protocol):
    """A loaded model.

    It takes pictures as bytes, whatever type its input has. One call at a time: an instance keeps
    buffers between calls and is not thread-safe.

    Attributes:
        name: Package that runs the model, such as ``ai-edge-litert``.
        version: Its version.
        inputs: The model's inputs by their signature names.
        outputs: Likewise.
        int8_kernels: How this runtime multiplies int8 on this processor, whatever the model.
    """

    name: str
    version: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    int8_kernels: Int8Kernels

    def run(self, image: NDArray[np.uint8]) -> tuple[float, NDArray[np.float32]]:
        """Run the model on one image.

        Args:
            image: uint8 RGB, (height, width, 3), of the model's size.

        Returns:
            ``fake_logit`` and ``defocus_map``, float32 (height, width), a copy.

        Raises:
            ArtifactUnreadable: The runtime gives up, or a value is not a number.
        """
        ...

    def close(self) -> None:
        """Free the model."""
        ...


def as_input(image: NDArray[np.uint8], dtype: str) -> NDArray[np.generic]:
    """A prepared picture as the tensor that a model takes.

    The one place where this is done, for every runtime and every comparison.

    Args:
        image: uint8 RGB, (height, width, 3).
        dtype: Type of the model's input.

    Returns:
        (1, height, width, 3) of that type: value = grey level + zero point, as
        :data:`edgedf.spec.INPUT_ZERO_POINTS` defines it. Of a type that no model of ours has, the
        bytes as they are; the runtime will refuse them.
    """
    batch = image[np.newaxis]
    if dtype == "float32":
        return batch.astype(np.float32)
    if dtype == "int8":
        return (batch.astype(np.int16) + INPUT_ZERO_POINTS["int8"]).astype(np.int8)
    return batch


def import_runtime(module: str) -> Any:
    """Import a runtime that is installed.

    Raises:
        EdgedfError: It cannot be loaded, such as for a system library it misses.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise EdgedfError(
            f"{module.partition('.')[0]} is installed but cannot be loaded: {first_line(error)}.",
            expected="a package built for this Python and this system",
            next_step="install it again; edgedf doctor shows the versions",
        ) from error


def distribution_version(distribution: str) -> str:
    """Version of an installed distribution, or ``unknown`` for one installed without metadata."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def unpack(
    fake_logit: NDArray[np.generic], defocus_map: NDArray[np.generic], runtime: str
) -> tuple[float, NDArray[np.float32]]:
    """Turn a runtime's two output tensors into what :meth:`Backend.run` returns.

    Args:
        fake_logit: (1, 1).
        defocus_map: (1, height, width, 1).
        runtime: Which runtime computed them.

    Raises:
        ArtifactUnreadable: A value is infinite or not a number.
    """
    logit = float(np.asarray(fake_logit).reshape(()))
    dense = np.array(defocus_map[0, :, :, 0], dtype=np.float32)
    if not (np.isfinite(logit) and np.isfinite(dense).all()):
        raise ArtifactUnreadable(
            f"The model's outputs are not finite numbers ({runtime}).",
            expected="a finite logit and a finite defocus map",
            next_step="copy or download the model again, or convert it again",
        )
    return logit, dense


def refused(model_format: ModelFormat, runtime: str, reason: BaseException) -> ArtifactUnreadable:
    """The error for a model that a runtime does not load."""
    return ArtifactUnreadable(
        f"{runtime} refuses the .{model_format} model: {first_line(reason)}.",
        expected=f"a complete .{model_format} file with operators that {runtime} has",
        next_step="copy or download it again, convert it again, or upgrade the runtime",
    )


def failed_to_run(runtime: str, reason: BaseException) -> ArtifactUnreadable:
    """The error for a model that loads but does not run."""
    return ArtifactUnreadable(
        f"{runtime} cannot run the model: {first_line(reason)}.",
        expected="a model that edgedf convert wrote",
        next_step="copy or download it again, or convert it again",
    )


def has_no_cast() -> ConfigError:
    """The error for a model whose input type cannot be changed."""
    return ConfigError(
        "The type of the model's input cannot be changed.",
        expected="a model whose first operator is a cast of its uint8 input, as edgedf exports "
        "them",
        next_step="leave --io out, or convert the checkpoint it was made from",
    )


def first_line(reason: BaseException) -> str:
    """What an exception of a library says, in one line."""
    lines = [line.strip() for line in str(reason).splitlines() if line.strip()]
    return lines[0].rstrip(".")[:300] if lines else type(reason).__name__
