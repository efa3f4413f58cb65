"""The student's defocus map, learned step by step."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor, nn

from edgedf.distill.distributed import World
from edgedf.distill.networks.backbones import load_imagenet_weights
from edgedf.distill.networks.checkpoints import save_checkpoint
from edgedf.distill.networks.student import Student
from edgedf.distill.records.targets import Records
from edgedf.distill.settings import TrainSettings
from edgedf.distill.training.loop import Loop, Outcome
from edgedf.distill.training.losses import distilled_feature_loss
from edgedf.distill.training.map_task import Judged, MapTask
from edgedf.distill.training.task import ParameterGroup
from edgedf.progress import Progress, silent

__all__ = ["learn_maps"]


class _Learner(nn.Module):
    """The student while it learns maps, beside the encoder that it started from.

    Args:
        student: Learns.
        is_bound: Whether the student's inner features are compared with those of the encoder as
            it was.
    """

    def __init__(self, student: Student, is_bound: bool) -> None:
        super().__init__()
        self.student = student
        self.start = copy.deepcopy(student.encoder).requires_grad_(False) if is_bound else None

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) in [0, 255] → the map, and the drift of the inner features."""
        seen = self.student.seen(image)
        ends, inner = self.student.features(seen)
        drift = torch.zeros((), device=image.device)
        if self.start is not None:
            with torch.no_grad():
                before = self.start.all_features(seen)[1][-len(inner) :]
            drift = drift + distilled_feature_loss(inner, before)
        return self.student.defocus_map(ends, image), drift


def learn_maps(
    training: Records,
    validation: Records,
    settings: TrainSettings,
    folder: Path,
    *,
    world: World,
    progress: Progress = silent,
) -> Outcome:
    """Train a student's map, or go on where a run was cut off.

    The best one is in ``best.safetensors``.

    Args:
        training: Pictures and wanted maps.
        validation: Likewise; what the best weights are chosen on.
        settings: Rates, weights, steps, architecture.
        folder: Of the run.
        world: The processes that share the work.
        progress: Told about steps and looks.

    Raises:
        CheckpointError: The saved state is damaged, or training has diverged.
        MissingExtra: The package with the ImageNet weights is not installed.
        OutputError: The folder cannot be written.
    """
    loop = settings.loop
    torch.manual_seed(loop.seed)
    student = Student(settings.student)
    load_imagenet_weights(student.encoder)
    student.requires_grad_(False)
    head = [student.decoder, student.blur, *([student.local] if student.local else [])]
    groups = [([weight for part in head for weight in part.parameters()], settings.rate)]
    if settings.encoder_rate:
        groups.append((list(student.encoder.parameters()), settings.encoder_rate))
    for weights, _ in groups:
        for weight in weights:
            weight.requires_grad_(True)
    is_bound = settings.encoder_rate > 0 and settings.features > 0
    learner = _Learner(student, is_bound).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    task = MapTask(
        Judged(training),
        Judged(validation),
        size=loop.batch * world.size,
        seed=loop.seed,
        features=settings.features,
        save=_save,
    )
    parts = [ParameterGroup(weights, rate) for weights, rate in groups]
    return Loop(folder, loop, learner, task, parts, world).go(progress)


def _save(path: Path, averaged: nn.Module, step: int) -> None:
    save_checkpoint(path, averaged.student, {"step": step})  # type: ignore[arg-type]
