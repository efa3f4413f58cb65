"""Several processes that train one network together, started by ``torchrun``.

``torchrun`` tells each process who it is through the environment (RANK, WORLD_SIZE, LOCAL_RANK,
MASTER_ADDR, MASTER_PORT). Without it there is one process, which is a world of its own. Only the
main process (rank 0) writes files and reports progress.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from edgedf.errors import ConfigError, EdgedfError
from edgedf.machine import available_cores

__all__ = ["DEVICES", "Device", "MainFailed", "World", "cores_a_process", "is_main", "joined"]

T = TypeVar("T")

Device = Literal["auto", "cpu", "cuda"]
DEVICES: tuple[Device, ...] = ("auto", "cpu", "cuda")

_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_HOW = "torchrun --nproc-per-node 2 -m edgedf.cli distill train ..."

# Ranks wait for each other while one computes maps or measures; torchrun ends them when one dies.
_PATIENCE = timedelta(hours=24)


class MainFailed(EdgedfError):
    """The main process has stopped, and says why; this one stops with it."""


@dataclass(frozen=True)
class World:
    """The processes of a run, seen from one of them.

    Args:
        rank: Number of this process, from 0.
        size: Number of processes.
        device: Where this process computes.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_main(self) -> bool:
        """Whether this process writes and reports."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            gpu = [self.device.index] if self.device.type == "cuda" else None
            dist.barrier(device_ids=gpu)

    def mean(self, values: Tensor) -> Tensor:
        """The mean over processes, the same in each.

        Args:
            values: Of the same shape in each process; on :attr:`device`.
        """
        if self.size == 1:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total / self.size

    def on_main(self, function: Callable[[], T]) -> T:
        """Call a function in the main process and give its result to all.

        Args:
            function: Its result must be picklable.

        Raises:
            EdgedfError: What the function raised, in the main process.
            MainFailed: The same, in the others.
        """
        if self.size == 1:
            return function()
        if self.is_main:
            try:
                result = function()
            except EdgedfError as error:
                self._broadcast((False, error.message))
                raise
            self._broadcast((True, result))
            return result
        done, result = self._broadcast(None)
        if not done:
            raise MainFailed(
                f"The main process has stopped: {result}",
                next_step="do what its own message says",
            )
        return result

    def parallel(self, module: nn.Module) -> nn.Module:
        """The module with its gradients averaged over processes; itself where there is one.

        Weights that no loss depends on must not ask for gradients: the others would wait for them.
        """
        if self.size == 1:
            return module
        gpu = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(module, device_ids=gpu)

    def _broadcast(self, content: object) -> Any:
        box = [content]
        dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]


@contextlib.contextmanager
def joined(
    device: Device = "auto", environment: Mapping[str, str] | None = None
) -> Iterator[World]:
    """Join the processes that ``torchrun`` has started, and leave them at the end.

    Gloo connects processes on CPUs, NCCL those on GPUs.

    Args:
        device: ``auto`` takes a GPU where there is one.
        environment: In the place of the process's own.

    Yields:
        The world; that of one process where ``torchrun`` has started none.

    Raises:
        ConfigError: The environment is half set or makes no sense, there is no such GPU, or the
            processes do not find each other.
    """
    rank, size, local_rank = _identity(os.environ if environment is None else environment)
    world = World(rank, size, _device(device, local_rank))
    if size == 1 or dist.is_initialized():  # a caller's own group is the caller's to end
        yield world
        return
    if world.device.type == "cuda":
        torch.cuda.set_device(world.device)
    try:
        dist.init_process_group(
            "nccl" if world.device.type == "cuda" else "gloo",
            rank=rank,
            world_size=size,
            timeout=_PATIENCE,
        )
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"The processes do not find each other: {error}",
            expected="MASTER_ADDR and MASTER_PORT of the process with RANK 0",
            next_step=f"start them together: {_HOW}",
        ) from error
    try:
        yield world
    finally:
        dist.destroy_process_group()


def is_main(environment: Mapping[str, str] | None = None) -> bool:
    """Whether this process writes and reports, according to ``torchrun``.

    Raises:
        ConfigError: The environment is half set or makes no sense.
    """
    return _identity(os.environ if environment is None else environment)[0] == 0


def cores_a_process() -> int:
    """Cores for each of the processes on this machine, at least one."""
    beside = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return max(1, available_cores() // max(1, int(beside) if beside.isdecimal() else 1))


def _identity(environment: Mapping[str, str]) -> tuple[int, int, int]:
    """Rank, number of processes, and rank on this machine."""
    missing = [name for name in _VARIABLES if not environment.get(name)]
    if len(missing) == len(_VARIABLES):
        return 0, 1, 0
    if missing:
        there = [name for name in _VARIABLES if name not in missing]
        raise ConfigError(
            f"The environment has {', '.join(there)} and not {', '.join(missing)}.",
            expected="all of them, as torchrun sets them, or none",
            next_step=f"{_HOW}, or unset {' '.join(there)}",
        )
    numbers = []
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        if not environment[name].isdecimal():
            raise ConfigError(
                f"{name} is {environment[name]!r}.", expected="a number from 0", next_step=_HOW
            )
        numbers.append(int(environment[name]))
    rank, size, local_rank = numbers
    if rank >= size:
        raise ConfigError(
            f"RANK is {rank} and WORLD_SIZE {size}.",
            expected="ranks from 0 to WORLD_SIZE - 1",
            next_step=_HOW,
        )
    return rank, size, local_rank


def _device(name: Device, local_rank: int) -> torch.device:
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and not gpus):
        return torch.device("cpu")
    if local_rank >= gpus:
        raise ConfigError(
            f"Process {local_rank} of this machine asks for a GPU of its own; there are {gpus}.",
            expected="as many processes as GPUs, and a build of torch that can use them",
            next_step="device = 'cpu', or start fewer processes with torchrun --nproc-per-node",
        )
    return torch.device("cuda", local_rank)
