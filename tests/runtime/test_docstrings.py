import doctest
from importlib import import_module
from pathlib import Path

import pytest

MODULES = (
    "edgedf.runtime.detector",
    "edgedf.runtime.folder",
    "edgedf.runtime.overlay",
    "edgedf.cli._console",
)


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_in_the_docstrings_work(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # without a build/ the shipped student is used
    results = doctest.testmod(import_module(module))
    assert results.attempted > 0
    assert results.failed == 0
