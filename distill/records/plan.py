"""Which records to make of which pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edgedf.distill.datasets.dataset import Sample
from edgedf.distill.settings import FACE_SETS, SHARP_SETS, PictureSettings

__all__ = ["Job", "Kind", "evaluation_plan", "plan"]

Kind = Literal["whole", "crop", "self_blend", "portrait", "rendered"]


@dataclass(frozen=True)
class Job:
    """What one record is made of.

    Args:
        sample: The picture.
        kind: ``whole``: as the app prepares it. ``crop``: a random square. ``self_blend``: a face
            swapped with itself, so the record is fake. ``portrait``: a real photograph with its
            background blurred as phones do it, which stays real. ``rendered``: synthetic depth of
            field with the exact map; it has no label.
        variant: Number of the random variant.
    """

    sample: Sample
    kind: Kind
    variant: int = 0

    @property
    def label(self) -> float:
        """1.0 for fake, 0.0 for real, NaN where neither is meant."""
        if self.kind == "rendered":
            return float("nan")
        return float(self.kind == "self_blend" or self.sample.label == "fake")


def plan(samples: Sequence[Sample], settings: PictureSettings) -> tuple[Job, ...]:
    """Which records to make of some pictures.

    Pictures that are sharp everywhere are rendered and nothing else. Portrait-mode copies are made
    of real photographs of sets without fakes.

    Args:
        samples: The pictures.
        settings: How many of each kind, and which sets are what.
    """
    with_fakes = {sample.set for sample in samples if sample.label == "fake"}
    jobs: list[Job] = []
    for sample in samples:
        counts: dict[Kind, int] = {"whole": 1, "crop": settings.crops}
        if sample.set in settings.face_sets and sample.label == "real":
            counts["self_blend"] = settings.self_blends
        if sample.set not in with_fakes:
            counts["portrait"] = settings.portraits
        if sample.set in settings.sharp_sets:
            counts = {"rendered": settings.renderings}
        jobs += [Job(sample, kind, n) for kind, count in counts.items() for n in range(count)]
    return tuple(jobs)


def evaluation_plan(
    samples: Sequence[Sample],
    *,
    face_sets: tuple[str, ...] = FACE_SETS,
    sharp_sets: tuple[str, ...] = SHARP_SETS,
) -> tuple[Job, ...]:
    """What validation and test look at: whole pictures and one of everything made from them.

    Args:
        samples: The pictures.
        face_sets: As in :class:`~edgedf.distill.settings.PictureSettings`.
        sharp_sets: Likewise.
    """
    return plan(samples, PictureSettings(0, 1, 1, 1, face_sets, sharp_sets))
