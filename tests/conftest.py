import os
import tempfile

import pytest

# Small tensors on several threads mostly wait for each other, and sums are rounded otherwise with
# another number. Read when torch and NumPy are loaded, here and in processes that tests start.
os.environ["OMP_NUM_THREADS"] = "1"

_SHARED = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """What is dear to make is made once for all processes of a run: they get a folder for it."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        config.stash[_SHARED] = tempfile.TemporaryDirectory(prefix="edgedf-tests-")
        os.environ["EDGEDF_TESTS_SHARED"] = config.stash[_SHARED].name


def pytest_unconfigure(config: pytest.Config) -> None:
    if _SHARED in config.stash:
        config.stash[_SHARED].cleanup()
        del os.environ["EDGEDF_TESTS_SHARED"]
