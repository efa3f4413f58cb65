"""Where converted files go."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from edgedf.artifact import ModelFormat
from edgedf.errors import ConfigError
from edgedf.files import atomic_path

__all__ = ["refuse_overwriting", "write_all"]


def refuse_overwriting(targets: Iterable[Path], sources: Sequence[Path]) -> None:
    """Refuse to replace what is converted.

    Args:
        targets: Files to be written.
        sources: Files they are made from.

    Raises:
        ConfigError: One is among both.
    """
    taken = {path.resolve() for path in sources}
    for target in targets:
        if target.resolve() in taken:
            raise ConfigError(
                f"{target} would replace the file it is made from.",
                expected="another folder",
                next_step="choose one with --out",
            )


def write_all(targets: Mapping[ModelFormat, Path], files: Mapping[ModelFormat, bytes]) -> None:
    """Write every file before the first takes its final name: all of them appear, or none."""
    with contextlib.ExitStack() as stack:
        for name, file in files.items():
            temporary = stack.enter_context(atomic_path(targets[name]))
            with temporary.open("wb") as stream:
                stream.write(file)
                stream.flush()
                os.fsync(stream.fileno())
