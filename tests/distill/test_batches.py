from collections import Counter
from pathlib import Path

import numpy as np
import torch

from edgedf.distill.batches import Batches
from edgedf.distill.data import Sample
from edgedf.distill.targets import Job, Records

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
    batches = Batches(records(POOLS), size=512, seed=0)
    labels = torch.cat([batches[step].labels for step in range(6)])
    maps = torch.cat([batches[step].maps for step in range(6)])
    # Blur may have been added to the map, never taken away, and at most 1.3 px.
    rendered = torch.isnan(labels).float().mean()
    assert 0.08 < rendered < 0.16
    fake, real = (labels == 1).sum(), (labels == 0).sum()
    assert 0.8 < fake / real < 1.25
    first = (maps.amin(dim=(1, 2, 3)) == 0).sum()  # real scenes, where nothing was added
    share = first / (len(labels) * 0.8)
    assert 0.12 < share < 0.3


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    pools = records(POOLS)
    one, same, other = (Batches(pools, size=8, seed=seed) for seed in (3, 3, 4))
    one[0], one[1]
    assert torch.equal(one[7].images, same[7].images)
    assert torch.equal(one[7].maps, same[7].maps)
    assert not torch.equal(one[7].maps, one[8].maps)
    assert not torch.equal(one[7].maps, other[7].maps)


def test_shapes_and_ranges() -> None:
    batch = Batches(records(POOLS), size=5, seed=0)[0]
    assert batch.images.shape == (5, 3, SIZE, SIZE)
    assert batch.images.dtype == torch.float32
    assert batch.maps.shape == (5, 1, MAP, MAP)
    assert batch.labels.shape == (5,)


def test_records_of_one_kind_are_enough() -> None:
    batches = Batches(records({("sharp", "real", "rendered"): 3}), size=4, seed=0)
    assert torch.isnan(batches[0].labels).all()
    assert Counter(batches[0].labels.isnan().tolist()) == {True: 4}
