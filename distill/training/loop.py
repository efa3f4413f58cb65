"""The loop that trains a network, whichever it is: steps, averaging, looks, saves, resumption.

A *task* brings what is particular: batches, losses, evaluation. The loop brings the rest and keeps
it the same for teacher and student. Everything random follows from the seed and the step's number,
so a run that was killed goes on with the step that it would have taken. The run's folder holds

- ``state.safetensors``: everything needed to go on (network, average, optimiser's moments, rows);
- ``best.safetensors``: what the task saves of the average with the best score so far;
- ``metrics.csv`` and ``tensorboard/``: each loss and figure, a row a step.

Under ``torchrun`` each process takes its slice of the batch; see :mod:`edgedf.distill.distributed`.
"""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from edgedf.ahead import run_ahead
from edgedf.distill.distributed import World
from edgedf.distill.settings import LoopSettings
from edgedf.distill.training.logbook import Logbook
from edgedf.distill.training.state import Reached, Trained, load_state, save_state
from edgedf.distill.training.task import ParameterGroup, Task
from edgedf.errors import CheckpointError, ConfigError
from edgedf.progress import Progress, silent

__all__ = ["BEST", "STATE", "Loop", "Outcome"]

STATE, BEST = "state.safetensors", "best.safetensors"

T = TypeVar("T")

