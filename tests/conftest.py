import os
import tempfile

import pytest

# Small tensors on several threads mostly wait for each other, and sums are rounded otherwise with
# another number. Read when torch and NumPy are loaded, here and in processes that tests start.
os.environ["OMP_NUM_THREADS"] = "1"

# Each process of pytest-xdist keeps to its share of the cores: runtimes take a thread for each core
# that they see, and threads that spin while they wait take the time of the other process.
if (_worker := os.environ.get("PYTEST_XDIST_WORKER")) and hasattr(os, "sched_setaffinity"):
    _cores, _count = sorted(os.sched_getaffinity(0)), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.sched_setaffinity(0, _cores[int(_worker.removeprefix("gw")) % len(_cores) :: _count])

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
