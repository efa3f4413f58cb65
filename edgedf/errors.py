"""Every exception edgedf raises on purpose.

::

    EdgedfError
    ├── ImageError
    │   ├── ImageNotFound        no file there, or it may not be read
    │   ├── ImageUnreadable      not an image, cut off, animated, or a format we do not decode
    │   └── ImageTooLarge        more bytes or pixels than the guard allows
    ├── ArtifactError
    │   ├── ArtifactUnreadable   no file there, cut off, or not a model
    │   ├── SpecMissing          a model, but not one of ours
    │   ├── SpecUnsupported      a spec from a newer edgedf, or one that breaks its schema
    │   ├── SpecMismatch         the tensors are not what the spec says
    │   └── KernelsSaturate      the runtime computes int8 wrongly on this processor
    ├── CheckpointError          weights that cannot be used
    ├── CalibrationError         calibration images that cannot be used
    ├── ParityError              an exported model that does not agree with its parent
    ├── DataError                a data set that is not laid out as expected
    ├── ConfigError              an option or a value that does not exist
    ├── DeviceError              a machine to measure on that cannot be used, or was lost
    ├── MissingExtra             a dependency that is not installed
    └── OutputError              a result that cannot be written

Each message says what was wrong; ``expected`` and ``next_step`` say the rest, and ``str()``
joins the three.
"""

from __future__ import annotations

__all__ = [
    "ArtifactError",
    "ArtifactUnreadable",
    "CalibrationError",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "DeviceError",
    "EdgedfError",
    "ImageError",
    "ImageNotFound",
    "ImageTooLarge",
    "ImageUnreadable",
    "KernelsSaturate",
    "MissingExtra",
    "OutputError",
    "ParityError",
    "SpecMismatch",
    "SpecMissing",
    "SpecUnsupported",
]


class EdgedfError(Exception):
    """Root of all errors a caller of edgedf may want to catch.

    Args:
        message: What was wrong, in one sentence.
        expected: What would have been right.
        next_step: What to do now.
    """

    def __init__(self, message: str, *, expected: str = "", next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.expected = expected
        self.next_step = next_step

    def __str__(self) -> str:
        parts = [self.message]
        if self.expected:
            parts.append(f"Expected: {self.expected}")
        if self.next_step:
            parts.append(f"Next step: {self.next_step}")
        return "\n".join(parts)

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions cross process borders (map workers); keyword-only fields would be lost.
        return (rebuild, (type(self), self.message, self.expected, self.next_step))


def rebuild(cls: type[EdgedfError], message: str, expected: str, next_step: str) -> EdgedfError:
    """An error from another process, by its class and its three texts."""
    error = cls.__new__(cls)
    EdgedfError.__init__(error, message, expected=expected, next_step=next_step)
    return error


class ImageError(EdgedfError):
    """An image cannot be used."""


class ImageNotFound(ImageError):
    """No image is there, or it may not be read."""


class ImageUnreadable(ImageError):
    """The bytes are no image we decode, or they are cut off."""


class ImageTooLarge(ImageError):
    """The file or the picture is larger than the guard allows."""


class ArtifactError(EdgedfError):
    """A model file cannot be used."""


class ArtifactUnreadable(ArtifactError):
    """No model is there, it is cut off, or it is something else."""


class SpecMissing(ArtifactError):
    """The model carries no edgedf spec."""


class SpecUnsupported(ArtifactError):
    """The spec is from a newer edgedf or breaks its schema."""


class SpecMismatch(ArtifactError):
    """The model's tensors are not what its spec says."""


class KernelsSaturate(ArtifactError):
    """The runtime's int8 kernels are wrong on this processor, see :mod:`edgedf.int8_kernels`."""


class CheckpointError(EdgedfError):
    """A checkpoint cannot be used."""


class CalibrationError(EdgedfError):
    """The calibration images cannot be used."""


class ParityError(EdgedfError):
    """An exported model does not agree with its parent."""


class DataError(EdgedfError):
    """A data set is not laid out as expected."""


class ConfigError(EdgedfError):
    """An option or a value does not exist."""


class DeviceError(EdgedfError):
    """A machine to measure on cannot be used, or was lost."""


class OutputError(EdgedfError):
    """A result cannot be written."""


class MissingExtra(EdgedfError):
    """A dependency is not installed.

    Args:
        extra: Name of the extra that brings it, such as ``"tflite"``.
        needed_for: What cannot be done without it.
    """

    def __init__(self, extra: str, needed_for: str) -> None:
        super().__init__(
            f"{needed_for} needs the '{extra}' extra, which is not installed.",
            next_step=f"pip install 'edgedf[{extra}]'",
        )
