"""A network of a few weights and a task for it, to try the training loop with.

As a program (``python -m tests.distill.toy FOLDER``) it trains slowly and says each step, so that
it can be killed; with ``world`` for a folder it tries what processes of torchrun share.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from edgedf.distill.distributed import MainFailed, World, joined
from edgedf.distill.settings import LoopSettings
from edgedf.distill.training.loop import Loop, Outcome
from edgedf.distill.training.task import ParameterGroup
from edgedf.errors import DataError
from edgedf.files import write_bytes
from edgedf.progress import Progress, silent

SETTINGS = LoopSettings(
    steps=12, batch=8, warmup=2, average=0.9, evaluate_every=4, save_every=0.0, device="cpu"
)


class Net(nn.Module):
    """Has dropout, batch statistics, and a weight that no loss depends on."""

    def __init__(self) -> None:
        super().__init__()
        # Without a bias: what follows takes the mean away, and its gradient would be rounding.
        self.first = nn.Linear(4, 8, bias=False)
        self.norm = nn.BatchNorm1d(8)
        self.dropout = nn.Dropout(0.2)
        self.last = nn.Linear(8, 1)
        self.idle = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.dropout(torch.relu(self.norm(self.first(x)))))


@dataclasses.dataclass(frozen=True)
class Toy:
    """Fits the sum of four numbers.

    Args:
        bad_step: Its loss is NaN.
        scores: Of the looks, in order; None measures.
    """

    bad_step: int = -1
    scores: tuple[float, ...] | None = None
    looks: list[int] = dataclasses.field(default_factory=list)

    @property
    def weights(self) -> Mapping[str, float]:
        return {"fit": 1.0, "size": 0.01}

    @property
    def batches(self) -> Toy:
        return self

    def part(self, step: int, rank: int, ranks: int) -> Tensor:
        batch = _numbers(step)
        if step == self.bad_step:
            batch[0] = float("nan")
        return batch[rank::ranks]

    def files(self, step: int) -> tuple[str, ...]:
        return (f"picture-{step}.png",)

    def losses(self, module: nn.Module, batch: Tensor) -> dict[str, Tensor]:
        found = module(batch)[:, 0].float()
        return {"fit": (found - batch.sum(dim=1)).square().mean(), "size": found.square().mean()}

    def evaluate(self, averaged: nn.Module, progress: Progress) -> dict[str, float]:
        self.looks.append(1)
        if self.scores is not None:
            return {"score": self.scores[len(self.looks) - 1], "odd": float("nan")}
        batch = _numbers(1000)
        with torch.no_grad():
            error = averaged(batch)[:, 0] - batch.sum(dim=1)
        return {"score": -error.square().mean().item(), "odd": 1.0}

    def save_best(self, path: Path, averaged: nn.Module, step: int) -> None:
        write_bytes(path, save(averaged.state_dict(), {"step": str(step)}))


def _numbers(step: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(step).normal(size=(8, 4)).astype("f4"))


def make_loop(
    folder: Path,
    settings: LoopSettings = SETTINGS,
    task: Toy | None = None,
    world: World | None = None,
) -> Loop:
    torch.manual_seed(settings.seed)
    net = Net()
    groups = [ParameterGroup(list(net.parameters()), 0.05)]
    return Loop(folder, settings, net, task or Toy(), groups, world)


def train(
    folder: Path,
    settings: LoopSettings = SETTINGS,
    task: Toy | None = None,
    progress: Progress = silent,
) -> Outcome:
    return make_loop(folder, settings, task).go(progress)


def _slowly(step: str, done: int, total: int) -> None:
    print(step, done, flush=True)
    time.sleep(0.05)


def _try_world() -> None:
    def fail() -> None:
        raise DataError("nothing there")

    with joined() as world:
        mean = world.mean(torch.tensor([1.0 + world.rank, 4.0])).tolist()
        told = world.on_main(lambda: f"told by {world.rank}")
        world.barrier()
        try:
            world.on_main(fail)
        except (DataError, MainFailed) as error:
            # One write each: two processes share the stream.
            kind = type(error).__name__
            print(f"{world.rank} of {world.size}: {mean} {told} {kind} {error.message}\n", end="")


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1] == "world":
        _try_world()
    else:
        train(Path(sys.argv[1]), progress=_slowly)
