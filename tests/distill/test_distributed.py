import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from edgedf.distill.distributed import World, _identity, cores_a_process, is_main, joined
from edgedf.distill.records import statistics
from edgedf.errors import ConfigError, DataError

ROOT = Path(__file__).parents[2]
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
SECOND_OF_TWO = {
    "RANK": "1",
    "WORLD_SIZE": "2",
    "LOCAL_RANK": "1",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29500",
}


def torchrun(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a module in two processes on the CPU."""
    return subprocess.run(
        [*TORCHRUN, "-m", *arguments],
        cwd=cwd,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


# What both ranks need is imported once, which takes seconds.
_RANKS = """
import os, sys
from edgedf.cli import main
from edgedf.distill.records import statistics
from edgedf.distill.training import teach, train

statistics.SHARD = int(sys.argv[1])
ranks = []
for rank in "01":
    ranks.append(os.fork())
    if not ranks[-1]:
        os.environ.update(RANK=rank, LOCAL_RANK=rank)
        code = main(sys.argv[2:])
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)
sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(rank, 0)[1]) for rank in ranks))
"""


def two_ranks(
    *arguments: str, cwd: Path, shard: int = statistics.SHARD
) -> subprocess.CompletedProcess[str]:
    """Run ``edgedf`` in two processes, as torchrun would, without the seconds that this takes.

    Each has to end by itself: nobody ends one because the other failed.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    world = {**SECOND_OF_TWO, "LOCAL_WORLD_SIZE": "2", "MASTER_PORT": port}
    return subprocess.run(
        [sys.executable, "-c", _RANKS, str(shard), *arguments],
        cwd=cwd,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT), **world},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_processes_share_means_results_and_failures() -> None:
    ended = torchrun("tests.distill.toy", "world")
    assert ended.returncode == 0, ended.stderr
    assert sorted(ended.stdout.splitlines()) == [
        "0 of 2: [1.5, 4.0] told by 0 DataError nothing there",
        "1 of 2: [1.5, 4.0] told by 0 MainFailed The main process has stopped: nothing there",
    ]


def test_a_world_of_one_needs_nobody() -> None:
    with joined("cpu", {}) as world:
        assert world == World()
        assert world.is_main
        assert world.mean(torch.tensor(3.0)) == 3
        world.barrier()
        module = torch.nn.Linear(1, 1)
        assert world.parallel(module) is module
        assert world.on_main(lambda: 7) == 7
        with pytest.raises(DataError):
            world.on_main(fail)
    with joined("cpu", {**SECOND_OF_TWO, "RANK": "0", "WORLD_SIZE": "1"}) as world:
        assert world.size == 1


def fail() -> None:
    raise DataError("nothing there")


def test_the_environment_says_who_is_who() -> None:
    assert _identity(SECOND_OF_TWO) == (1, 2, 1)
    assert not is_main(SECOND_OF_TWO)
    assert is_main({"PATH": "/bin"})


@pytest.mark.parametrize("missing", list(SECOND_OF_TWO))
def test_half_an_environment_is_an_error_that_names_the_rest(missing: str) -> None:
    half = {name: value for name, value in SECOND_OF_TWO.items() if name != missing}
    with pytest.raises(ConfigError, match=rf"and not {missing}") as caught, joined("cpu", half):
        pass
    assert "torchrun" in caught.value.next_step


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"RANK": "one"}, "RANK is 'one'"),
        ({"WORLD_SIZE": "-2"}, "WORLD_SIZE is '-2'"),
        ({"RANK": "2"}, "RANK is 2 and WORLD_SIZE 2"),
        ({"MASTER_PORT": "nowhere"}, "do not find each other"),
    ],
)
def test_an_environment_that_makes_no_sense_is_an_error(
    change: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**SECOND_OF_TWO, **change}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=message), joined("cpu"):
        pass


def test_a_gpu_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with (
        pytest.raises(ConfigError, match=r"Process 1 .* there are 1"),
        joined("auto", SECOND_OF_TWO),
    ):
        pass
    with joined("auto", {}) as world:
        assert world.device == torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="there are 0"), joined("cuda", {}):
        pass


def test_processes_on_one_machine_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgedf.distill.distributed.available_cores", lambda: 4)
    for beside, cores in (("2", 2), ("3", 1), ("9", 1), ("0", 4), ("many", 4)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", beside)
        assert cores_a_process() == cores
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    assert cores_a_process() == 4
