"""What teacher and student have in common before they learn: pictures, splits, the run's folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from edgedf.distill.datasets.dataset import Dataset, Sample, Split, read_manifest
from edgedf.distill.distributed import World
from edgedf.distill.records.making import TargetSettings
from edgedf.distill.records.plan import Job, evaluation_plan, plan
from edgedf.distill.records.targets import Records, compute
from edgedf.distill.settings import PictureSettings
from edgedf.errors import ConfigError, DataError
from edgedf.evaluation import Skipped
from edgedf.files import write_text
from edgedf.progress import Progress, silent
from edgedf.settings import dump_settings

__all__ = ["SETTINGS", "Splits", "claimed", "prepare"]

SETTINGS = "settings.toml"


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
        by_file = {entry.file: entry for records in parts for entry in records.skipped}
        return tuple(by_file.values())


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
    targets = TargetSettings(size=size, seed=seed)

    def records(jobs: tuple[Job, ...]) -> Records:
        return compute(jobs, cache, targets, workers=workers, world=world, progress=progress)

    def evaluated(samples: tuple[Sample, ...]) -> Records:
        sets = {"face_sets": settings.face_sets, "sharp_sets": settings.sharp_sets}
        return records(evaluation_plan(samples, **sets))

    train, val, test = (_of_split(dataset, split) for split in ("train", "val", "test"))
    return Splits(records(plan(train, settings)), evaluated(val), evaluated(test))


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
