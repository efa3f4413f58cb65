import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch

from edgedf.distill.datasets.dataset import Sample
from edgedf.distill.distributed import World
from edgedf.distill.records import statistics as module
from edgedf.distill.records.plan import Job
from edgedf.distill.records.statistics import cached_statistics
from edgedf.distill.records.targets import Records
from edgedf.errors import OutputError
from tests.distill.pictures import SIDE, crop


class Killed(Exception):
    """Stands for a power cut."""


class Eye:
    """Sees a picture's colours and its map's mean, and counts the pictures that it is shown."""

    def __init__(self, dies_at: int | None = None) -> None:
        self.seen: list[int] = []
        self.dies_at = dies_at

    def __call__(self, images: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
        if self.dies_at is not None and sum(self.seen) >= self.dies_at:
            raise Killed
        self.seen.append(len(images))
        return torch.cat([images.mean(dim=(2, 3)), maps.mean(dim=(2, 3))], dim=1)


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> Records:
    """Ten records, which make three shards."""
    monkeypatch.setattr(module, "SHARD", 4)
    rng = np.random.default_rng(0)
    jobs = tuple(
        Job(Sample(Path(f"{n}.png"), "a", "real", f"{n}", "train", "skimage"), "whole")
        for n in range(10)
    )
    images = np.stack([crop(rng) for _ in jobs])
    maps = rng.uniform(0, 5, (10, SIDE // 4, SIDE // 4)).astype(np.float16)
    return Records(jobs, images, maps, np.zeros(10, np.float32))


def shards(folder: Path) -> list[Path]:
    """Those with fewest records first."""
    assert all(path.name.startswith("statistics-") for path in folder.iterdir())
    return sorted(folder.iterdir(), key=lambda path: (path.stat().st_size, path.name))


def test_statistics_are_those_of_every_record_in_order(records: Records, tmp_path: Path) -> None:
    found = cached_statistics(records, Eye(), "eye", tmp_path)
    colours = records.images.reshape(10, -1, 3).mean(axis=1)
    blur = records.maps.reshape(10, -1).astype(np.float32).mean(axis=1, keepdims=True)
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, np.concatenate([colours, blur], axis=1), rtol=2e-3)
    assert len(shards(tmp_path)) == 3


def test_the_second_time_they_come_from_disk(records: Records, tmp_path: Path) -> None:
    eye, again = Eye(), Eye()
    first = cached_statistics(records, eye, "eye", tmp_path)
    second = cached_statistics(records, again, "eye", tmp_path)
    assert eye.seen == [4, 4, 2]
    assert again.seen == []
    assert np.array_equal(first, second)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


def drop_a_record(path: Path) -> None:
    rewrite(path, lambda values: values[1:])


def widen(path: Path) -> None:
    rewrite(path, lambda values: values.astype(np.float32))


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Another content, whose checksum is right."""
    values = np.ascontiguousarray(change(safetensors.numpy.load_file(path)["values"]))
    checksum = {"sha256": hashlib.sha256(values.tobytes()).hexdigest()}
    path.write_bytes(safetensors.numpy.save({"values": values}, checksum))


def drop_the_checksum(path: Path) -> None:
    path.write_bytes(safetensors.numpy.save(safetensors.numpy.load_file(path)))


@pytest.mark.parametrize(
    "damage",
    [
        cut_off,
        flip_a_byte,
        drop_a_record,
        widen,
        drop_the_checksum,
        Path.unlink,
        lambda path: path.write_bytes(b""),
    ],
)
def test_a_damaged_shard_is_computed_again(
    damage: Callable[[Path], object], records: Records, tmp_path: Path
) -> None:
    wanted = cached_statistics(records, Eye(), "eye", tmp_path)
    damage(shards(tmp_path)[-1])
    eye = Eye()
    assert np.array_equal(cached_statistics(records, eye, "eye", tmp_path), wanted)
    assert eye.seen == [4]
    again = Eye()
    assert np.array_equal(cached_statistics(records, again, "eye", tmp_path), wanted)
    assert again.seen == []
    assert len(shards(tmp_path)) == 3


def test_another_branch_has_shards_of_its_own(records: Records, tmp_path: Path) -> None:
    cached_statistics(records, Eye(), "eye", tmp_path)
    other = Eye()
    cached_statistics(records, other, "other eye", tmp_path)
    assert other.seen == [4, 4, 2]
    assert len(shards(tmp_path)) == 6


def test_what_changed_is_computed_and_the_rest_is_kept(records: Records, tmp_path: Path) -> None:
    cached_statistics(records, Eye(), "eye", tmp_path)
    images, maps = records.images.copy(), records.maps.copy()
    images[5, 0, 0, 0] ^= 1
    eye = Eye()
    cached_statistics(replace(records, images=images), eye, "eye", tmp_path)
    assert eye.seen == [4]
    maps[9] += 1
    eye = Eye()
    found = cached_statistics(replace(records, maps=maps), eye, "eye", tmp_path)
    assert eye.seen == [2]
    assert found[9, 3] == pytest.approx(maps[9].astype(np.float32).mean(), rel=1e-3)


def test_a_run_that_was_killed_goes_on_where_it_was(records: Records, tmp_path: Path) -> None:
    wanted = cached_statistics(records, Eye(), "eye", tmp_path / "whole")
    with pytest.raises(Killed):
        cached_statistics(records, Eye(dies_at=8), "eye", tmp_path / "half")
    assert len(shards(tmp_path / "half")) == 2
    eye = Eye()
    assert np.array_equal(cached_statistics(records, eye, "eye", tmp_path / "half"), wanted)
    assert eye.seen == [2]


def test_a_large_shard_is_shown_in_batches(
    records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = cached_statistics(records, Eye(), "eye", tmp_path / "small")
    monkeypatch.setattr(module, "SHARD", 100)
    monkeypatch.setattr(module, "_BATCH", 3)
    eye = Eye()
    assert np.array_equal(cached_statistics(records, eye, "eye", tmp_path / "large"), wanted)
    assert eye.seen == [3, 3, 3, 1]
    assert len(shards(tmp_path / "large")) == 1


def test_processes_compute_their_own_shards_and_read_the_others(
    records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second of two waits once it is through with its own; the first is done by then."""
    first, second = Eye(), Eye()
    wanted = cached_statistics(records, Eye(), "eye", tmp_path / "alone")
    together = tmp_path / "together"

    def wait(world: World) -> None:
        if world.rank == 1:
            assert second.seen == [4]
            cached_statistics(records, first, "eye", together, world=World(rank=0, size=2))

    monkeypatch.setattr(World, "barrier", wait)
    world = World(rank=1, size=2)
    found = cached_statistics(records, second, "eye", together, world=world)
    assert np.array_equal(found, wanted)
    assert first.seen == [4, 2]
    assert second.seen == [4]


def test_progress_says_how_many_records_are_there(records: Records, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    for _ in range(2):
        cached_statistics(
            records,
            Eye(),
            "eye",
            tmp_path,
            step="look",
            progress=lambda *step: told.append(step),
        )
    assert told == [("look", 4, 10), ("look", 8, 10), ("look", 10, 10)] * 2


def test_a_folder_that_cannot_be_written_is_named(records: Records, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(OutputError, match="Cannot write"):
        cached_statistics(records, Eye(), "eye", tmp_path / "file" / "cache")
    assert (tmp_path / "file").read_text() == "kept"
