import dataclasses
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from edgedf.distill.datasets.dataset import read_manifest
from edgedf.distill.distributed import World
from edgedf.distill.optics.maps import defocus_map
from edgedf.distill.records import targets
from edgedf.distill.records.making import TargetSettings, at_stride
from edgedf.distill.records.plan import Job, evaluation_plan, plan
from edgedf.distill.records.targets import compute
from edgedf.distill.settings import PictureSettings
from edgedf.errors import DataError
from edgedf.imaging import preprocess
from tests.distill.pictures import write_dataset

SETTINGS = TargetSettings(size=32)


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, ...]:
    folder = write_dataset(tmp_path_factory.mktemp("data"), groups=1)
    samples = read_manifest(folder).select(split="train")
    return plan(samples, PictureSettings(renderings=2))


def test_a_plan_blends_real_faces_and_renders_sharp_pictures(jobs: tuple[Job, ...]) -> None:
    kinds = [(job.sample.set, job.sample.label, job.kind) for job in jobs]
    assert kinds == [
        ("faces256", "real", "whole"),
        ("faces256", "real", "crop"),
        ("faces256", "real", "self_blend"),
        ("faces256", "fake", "whole"),
        ("faces256", "fake", "crop"),
        ("scenes", "real", "whole"),
        ("scenes", "real", "crop"),
        ("scenes", "fake", "whole"),
        ("scenes", "fake", "crop"),
        ("sharp", "real", "rendered"),
        ("sharp", "real", "rendered"),
    ]
    labels = [job.label for job in jobs]
    assert labels[:9] == [0, 0, 1, 1, 1, 0, 0, 1, 1]
    assert np.isnan(labels[9:]).all()
    evaluated = evaluation_plan([job.sample for job in jobs if job.kind in ("whole", "rendered")])
    assert {job.kind for job in evaluated} == {"whole", "self_blend", "rendered"}


def test_records_are_what_their_jobs_say(jobs: tuple[Job, ...], tmp_path: Path) -> None:
    records = compute(jobs, tmp_path, SETTINGS)
    assert records.images.shape == (11, 32, 32, 3)
    assert records.maps.shape == (11, 8, 8)
    whole = preprocess(jobs[0].sample.path, 32)
    assert np.array_equal(records.images[0], whole)
    expected = defocus_map(whole).reshape(8, 4, 8, 4).mean(axis=(1, 3))
    assert np.allclose(records.maps[0], expected, atol=2e-3)
    for changed in (1, 2):
        assert not np.array_equal(records.images[changed], whole)
    assert not np.array_equal(records.images[9], records.images[10])
    assert records.maps[9:].max() > 0.3
    assert np.array_equal(np.isnan(records.labels), [job.kind == "rendered" for job in jobs])


def test_some_records_are_what_they_were_in_the_asked_order(
    jobs: tuple[Job, ...], tmp_path: Path
) -> None:
    records = compute(jobs, tmp_path, SETTINGS)
    chosen = np.array([10, 0, 3, 0])
    some = records.subset(chosen)
    assert len(some) == 4
    assert some.jobs == tuple(jobs[index] for index in (10, 0, 3, 0))
    for position, index in enumerate(chosen):
        assert np.array_equal(some.images[position], records.images[index])
        assert np.array_equal(some.maps[position], records.maps[index])
        assert np.array_equal(some.labels[position], records.labels[index], equal_nan=True)
    assert some.skipped == ()
    none = records.subset(np.array([], int))
    assert (len(none), none.images.shape) == (0, (0, 32, 32, 3))


def test_a_map_is_averaged_over_squares_of_pixels() -> None:
    dense = np.arange(24, dtype=np.float32).reshape(4, 6)
    found = at_stride(dense, 2)
    assert found.dtype == np.float16
    assert found.tolist() == [[3.5, 5.5, 7.5], [15.5, 17.5, 19.5]]
    assert np.array_equal(at_stride(dense, 1), dense.astype(np.float16))


