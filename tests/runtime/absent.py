"""Environments in which packages are missing or broken, for tests that start a process."""

from __future__ import annotations

import os
from pathlib import Path

# Python runs this file at start; every finder then answers as if the packages were not there.
_SITE = """
import os, sys

class Without:
    def __init__(self, finder, names):
        self.finder, self.names = finder, names

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            return None
        return self.finder.find_spec(name, path, target)

    def find_distributions(self, context):
        find = getattr(self.finder, "find_distributions", None)
        for found in find(context) if find else ():
            if found.metadata["Name"].replace("-", "_").lower() not in self.names:
                yield found

names = set(os.environ["HIDDEN_PACKAGES"].split())
sys.meta_path[:] = [Without(finder, names) for finder in sys.meta_path]
"""


def without(folder: Path, *packages: str) -> dict[str, str]:
    """An environment in which these packages are not installed.

    Args:
        folder: For a helper file.
        packages: Names as they are imported, with ``_``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(_SITE)
    return {**os.environ, "PYTHONPATH": str(folder), "HIDDEN_PACKAGES": " ".join(packages)}


def with_broken(folder: Path, *modules: str) -> dict[str, str]:
    """An environment in which importing these modules fails as for a missing system library."""
    for module in modules:
        *parents, name = module.split(".")
        package = folder.joinpath(*parents)
        package.mkdir(parents=True, exist_ok=True)
        if parents:
            (package / "__init__.py").touch()
        (package / f"{name}.py").write_text(
            "raise ImportError('libedge.so.1: cannot open shared object file')\n"
        )
    return {**os.environ, "PYTHONPATH": str(folder)}
