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
import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, cast

import numpy as np
import safetensors
import torch
from safetensors.torch import save
from torch import Tensor, nn

from edgedf import typed_json
from edgedf.ahead import run_ahead
from edgedf.distill.distributed import DEVICES, Device, World
from edgedf.distill.training.logbook import Logbook
from edgedf.errors import CheckpointError, ConfigError
from edgedf.files import write_bytes
from edgedf.progress import Progress, silent

__all__ = ["BEST", "STATE", "Loop", "LoopSettings", "Outcome", "ParameterGroup", "Task"]

STATE, BEST = "state.safetensors", "best.safetensors"

T = TypeVar("T")
BatchT = TypeVar("BatchT", bound="Movable")

# How many files of a batch a message names.
_NAMED = 40


class Movable(Protocol):
    """Anything made of tensors."""

    def to(self, device: torch.device) -> Any:
        """The same on another device."""


class Task(Protocol[BatchT]):
    """What one kind of training is about."""

    @property
    def weights(self) -> Mapping[str, float]:
        """Of each loss in the sum that is minimised, by its name."""

    def batch(self, step: int, rank: int, ranks: int) -> BatchT:
        """This process's slice of a step's batch.

        Called from other threads, some steps ahead. What it gives must follow from the seed and
        the arguments alone, never from torch's global generator.

        Args:
            step: Number of the step, from 0.
            rank: Number of the process, from 0.
            ranks: Number of processes; the whole batch is ``ranks`` times that of one.
        """

    def files(self, step: int, ranks: int) -> Sequence[str]:
        """The pictures of a step's whole batch, for a message when its loss is not a number."""

    def losses(self, module: nn.Module, batch: BatchT) -> dict[str, Tensor]:
        """Each loss of a batch by name, the names being those of :attr:`weights`.

        Args:
            module: The network in training mode, to be called as a function once: under
                ``torchrun`` it is wrapped, and has no attributes of its own.
            batch: On the network's device.

        Returns:
            Scalars. Sums are divided by the number of records (or labels) in the whole batch a
            process, so that the mean over processes is the loss of the whole batch.
        """

    def evaluate(self, averaged: nn.Module, progress: Progress) -> dict[str, float]:
        """Figures of the averaged network on the validation split, ``score`` among them.

        The score (say, mean AUC; the higher the better) chooses the best weights and stops early.
        """

    def save_best(self, path: Path, averaged: nn.Module, step: int) -> None:
        """Write the averaged network, the best so far, whole or not at all.

        Raises:
            OutputError: The file cannot be written.
        """


@dataclass(frozen=True)
class LoopSettings:
    """How a network is trained, whichever it is.

    Args:
        steps: Optimiser steps.
        batch: Records a step and process.
        weight_decay: Of AdamW.
        warmup: Steps over which the rates rise; a cosine takes them down to zero afterwards.
        average: Decay of the moving average of the weights, which is what is evaluated.
        clip: Largest norm of the gradient.
        evaluate_every: Steps between looks at the validation split.
        patience: Looks without a better score after which training stops; 0 never stops early.
        save_every: Seconds between saves of the state.
        amp: Precision of activations: ``auto`` takes bf16 (or fp16 where the GPU has no bf16) on a
            GPU and none on a CPU, ``off`` float32.
        device: ``auto`` takes a GPU where there is one.
        prefetch: Batches made ahead, a thread each; 0 makes each when it is needed.
        seed: Of everything random.

    Raises:
        ConfigError: A value out of range.
    """

    steps: int = 1800
    batch: int = 32
    weight_decay: float = 1e-4
    warmup: int = 100
    average: float = 0.995
    clip: float = 5.0
    evaluate_every: int = 200
    patience: int = 0
    save_every: float = 180.0
    amp: Literal["auto", "off", "bf16", "fp16"] = "auto"
    device: Device = "auto"
    prefetch: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        _check_settings(self)


@dataclass(frozen=True, eq=False)
class ParameterGroup:
    """Weights that share a learning rate.

    Args:
        parameters: The weights; those of a network that are in no group must not ask for gradients.
        rate: Learning rate at its peak.
        weight_decay: In the place of the settings' own; None for theirs.
    """

    parameters: Sequence[nn.Parameter]
    rate: float
    weight_decay: float | None = None


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


@dataclass
class _SoFar:
    """What changes as a run goes on, besides tensors and rows."""

    step: int = 0
    seconds: float = 0.0
    best_step: int = 0
    best_score: float | None = None
    looks_since_best: int = 0
    stopped_early: bool = False


