"""What the loop trains: batches, losses, evaluation, and which weights learn how fast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from edgedf.progress import Progress

__all__ = ["Drawn", "Movable", "ParameterGroup", "Task"]

BatchT = TypeVar("BatchT", bound="Movable")
DrawnT = TypeVar("DrawnT", bound="Movable", covariant=True)


class Movable(Protocol):
    """Anything made of tensors."""

    def to(self, device: torch.device) -> Any:
        """The same on another device."""


class Drawn(Protocol[DrawnT]):
    """A batch for each step."""

    def part(self, step: int, rank: int, ranks: int) -> DrawnT:
        """This process's slice of a step's batch.

        Called from other threads, some steps ahead. The slice must follow from the seed and the
        arguments alone, never from torch's global generator.

        Args:
            step: Number of the step, from 0.
            rank: Number of the process, from 0.
            ranks: Number of processes; the whole batch is ``ranks`` times that of one.
        """

    def files(self, step: int) -> Sequence[str]:
        """The pictures of a step's whole batch, for a message when its loss is not a number."""


class Task(Protocol[BatchT]):
    """What one kind of training is about."""

    @property
    def weights(self) -> Mapping[str, float]:
        """Of each loss in the sum that is minimised, by its name."""

    @property
    def batches(self) -> Drawn[BatchT]:
        """What each step sees."""

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