def test_a_second_run_reads_what_the_first_one_wrote(jobs: tuple[Job, ...], tmp_path: Path) -> None:
    first = compute(jobs, tmp_path, SETTINGS)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert files
    told: list[tuple[str, int, int]] = []
    again = compute(jobs, tmp_path, SETTINGS, progress=lambda *step: told.append(step))
    assert np.array_equal(first.images, again.images)
    assert np.array_equal(first.maps, again.maps)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == files
    assert told[-1] == ("defocus maps", 11, 11)


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "bare", "nested"])
def test_a_damaged_shard_is_computed_again(
    jobs: tuple[Job, ...], tmp_path: Path, damage: str
) -> None:
    first = compute(jobs[:2], tmp_path, SETTINGS)
    (shard,) = tmp_path.iterdir()
    intact = shard.read_bytes()
    flipped = bytearray(intact)
    flipped[-1000] ^= 1
    bare = safetensors.numpy.save(safetensors.numpy.load(intact))  # no checksum
    nested = safetensors.numpy.save(safetensors.numpy.load(intact), {"edgedf": "[" * 100_000})
    wrong = {"cut": intact[: len(intact) // 2], "empty": b"", "flipped": flipped, "bare": bare}
    shard.write_bytes({**wrong, "nested": nested}[damage])
    again = compute(jobs[:2], tmp_path, SETTINGS)
    assert shard.read_bytes() == intact
    assert np.array_equal(first.images, again.images)
    assert np.array_equal(first.maps, again.maps)


def test_a_changed_picture_or_setting_makes_another_shard(
    jobs: tuple[Job, ...], tmp_path: Path
) -> None:
    few = jobs[:1]
    compute(few, tmp_path, SETTINGS)
    compute(few, tmp_path, dataclasses.replace(SETTINGS, seed=1))
    assert len(list(tmp_path.iterdir())) == 2
    copy = tmp_path / "copy.png"
    copy.write_bytes(jobs[3].sample.path.read_bytes())
    other = dataclasses.replace(few[0], sample=dataclasses.replace(few[0].sample, path=copy))
    compute((other,), tmp_path, SETTINGS)
    assert len(list(tmp_path.glob("*.safetensors"))) == 3


def broken(job: Job, path: Path) -> Job:
    """The job, of a file that is no picture (made here) or not there."""
    return dataclasses.replace(job, sample=dataclasses.replace(job.sample, path=path))


def test_a_few_unreadable_pictures_are_left_out_and_listed(
    jobs: tuple[Job, ...], tmp_path: Path
) -> None:
    """Of 42 pictures two cannot be read: fewer than 5 %."""
    copies = []
    for number in range(40):
        copy = tmp_path / f"{number}.png"
        copy.write_bytes(jobs[0].sample.path.read_bytes())
        copies.append(broken(jobs[0], copy))
    damaged = tmp_path / "damaged.jpg"
    damaged.write_bytes(b"\xff\xd8\xff")
    wrong = [broken(jobs[0], damaged), broken(jobs[1], damaged), broken(jobs[0], tmp_path / "gone")]
    mixed = [*copies[:5], *wrong, *copies[5:]]
    for _ in range(2):  # the second time from the cache
        records = compute(mixed, tmp_path / "cache", SETTINGS)
        assert records.jobs == tuple(copies)
        assert len(records.images) == len(records.maps) == len(records.labels) == 40
        assert np.array_equal(records.images[7], records.images[0])
        assert [Path(entry.file).name for entry in records.skipped] == ["damaged.jpg", "gone"]
        assert "gone" in records.skipped[1].reason
    damaged.write_bytes(copies[0].sample.path.read_bytes())
    mended = compute(mixed, tmp_path / "cache", SETTINGS)
    assert len(mended) == 42
    assert [Path(entry.file).name for entry in mended.skipped] == ["gone"]


def test_more_unreadable_pictures_stop_and_nothing_to_do_is_an_error(
    jobs: tuple[Job, ...], tmp_path: Path
) -> None:
    damaged = tmp_path / "broken.jpg"
    damaged.write_bytes(b"\xff\xd8\xff")
    mixed = [*jobs[:5], broken(jobs[0], damaged)]
    with pytest.raises(DataError, match=r"1 of 3 pictures cannot be read.*broken\.jpg"):
        compute(mixed, tmp_path / "cache", SETTINGS)
    with pytest.raises(DataError, match="no picture"):
        compute((), tmp_path / "cache", SETTINGS)


def test_ranks_share_the_work_and_read_all(
    jobs: tuple[Job, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards of four: the second rank starts while the first one waits for it."""
    monkeypatch.setattr(targets, "SHARD", 4)
    whole = compute(jobs, tmp_path / "alone", SETTINGS)
    cache, seen = tmp_path / "shared", []

    def written() -> int:
        return len(list(cache.glob("*.safetensors")))

    def wait(world: World) -> None:
        if world.rank == 0:
            seen.append(written())
            other = compute(jobs, cache, SETTINGS, world=World(rank=1, size=2))
            seen.append(written())
            assert np.array_equal(other.images, whole.images)

    monkeypatch.setattr(World, "barrier", wait)
    first = compute(jobs, cache, SETTINGS, world=World(rank=0, size=2))
    assert seen == [2, 3]
    assert np.array_equal(first.images, whole.images)
    assert np.array_equal(first.maps, whole.maps)
    assert first.jobs == whole.jobs


def test_a_cache_that_ranks_do_not_share_is_an_error(
    jobs: tuple[Job, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(World, "barrier", lambda world: None)
    monkeypatch.setattr(targets, "SHARD", 4)
    with pytest.raises(DataError, match="1 shards that other processes computed"):
        compute(jobs, tmp_path, SETTINGS, world=World(rank=0, size=2))