# How many files of a batch a message names.
_NAMED = 40


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Args:
        steps: Steps taken.
        best_step: Step after which the average was best; its weights are in ``best.safetensors``.
        best_score: Its score.
        seconds: Time spent on steps, over all sessions of the run.
        stopped_early: Whether patience ran out before the last step.
    """

    steps: int
    best_step: int
    best_score: float
    seconds: float
    stopped_early: bool


class Loop:
    """A run: a network, its average, its optimiser, and how far they have come.

    Where the folder holds a state, the run goes on from there.

    Args:
        folder: Of the run.
        settings: How to train.
        module: The network, as it is at the start; moved to the device and trained in place.
        task: Batches, losses, evaluation.
        groups: Which weights are trained, and how fast.
        world: The processes that share the batch.

    Raises:
        CheckpointError: The saved state is damaged or of another network.
        ConfigError: The run was started with another number of processes, or a weight that asks
            for gradients is in no group.
    """

    def __init__(
        self,
        folder: str | Path,
        settings: LoopSettings,
        module: nn.Module,
        task: Task[Any],
        groups: Sequence[ParameterGroup],
        world: World | None = None,
    ) -> None:
        self.folder, self.settings, self.task = Path(folder), settings, task
        self.world = world or World()
        _check_groups(module, groups)
        self.module = module.to(self.world.device)
        self.averaged = copy.deepcopy(self.module).eval().requires_grad_(False)
        self._optimiser = _optimiser(groups, settings)
        self._trained = [weight for group in groups for weight in group.parameters]
        self._precision = _precision(settings.amp, self.world.device)
        self._scaler = torch.amp.GradScaler(
            self.world.device.type, enabled=self._precision is torch.float16
        )
        self._so_far = Reached()
        self._book = Logbook(self.folder)
        self._last_save, self._saved_step = time.monotonic(), 0
        if self.world.on_main((self.folder / STATE).is_file):
            self._resume()
        if self.world.size > 1:  # the others would wait for gradients that never come
            self._freeze_idle()
        self._parallel = self.world.parallel(self.module)

    def go(self, progress: Progress = silent) -> Outcome:
        """Take all steps that are left.

        Args:
            progress: Told about steps and evaluations, in the main process.

        Raises:
            CheckpointError: A loss, a gradient, a weight or the score is not a number: names the
                step and the files of its batch. The last good state stays.
            OutputError: The folder cannot be written. The last good state stays.
        """
        tell = progress if self.world.is_main else silent
        so_far, settings = self._so_far, self.settings
        left = range(so_far.step, 0 if so_far.stopped_early else settings.steps)
        with contextlib.ExitStack() as stack:
            stack.callback(self._book.close)
            batches = stack.enter_context(
                contextlib.closing(run_ahead(self._batch, left, settings.prefetch))
            )
            for batch in batches:
                row, save_due = self._step(batch)
                is_last = so_far.step == settings.steps
                if so_far.step % settings.evaluate_every == 0 or is_last:
                    row |= self._look(tell)
                self._book.add(row)
                if save_due or is_last or so_far.stopped_early:
                    self.world.on_main(self._save)
                    self._last_save, self._saved_step = time.monotonic(), so_far.step
                tell("training steps", so_far.step, settings.steps)
                if so_far.stopped_early:
                    break
        score = cast(float, so_far.best_score)  # the last step is followed by a look
        return Outcome(so_far.step, so_far.best_step, score, so_far.seconds, so_far.stopped_early)

    def _freeze_idle(self) -> None:
        """Freeze the weights that no loss depends on, and leave all else as it was."""
        before = [buffer.clone() for buffer in self.module.buffers()]
        batch = self._batch(self._so_far.step).to(self.world.device)
        weights = [weight for weight in self.module.parameters() if weight.requires_grad]
        total = torch.stack(list(self.task.losses(self.module, batch).values())).sum()
        gradients = torch.autograd.grad(total, weights, allow_unused=True)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.requires_grad_(gradient is not None)
        with torch.no_grad():
            for buffer, value in zip(self.module.buffers(), before, strict=True):
                buffer.copy_(value)

    def _batch(self, step: int) -> Any:
        return self.task.batches.part(step, self.world.rank, self.world.size)

    def _step(self, batch: Any) -> tuple[dict[str, float], bool]:
        """One step of the optimiser; gives the losses, and whether it is time to save."""
        start, step = time.monotonic(), self._so_far.step
        torch.manual_seed(_seed(self.settings.seed, step, self.world.rank))  # of dropout
        factor = _rate_factor(step, self.settings)
        for group in self._optimiser.param_groups:
            group["lr"] = group["peak"] * factor
        self.module.train()
        with self._autocast():
            losses = self.task.losses(self._parallel, batch.to(self.world.device))
        values, save_due = self._shared(losses)
        wrong = [f"{name} is {value}" for name, value in values.items() if not math.isfinite(value)]
        if wrong:
            raise self._diverged(step, f"the loss {wrong[0]}")
        total = torch.stack([self.task.weights[name] * loss for name, loss in losses.items()]).sum()
        self._optimiser.zero_grad(set_to_none=True)
        self._scaler.scale(total).backward()
        self._scaler.unscale_(self._optimiser)
        norm = torch.nn.utils.clip_grad_norm_(self._trained, self.settings.clip)
        # In fp16 a gradient may overflow; the scaler then leaves the step out.
        if not self._scaler.is_enabled() and not math.isfinite(norm.item()):
            raise self._diverged(step, "the gradient is not a number")
        self._scaler.step(self._optimiser)
        self._scaler.update()
        _follow(self.averaged, self.module, step, self.settings.average)
        self._so_far.step += 1
        self._so_far.seconds += time.monotonic() - start
        return {"step": self._so_far.step, **values}, save_due

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self._precision is None:
            return contextlib.nullcontext()
        return torch.autocast(self.world.device.type, self._precision)

    def _shared(self, losses: Mapping[str, Tensor]) -> tuple[dict[str, float], bool]:
        """The losses of the whole batch, and whether the main process finds it time to save.

        Both travel in one message: processes that disagreed on a save would wait for ever.
        """
        due = time.monotonic() - self._last_save > self.settings.save_every
        flag = torch.tensor(float(due and self.world.is_main), device=self.world.device)
        mine = torch.stack([flag, *(loss.detach().float() for loss in losses.values())])
        shared, *values = self.world.mean(mine).tolist()
        return dict(zip(losses, values, strict=True)), shared > 0

    def _look(self, tell: Progress) -> dict[str, float]:
        """Measure the average, and keep it where it is the best so far."""
        so_far = self._so_far
        figures = self.world.on_main(lambda: self.task.evaluate(self.averaged, tell))
        score = figures["score"]
        if not math.isfinite(score):
            raise self._diverged(so_far.step - 1, f"the score on the validation split is {score}")
        if so_far.best_score is None or score > so_far.best_score:
            so_far.best_score, so_far.best_step, so_far.looks_since_best = score, so_far.step, 0
            path = self.folder / BEST
            self.world.on_main(lambda: self.task.save_best(path, self.averaged, so_far.step))
        else:
            so_far.looks_since_best += 1
        patience = self.settings.patience
        so_far.stopped_early = (
            0 < patience <= so_far.looks_since_best and so_far.step < self.settings.steps
        )
        # A set too small for a figure may give NaN, which no saved row may hold.
        return {name: value for name, value in figures.items() if math.isfinite(value)}

    def _diverged(self, step: int, why: str) -> CheckpointError:
        files = list(dict.fromkeys(self.task.batches.files(step)))
        more = f" and {len(files) - _NAMED} more" if len(files) > _NAMED else ""
        kept = f" The state after step {self._saved_step} is kept." if self._saved_step else ""
        return CheckpointError(
            f"Training diverged at step {step + 1}: {why}.{kept} The batch of that step: "
            f"{', '.join(files[:_NAMED])}{more}",
            expected="finite numbers",
            next_step="look at these pictures, or train with smaller rates in another folder",
        )

    @property
    def _state(self) -> Trained:
        return Trained(self.module, self.averaged, self._optimiser, self._scaler)

    def _save(self) -> None:
        """Write everything needed to go on from here."""
        path, rows = self.folder / STATE, self._book.rows
        wrong = save_state(path, self._state, self._so_far, self.world.size, rows)
        if wrong is not None:
            raise self._diverged(self._so_far.step - 1, f"the weight {wrong} is not a number")
        self._book.save()

    def _resume(self) -> None:
        header = load_state(self.folder / STATE, self._state)
        if header.ranks != self.world.size:
            raise ConfigError(
                f"The run in {self.folder} was started with {header.ranks} processes, not "
                f"{self.world.size}: its batches would change.",
                expected=f"{header.ranks} processes",
                next_step=f"torchrun --nproc-per-node {header.ranks}, or another folder",
            )
        self._book = Logbook(self.folder, header.rows)
        self._so_far, self._saved_step = header.so_far, header.so_far.step


def _check_groups(module: nn.Module, groups: Sequence[ParameterGroup]) -> None:
    grouped = {id(weight) for group in groups for weight in group.parameters}
    lost = [
        name
        for name, weight in module.named_parameters()
        if weight.requires_grad and id(weight) not in grouped
    ]
    if lost:
        raise ConfigError(
            f"{len(lost)} weights ask for gradients and are in no group, such as {lost[0]}.",
            expected="a group for each weight that is trained",
            next_step="freeze them with requires_grad_(False), or add them to a group",
        )


def _optimiser(groups: Sequence[ParameterGroup], settings: LoopSettings) -> torch.optim.AdamW:
    described = [
        {
            "params": list(group.parameters),
            "peak": group.rate,
            "weight_decay": settings.weight_decay
            if group.weight_decay is None
            else group.weight_decay,
        }
        for group in groups
        if group.parameters
    ]
    return torch.optim.AdamW(described, lr=1.0)


def _precision(amp: str, device: torch.device) -> torch.dtype | None:
    if amp == "auto":
        if device.type != "cuda":
            return None
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}[amp]


def _rate_factor(step: int, settings: LoopSettings) -> float:
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    left = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, left)))


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


@torch.no_grad()
def _follow(averaged: nn.Module, module: nn.Module, step: int, average: float) -> None:
    """Move the average a little towards the network, buffers (batch statistics) included."""
    # A young average follows quickly, so that it forgets where it started.
    decay = min(average, (1 + step) / (10 + step))
    for means, values in (
        (averaged.parameters(), module.parameters()),
        (averaged.buffers(), module.buffers()),
    ):
        for mean, value in zip(means, values, strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)
