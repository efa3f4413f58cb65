"""The task of quantization-aware training: what is wanted, and where training starts."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from edgedf.distill.distributed import World
from edgedf.distill.evaluation.predictions import Predictions, predict
from edgedf.distill.networks.deployable import Deployable
from edgedf.distill.networks.running import as_pixels
from edgedf.distill.networks.student import Student
from edgedf.distill.qat.fake_quant import FakeQuantized
from edgedf.distill.qat.figures import mean_errors
from edgedf.distill.qat.pictures import PictureBatches, Pictures
from edgedf.distill.records.batches import Batch
from edgedf.distill.settings import QatSettings
from edgedf.distill.training.losses import fake_loss
from edgedf.distill.training.task import ParameterGroup
from edgedf.errors import ConfigError
from edgedf.progress import Progress, silent
from edgedf.spec import LOGIT_BOUND

__all__ = ["BATCH", "QatTask", "fitting", "groups_of", "untrained"]

BATCH = 16
"""Pictures a batch when networks are measured."""

# Pictures a batch when ranges are observed.
_AT_ONCE = 8
_TIMED_STEPS = 3
# A tensor of zeros, such as biases that were never trained, is taken to be so large.
_SMALLEST = 1e-3
# Of a budget in minutes, the share that steps may take; looks and figures take the rest.
_STEPS_SHARE = 0.75


class QatTask:
    """The task: the float student's logit and map, and where asked for the labels.

    Args:
        student: The float student.
        training: What is learned from.
        validation: What the score is taken on.
        settings: Weights, seed.
        world: The processes that share the batch.
        save: Writes the averaged network, the best so far, with its step.
    """

    def __init__(
        self,
        student: Student,
        training: Pictures,
        validation: Pictures,
        settings: QatSettings,
        world: World,
        save: Callable[[Path, nn.Module, int], None],
    ) -> None:
        self.weights: Mapping[str, float] = {
            "logit": settings.logit,
            "map": settings.map,
            "labels": settings.labels,
        }
        self._device, self._validation = world.device, validation
        size = settings.loop.batch * world.size
        self.batches = PictureBatches(training, size=size, seed=settings.loop.seed)
        self._parent = Deployable(student).to(world.device)
        self._wanted = self._predict(self._parent, silent)
        self.save_best = save

    def losses(self, module: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Errors of logit and map against the float student, and of the logit against labels."""
        with torch.no_grad():
            wanted, wanted_map = self._parent(batch.images)
        logit, defocus_map = module(batch.images)
        # int8 cannot say more than this, and need not.
        wanted = wanted.clamp(-LOGIT_BOUND, LOGIT_BOUND)
        return {
            "logit": (logit - wanted).abs().mean(),
            "map": (defocus_map - wanted_map).abs().mean(),
            "labels": fake_loss(logit[:, 0], batch.labels, count=batch.labelled),
        }

    def evaluate(self, averaged: nn.Module, progress: Progress) -> dict[str, float]:
        """The same errors of the averaged network on the validation pictures."""
        logit, defocus_map = mean_errors(self._predict(averaged, progress), self._wanted)
        score = -(self.weights["logit"] * logit + self.weights["map"] * defocus_map)
        return {
            "logit error on validation": logit,
            "map error on validation": defocus_map,
            "score": score,
        }

    def _predict(self, network: nn.Module, progress: Progress) -> Predictions:
        images, device = self._validation.images, self._device
        return predict(network, images, device=device, batch=BATCH, step="judge", progress=progress)


def untrained(student: Student, settings: QatSettings, training: Pictures) -> FakeQuantized:
    """The student with fake quantization, its ranges taken from some pictures."""
    network = FakeQuantized(copy.deepcopy(student), settings.ranges)
    if network.student.high_pass is not None:
        network.student.high_pass.requires_grad_(False)  # exact as it is
    rng = np.random.default_rng(settings.loop.seed)
    count = min(settings.observed, len(training))
    chosen = np.sort(rng.choice(len(training), count, replace=False))
    images = training.images[chosen]
    network.observe(as_pixels(images[at : at + _AT_ONCE]) for at in range(0, count, _AT_ONCE))
    return network


def groups_of(network: FakeQuantized, settings: QatSettings) -> list[ParameterGroup]:
    """Each tensor with a rate in proportion to its size, and the ranges."""
    # No decay: weights near those of the float student are wanted, not small ones.
    groups = [
        ParameterGroup([weight], settings.rate * _size(weight), 0.0)
        for weight in network.student.parameters()
        if weight.requires_grad
    ]
    if network.stretch.requires_grad:
        groups.append(ParameterGroup([network.stretch], settings.range_rate, 0.0))
    return groups


def _size(weight: Tensor) -> float:
    """Root mean square; of a tensor of zeros, a little."""
    return max(float(weight.detach().square().mean().sqrt()), _SMALLEST)


def fitting(
    student: Student, settings: QatSettings, training: Pictures, minutes: float
) -> QatSettings:
    """As many steps as fit into a budget, measured on a few that are thrown away."""
    network = untrained(student, settings, training).train()
    parent = Deployable(student)
    batches = PictureBatches(training, size=settings.loop.batch, seed=settings.loop.seed)
    seconds = []
    for step in range(_TIMED_STEPS):
        start = time.monotonic()
        batch = batches.part(step, 0, 1)
        with torch.no_grad():
            parent(batch.images)
        logit, defocus_map = network(batch.images)
        (logit.mean() + defocus_map.mean()).backward()
        seconds.append(time.monotonic() - start)
    fit = _STEPS_SHARE * 60 * minutes / min(seconds)
    if not fit >= 1:
        raise ConfigError(
            f"No step of training fits into {minutes:g} minutes: one takes {min(seconds):.1f} s.",
            expected="time for some dozens of steps",
            next_step="allow more minutes, or set a smaller loop.batch",
        )
    loop = settings.loop
    steps = int(min(loop.steps, fit))
    return replace(
        settings,
        loop=replace(
            loop,
            steps=steps,
            warmup=min(loop.warmup, steps // 10),
            evaluate_every=min(loop.evaluate_every, max(1, steps // 3)),
        ),
    )
