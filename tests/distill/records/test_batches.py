from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from edgedf.distill.datasets.dataset import Sample
from edgedf.distill.records.batches import RecordBatches
from edgedf.distill.records.plan import Job
from edgedf.distill.records.targets import Records
from edgedf.errors import ConfigError

MAP, SIZE = 4, 16


def records(counts: dict[tuple[str, str, str], int]) -> Records:
    """Blank records; every record of a pool has the pool's number as its grey level."""
    jobs, levels = [], []
    for number, ((name, label, kind), count) in enumerate(counts.items()):
        sample = Sample(Path("a"), name, label, "g", "train", "s")  # type: ignore[arg-type]
        jobs += [Job(sample, kind)] * count  # type: ignore[arg-type]
        levels += [number] * count
    images = np.zeros((len(jobs), SIZE, SIZE, 3), np.uint8)
    maps = np.broadcast_to(np.array(levels, np.float16)[:, None, None], (len(jobs), MAP, MAP))
    labels = np.array([job.label for job in jobs], np.float32)
    return Records(tuple(jobs), images, maps, labels)


def photographs(count: int = 12) -> Records:
    """Noise, of all kinds."""
    rng = np.random.default_rng(0)
    jobs = []
    for index in range(count):
        label, kind = [("real", "whole"), ("fake", "crop"), ("real", "rendered")][index % 3]
        sample = Sample(Path(f"{index}.png"), "a", label, "g", "train", "s")  # type: ignore[arg-type]
        jobs.append(Job(sample, kind))  # type: ignore[arg-type]
    images = rng.integers(0, 256, (count, SIZE, SIZE, 3)).astype(np.uint8)
    maps = rng.random((count, MAP, MAP)).astype(np.float16)
    labels = np.array([job.label for job in jobs], np.float32)
    return Records(tuple(jobs), images, maps, labels)


POOLS = {
    ("scenes", "real", "whole"): 10,
    ("scenes", "fake", "whole"): 90,
    ("faces256", "real", "whole"): 50,
    ("faces256", "fake", "whole"): 50,
    ("faces256", "real", "self_blend"): 25,
    ("natural", "real", "whole"): 25,
    ("sharp", "real", "rendered"): 9,
}


def test_classes_of_a_set_are_equally_likely_whatever_it_holds() -> None:
    batches = RecordBatches(records(POOLS), size=512, seed=0)
    labels = torch.cat([batches.part(step).labels for step in range(6)])
    maps = torch.cat([batches.part(step).maps for step in range(6)])
    # Blur may have been added to the map, never taken away, and at most 1.3 px.
    rendered = torch.isnan(labels).float().mean()
    assert 0.35 < rendered < 0.45
    fake, real = (labels == 1).sum(), (labels == 0).sum()
    assert 0.8 < fake / real < 1.25
    first = (maps.amin(dim=(1, 2, 3)) == 0).sum()  # real scenes, where nothing was added
    share = first / (len(labels) * 0.8)
    assert 0.12 < share < 0.3


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    pools = records(POOLS)
    one, same, other = (RecordBatches(pools, size=8, seed=seed) for seed in (3, 3, 4))
    one.part(0), one.part(1)
    assert torch.equal(one.part(7).images, same.part(7).images)
    assert torch.equal(one.part(7).maps, same.part(7).maps)
    assert not torch.equal(one.part(7).maps, one.part(8).maps)
    assert not torch.equal(one.part(7).maps, other.part(7).maps)


@pytest.mark.parametrize("ranks", [2, 4])
def test_processes_share_a_batch_and_see_what_one_would_see(ranks: int) -> None:
    batches = RecordBatches(photographs(), size=8, seed=0)
    whole = batches.part(3)
    parts = [batches.part(3, rank, ranks) for rank in range(ranks)]
    for name in ("images", "maps", "labels"):
        joined = torch.cat([getattr(part, name) for part in parts])
        assert torch.equal(joined.nan_to_num(-1), getattr(whole, name).nan_to_num(-1)), name
    labelled = (~whole.labels.isnan()).sum().item()
    assert 0 < labelled < 8
    assert (whole.count, whole.labelled) == (8, labelled)
    assert {(part.count, part.labelled) for part in parts} == {(8 / ranks, labelled / ranks)}


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(ConfigError, match="8 records cannot be shared by 3"):
        RecordBatches(records(POOLS), size=8, seed=0).part(0, 0, 3)


