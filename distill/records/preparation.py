"""What teacher and student have in common before they learn: pictures, splits, the run's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedf.distill.datasets.dataset import Dataset, Sample, Split, read_manifest
from edgedf.distill.distributed import World
from edgedf.distill.records.targets import (
    FACE_SETS,
    SHARP_SETS,
    Job,
    Records,
    TargetSettings,
    compute,
    evaluation_plan,
    plan,
)
from edgedf.errors import ConfigError, DataError
from edgedf.evaluation import Skipped
from edgedf.files import write_text
from edgedf.progress import Progress, silent
from edgedf.settings import dump_settings

__all__ = [
    "RESEARCH_LICENCE",
    "SETTINGS",
    "PictureSettings",
    "Splits",
    "claimed",
    "domains",
    "labelled",
    "prepare",
]

SETTINGS = "settings.toml"

RESEARCH_LICENCE = (
    "research use only: trained on image sets with research-only or unstated licences"
)


Indices = NDArray[np.intp]


@dataclass(frozen=True)
class PictureSettings:
    """Which records are made of the training pictures.

    Args:
        crops: Random squares a picture, beside the whole one.
        renderings: Synthetic depths of field a sharp picture.
        self_blends: Self-blends a real face.
        portraits: Portrait-mode copies a real photograph of a set without fakes.
        face_sets: Sets of aligned faces.
        sharp_sets: Sets of pictures that are sharp everywhere; they train the map alone.

    Raises:
        ConfigError: A negative number.
    """

    crops: int = 1
    renderings: int = 6
    self_blends: int = 1
    portraits: int = 1
    face_sets: tuple[str, ...] = FACE_SETS
    sharp_sets: tuple[str, ...] = SHARP_SETS

    def __post_init__(self) -> None:
        if min(self.crops, self.renderings, self.self_blends, self.portraits) < 0:
            raise ConfigError(
                f"No records can be made with {self}.",
                expected="numbers from 0",
                next_step="0 leaves them out",
            )


@dataclass(frozen=True)
class Splits:
    """Records of the three splits."""

    training: Records
    validation: Records
    test: Records

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """Pictures that could not be read, each once."""
        parts = (self.training, self.validation, self.test)
        found = {entry.file: entry for records in parts for entry in records.skipped}
        return tuple(found.values())


def prepare(
    dataset: Dataset,
    settings: PictureSettings,
    cache: Path,
    *,
    size: int,
    seed: int,
    world: World,
    workers: int = 1,
    progress: Progress = silent,
) -> Splits:
    """Compute the records of all splits, or read those that are there.

    Those of the test split too: a picture that cannot be read should be known now, not hours
    later.

    Args:
        dataset: Pictures of all splits.
        settings: What is made of them.
        cache: Folder of the shards.
        size: Side of the pictures.
        seed: Of everything random.
        world: The processes that share the work.
        workers: Processes that compute maps, for each of torchrun's.
        progress: Told how many records are there.

    Raises:
        DataError: A split lacks a class, or more than 5 % of its pictures cannot be read.
        OutputError: The cache cannot be written.
    """
    sets = {"face_sets": settings.face_sets, "sharp_sets": settings.sharp_sets}
    targets = TargetSettings(size=size, seed=seed)

    def records(jobs: tuple[Job, ...]) -> Records:
        return compute(
            jobs,
            cache,
            targets,
            workers=workers,
            rank=world.rank,
            ranks=world.size,
            barrier=world.barrier,
            progress=progress,
        )

    train, val, test = (_of_split(dataset, split) for split in ("train", "val", "test"))
    return Splits(
        records(
            plan(
                train,
                crops=settings.crops,
                renderings=settings.renderings,
                self_blends=settings.self_blends,
                portraits=settings.portraits,
                **sets,
            )
        ),
        records(evaluation_plan(val, **sets)),
        records(evaluation_plan(test, **sets)),
    )


def claimed(
    data: Path,
    folder: Path,
    settings: Any,
    states: Sequence[str],
    depends: Mapping[str, str] = MappingProxyType({}),
) -> Dataset:
    """The data set, once it is noted in the run's folder what the run depends on.

    Args:
        data: Folder of the data set.
        folder: Of the run.
        settings: Everything else the run depends on.
        states: Names of the files that a run in the folder goes on from.
        depends: SHA-256 of other files that it depends on, by what they are.

    Raises:
        ConfigError: A run that is there depends on something else.
        DataError: The manifest cannot be used.
        OutputError: The folder cannot be written.
    """
    dataset = read_manifest(data)
    hashes = {"Manifest": dataset.sha256, **depends}
    head = "".join(f"# {name}'s SHA-256: {value}\n" for name, value in hashes.items())
    text = head + dump_settings(settings)
    path = folder / SETTINGS
    if any((folder / state).is_file() for state in states) and not _is_same(path, text):
        raise ConfigError(
            f"{folder} holds a run with other settings, other data or another teacher.",
            expected=f"what {path} says",
            next_step="choose another --out, or delete that folder",
        )
    write_text(path, text)
    return dataset


def domains(records: Records, indices: Indices) -> list[str]:
    """What :func:`~edgedf.distill.networks.probe.balance` balances: source and kind of records."""
    return [f"{records.jobs[i].sample.source} {records.jobs[i].kind}" for i in indices]


def labelled(records: Records) -> Indices:
    """Numbers of the records that are known to be real or fake."""
    return np.flatnonzero(~np.isnan(records.labels))


def _is_same(path: Path, text: str) -> bool:
    try:
        return path.read_text("utf-8") == text
    except (OSError, UnicodeDecodeError):
        return False


def _of_split(dataset: Dataset, split: Split) -> tuple[Sample, ...]:
    chosen = dataset.select(split=split)
    labels = {sample.label for sample in chosen}
    if len(labels) < 2:
        raise DataError(
            f"The {split} split of {dataset.folder} holds {', '.join(labels) or 'nothing'}.",
            expected="real and fake pictures in each of train, val and test",
            next_step="move some groups between the splits",
        )
    return chosen
