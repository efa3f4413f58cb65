"""The teacher's map, learned from renderings.

On a rendering the exact map is known, so the head learns where the physical one goes wrong. On
photographs nothing but the physical map is known; the head is not taught to repeat it there.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from edgedf.distill.distributed import World
from edgedf.distill.networks.decoder import MapHead
from edgedf.distill.networks.teacher import Branch, Teacher, improved_map
from edgedf.distill.records.preparation import Splits
from edgedf.distill.records.targets import Records
from edgedf.distill.settings import LoopSettings
from edgedf.distill.training.loop import BEST, Loop
from edgedf.distill.training.map_task import Judged, MapTask, physical_maps
from edgedf.distill.training.task import ParameterGroup
from edgedf.files import write_bytes
from edgedf.progress import Progress, silent

__all__ = ["learn_head", "take_head"]


def learn_head(
    teacher: Teacher,
    head: MapHead,
    splits: Splits,
    folder: Path,
    cache: Path,
    settings: LoopSettings,
    *,
    rate: float,
    world: World,
    progress: Progress = silent,
) -> None:
    """Train a teacher's map head, or go on where a run was cut off.

    Args:
        teacher: Its encoders have ImageNet's weights and stay as they are.
        head: Its head.
        splits: The renderings among the training records are learned from.
        folder: Of the run; :func:`take_head` reads the best weights from there.
        cache: Folder of the renderings' physical maps.
        settings: Steps, batch, seed.
        rate: Learning rate.
        world: The processes that share the work.
        progress: Told about maps, steps and looks.

    Raises:
        CheckpointError: The saved state is damaged, or training has diverged.
        OutputError: A folder cannot be written.
    """

    def judged(records: Records) -> Judged:
        return Judged(records, physical_maps(records, cache, world=world, progress=progress))

    learned, looked_at = (
        records.subset(records.rendered) for records in (splits.training, splits.validation)
    )
    task = MapTask(
        judged(learned),
        # Without renderings to look at, those that are learned from have to do.
        judged(looked_at if len(looked_at) else learned),
        size=settings.batch * world.size,
        seed=settings.seed,
        features=0.0,
        save=_save,
    )
    learner = _Learner(teacher.finest, head).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    groups = [ParameterGroup(list(head.parameters()), rate)]
    Loop(folder, settings, learner, task, groups, world).go(progress)


def take_head(head: MapHead, folder: Path) -> None:
    """Give a head the best weights of a run.

    Args:
        head: Changed in place.
        folder: Of :func:`learn_head`.
    """
    head.load_state_dict(load_file(folder / BEST))


class _Learner(nn.Module):
    """The head while it learns."""

    def __init__(self, branch: Branch, head: MapHead) -> None:
        super().__init__()
        self.branch, self.head = branch, head

    def forward(self, image: Tensor, beside: Tensor) -> tuple[Tensor, Tensor]:
        """The map, and no drift: the encoder is frozen."""
        improved = improved_map(self.branch, self.head, image, beside)
        return improved, torch.zeros((), device=image.device)


def _save(path: Path, averaged: nn.Module, step: int) -> None:
    state = averaged.head.state_dict()  # type: ignore[union-attr]
    write_bytes(path, save({name: value.contiguous() for name, value in state.items()}))