@dataclass(frozen=True)
class _Header:
    """What a state says of itself besides tensors."""

    so_far: _SoFar
    ranks: int
    rows: tuple[dict[str, float], ...]
    # Of the gradients in fp16, and for how many steps it has held.
    scale: float
    held: int


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
        self._so_far = _SoFar()
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
        used = _leaves(self.task.losses(self.module, batch).values())
        for weight in self.module.parameters():
            weight.requires_grad_(weight.requires_grad and id(weight) in used)
        with torch.no_grad():
            for buffer, value in zip(self.module.buffers(), before, strict=True):
                buffer.copy_(value)

    def _batch(self, step: int) -> Any:
        return self.task.batch(step, self.world.rank, self.world.size)

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
        files = list(dict.fromkeys(self.task.files(step, self.world.size)))
        more = f" and {len(files) - _NAMED} more" if len(files) > _NAMED else ""
        kept = f" The state after step {self._saved_step} is kept." if self._saved_step else ""
        return CheckpointError(
            f"Training diverged at step {step + 1}: {why}.{kept} The batch of that step: "
            f"{', '.join(files[:_NAMED])}{more}",
            expected="finite numbers",
            next_step="look at these pictures, or train with smaller rates in another folder",
        )

    def _save(self) -> None:
        """Write everything needed to go on from here."""
        tensors: dict[str, Tensor] = {}
        for prefix, module in (("module", self.module), ("averaged", self.averaged)):
            tensors |= {f"{prefix}.{name}": value for name, value in module.state_dict().items()}
        for name, value in tensors.items():
            if value.is_floating_point() and not torch.isfinite(value).all():
                raise self._diverged(self._so_far.step - 1, f"the weight {name} is not a number")
        for index, moments in self._optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{name}": value for name, value in moments.items()}
        scaler = self._scaler.state_dict()
        header = _Header(
            self._so_far,
            self.world.size,
            self._book.rows,
            scaler.get("scale", 1.0),
            scaler.get("_growth_tracker", 0),
        )
        described = {"header": json.dumps(typed_json.encode(header))}
        whole = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        write_bytes(self.folder / STATE, save(whole, described))
        self._book.save()

    def _resume(self) -> None:
        path = self.folder / STATE
        try:
            with safetensors.safe_open(str(path), framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                header = typed_json.decode(_Header, json.loads(file.metadata()["header"]))
            self.module.load_state_dict(_below("module.", tensors))
            self.averaged.load_state_dict(_below("averaged.", tensors))
            moments: dict[int, dict[str, Tensor]] = {}
            for name, value in _below("optimiser.", tensors).items():
                index, kind = name.split(".")
                moments.setdefault(int(index), {})[kind] = value
            self._optimiser.load_state_dict({**self._optimiser.state_dict(), "state": moments})
            if self._scaler.is_enabled():
                counters = {"scale": header.scale, "_growth_tracker": header.held}
                self._scaler.load_state_dict({**self._scaler.state_dict(), **counters})
            self._book = Logbook(self.folder, header.rows)
        except (
            OSError,
            safetensors.SafetensorError,
            KeyError,
            TypeError,
            ValueError,
            RuntimeError,
        ) as error:
            raise CheckpointError(
                f"The saved state {path} cannot be used: {error}.",
                expected="a state that this version of edgedf wrote for this network",
                next_step="delete it to start the run again",
            ) from error
        if header.ranks != self.world.size:
            raise ConfigError(
                f"The run in {self.folder} was started with {header.ranks} processes, not "
                f"{self.world.size}: its batches would change.",
                expected=f"{header.ranks} processes",
                next_step=f"torchrun --nproc-per-node {header.ranks}, or another folder",
            )
        self._so_far, self._saved_step = header.so_far, header.so_far.step


def _check_settings(settings: LoopSettings) -> None:
    if (
        min(settings.steps, settings.batch, settings.evaluate_every) < 1
        or min(settings.warmup, settings.patience, settings.prefetch, settings.seed) < 0
        or min(settings.weight_decay, settings.save_every) < 0
        or settings.clip <= 0
        or not 0 <= settings.average < 1
    ):
        raise ConfigError(
            f"No run is possible with {settings}.",
            expected="at least one step, one record a batch and one step between looks, a clip "
            "above 0, an average from 0 and below 1, and nothing below 0",
            next_step="change the value that is outside",
        )
    for name, value, known in (
        ("device", settings.device, DEVICES),
        ("amp", settings.amp, ("auto", "off", "bf16", "fp16")),
    ):
        if value not in known:
            raise ConfigError(
                f"There is no {name} {value!r}.",
                expected=", ".join(known),
                next_step="choose one of these",
            )


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


def _leaves(losses: Iterable[Tensor]) -> set[int]:
    """Identities of the weights that losses depend on, found by walking back through the graph."""
    left = [loss.grad_fn for loss in losses]
    seen, found = set(left), set()
    while left:
        node = left.pop()
        if node is None:
            continue
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        fresh = {source for source, _ in node.next_functions} - seen
        seen |= fresh
        left += fresh
    return found


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
