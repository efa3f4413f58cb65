"""What the containers of all formats share: a spec, its seal, and the errors of a file without."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from edgedf.errors import ArtifactUnreadable, SpecMissing

__all__ = [
    "CONVERT",
    "CUT_OFF",
    "MAX_SPEC_BYTES",
    "OURS",
    "Embedded",
    "no_model",
    "sha256",
    "spec_missing",
]

MAX_SPEC_BYTES = 1024 * 1024

OURS = "a model file written by edgedf convert"
CONVERT = "make one with: edgedf convert"
CUT_OFF = "copy or download it again, or convert again"


class Embedded(NamedTuple):
    """What is embedded in a model file.

    Args:
        text: The spec as JSON.
        sealed: Whether the seal beside it is that of this model with this spec.
    """

    text: str | bytes
    sealed: bool


def sha256(data: bytes) -> bytes:
    """The seal of some bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest().encode()


def spec_missing(path: Path) -> SpecMissing:
    """The error for a model that carries no spec."""
    return SpecMissing(
        f"{path} carries no edgedf spec, so its inputs and outputs are unknown.",
        expected=OURS,
        next_step=f"{CONVERT}; a file that had a spec has lost its end: copy it again",
    )


def no_model(path: Path) -> ArtifactUnreadable:
    """The error for a file that no format recognises."""
    return ArtifactUnreadable(
        f"{path} is no model, or it is cut off.", expected=OURS, next_step=CUT_OFF
    )