def test_every_record_changes_in_its_own_way() -> None:
    """The first stream is that of the record, not the one that the batch was drawn with."""
    few = RecordBatches(photographs(1), size=16, seed=0)
    images = few.part(0).images
    assert few.indices(0).tolist() == [0] * 16
    assert len({image.numpy().tobytes() for image in images}) > 12
    assert not np.array_equal(
        np.random.default_rng([0, 5]).random(4), np.random.default_rng([0, 5, 1]).random(4)
    )


def test_files_are_those_of_the_whole_batch() -> None:
    batches = RecordBatches(photographs(), size=8, seed=1)
    assert batches.files(2) == tuple(f"{index}.png" for index in batches.indices(2))
    assert len(batches.files(2)) == 8


def test_a_batch_moves_to_a_device() -> None:
    batch = RecordBatches(photographs(), size=2, seed=1).part(0)
    moved = batch.to(torch.device("meta"))
    assert moved.images.device.type == moved.maps.device.type == moved.labels.device.type == "meta"
    assert (moved.count, moved.labelled) == (batch.count, batch.labelled)


def test_shapes_and_ranges() -> None:
    batch = RecordBatches(records(POOLS), size=5, seed=0).part(0)
    assert batch.images.shape == (5, 3, SIZE, SIZE)
    assert batch.images.dtype == torch.float32
    assert batch.maps.shape == (5, 1, MAP, MAP)
    assert batch.labels.shape == (5,)


def test_records_of_one_kind_are_enough() -> None:
    batches = RecordBatches(records({("sharp", "real", "rendered"): 3}), size=4, seed=0)
    assert torch.isnan(batches.part(0).labels).all()
    assert Counter(batches.part(0).labels.isnan().tolist()) == {True: 4}


# Another map beside each


def beside(count: int = 12) -> np.ndarray:
    return np.random.default_rng(9).uniform(0, 5, (count, MAP, MAP)).astype(np.float16)


def test_without_another_map_there_is_none_beside() -> None:
    batch = RecordBatches(photographs(), size=4, seed=0).part(0)
    assert batch.maps.shape[1] == 1


def test_a_map_beside_changes_with_the_picture_and_changes_nothing_else() -> None:
    plain, both = (
        RecordBatches(photographs(), size=16, seed=0, beside=maps) for maps in (None, beside())
    )
    for step in range(4):
        one, other = plain.part(step), both.part(step)
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.maps, other.maps[:, :1])
        assert one.labels.nan_to_num(-1).tolist() == other.labels.nan_to_num(-1).tolist()
        assert other.maps.shape == (16, 2, MAP, MAP)
        assert other.maps.dtype == torch.float32


def test_a_map_beside_is_flipped_and_blurred_as_its_pictures_own() -> None:
    """In variance, what is added to both is one number, the same everywhere."""
    pool, others, flipped, blurred = photographs(), beside(), 0, 0
    batches = RecordBatches(pool, size=16, seed=0, beside=others)
    for step in range(4):
        batch = batches.part(step)
        for position, index in enumerate(batches.indices(step)):
            own, other = batch.maps[position, 0].numpy(), batch.maps[position, 1].numpy()
            before = pool.maps[index].astype(np.float32), others[index].astype(np.float32)
            added = [own**2 - side**2 for side in (before[0], before[0][:, ::-1])]
            is_flipped = int(np.ptp(added[1]) < np.ptp(added[0]))
            wanted = before[1][:, ::-1] if is_flipped else before[1]
            amount = float(added[is_flipped].mean())
            assert np.ptp(added[is_flipped]) < 1e-5
            assert np.allclose(other**2 - wanted**2, amount, atol=1e-4)
            flipped += is_flipped
            blurred += amount > 0.05
    assert 16 < flipped < 48
    assert 4 < blurred < 24


def test_a_map_beside_that_is_the_pictures_own_stays_the_same() -> None:
    pool = photographs()
    batch = RecordBatches(pool, size=16, seed=2, beside=pool.maps).part(1)
    assert torch.equal(batch.maps[:, 1], batch.maps[:, 0])


@pytest.mark.parametrize("ranks", [2, 4])
def test_processes_share_the_maps_beside(ranks: int) -> None:
    batches = RecordBatches(photographs(), size=8, seed=0, beside=beside())
    whole = batches.part(3).maps
    parts = [batches.part(3, rank, ranks).maps for rank in range(ranks)]
    assert torch.equal(torch.cat(parts), whole)
    assert len({record.numpy().tobytes() for record in whole}) > 4
