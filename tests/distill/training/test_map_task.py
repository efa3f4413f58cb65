import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from edgedf.distill.datasets.dataset import Sample
from edgedf.distill.optics.maps import defocus_map
from edgedf.distill.records.batches import RecordBatches
from edgedf.distill.records.making import at_stride
from edgedf.distill.records.plan import Job
from edgedf.distill.records.targets import Records
from edgedf.distill.training import map_task
from edgedf.distill.training.losses import map_loss
from edgedf.distill.training.map_task import Judged, MapTask, maps_of, physical_maps
from edgedf.errors import OutputError
from edgedf.progress import silent
from tests.distill.pictures import SIDE, crop

MIXED = ("whole", "rendered", "crop", "self_blend", "rendered", "portrait")
MAP = SIDE // 4


def records(kinds: tuple[str, ...] = MIXED, seed: int = 0) -> Records:
    """Photographs with random maps."""
    rng = np.random.default_rng(seed)
    jobs = tuple(
        Job(Sample(Path(f"{n}.png"), "a", "real", f"{n}", "train", "skimage"), kind)  # type: ignore[arg-type]
        for n, kind in enumerate(kinds)
    )
    images = np.stack([crop(rng) for _ in jobs])
    maps = rng.uniform(0, 5, (len(jobs), MAP, MAP)).astype(np.float16)
    return Records(jobs, images, maps, np.array([job.label for job in jobs], np.float32))


def beside(count: int, seed: int = 9) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 5, (count, MAP, MAP)).astype(np.float16)


class Net(nn.Module):
    """Says a number everywhere, or adds it to the map beside; its features move by that too."""

    def __init__(self, level: float = 1.0) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor(level))

    def forward(self, image: Tensor, beside: Tensor | None = None) -> tuple[Tensor, Tensor]:
        size = (len(image), 1, image.shape[2] // 4, image.shape[3] // 4)
        seen = torch.zeros(size) if beside is None else beside
        return seen + self.level, self.level.square()


def nothing(path: Path, averaged: nn.Module, step: int) -> None:
    """Saves nothing."""


def task(training: Judged, validation: Judged, features: float = 0.5) -> MapTask:
    return MapTask(training, validation, size=6, seed=3, features=features, save=nothing)


# Maps of many


@pytest.mark.parametrize("with_map", [False, True])
def test_maps_batch_by_batch_are_those_of_all_at_once(with_map: bool) -> None:
    torch.manual_seed(0)
    net = nn.Conv2d(3, 1, 4, stride=4)
    pool, told = records(MIXED * 6), []
    others = beside(36) if with_map else None

    def predict(image: Tensor, seen: Tensor | None = None) -> Tensor:
        assert (seen is not None) == with_map
        found: Tensor = net(image)
        return found if seen is None else found + seen

    found = maps_of(predict, Judged(pool, others), progress=lambda *step: told.append(step))
    assert found.dtype == np.float32
    pixels = torch.from_numpy(pool.images.astype(np.float32)).permute(0, 3, 1, 2)
    with torch.no_grad():
        wanted = net(pixels)[:, 0].numpy()
    if others is not None:
        wanted = wanted + others.astype(np.float32)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-3)
    assert np.std(wanted) > 1
    assert told == [("maps", 32, 36), ("maps", 36, 36)]


def test_maps_ask_for_no_gradients() -> None:
    seen: list[bool] = []

    def predict(image: Tensor) -> Tensor:
        seen.append(torch.is_grad_enabled())
        return image[:, :1, ::4, ::4]

    assert maps_of(predict, Judged(records())).shape == (6, MAP, MAP)
    assert seen == [False]


# Physical maps


@given(st.lists(st.sampled_from(["whole", "crop", "self_blend", "portrait", "rendered"])))
def test_what_is_rendered_is_found_by_its_kind(kinds: list[str]) -> None:
    sample = Sample(Path("a.png"), "a", "real", "g", "train", "s")
    jobs = tuple(Job(sample, kind) for kind in kinds)  # type: ignore[arg-type]
    none = np.zeros((len(jobs), 0))
    found = Records(jobs, none, none, none).rendered  # type: ignore[arg-type]
    assert found.tolist() == [n for n, kind in enumerate(kinds) if kind == "rendered"]
    assert found.dtype == np.intp


def test_physical_maps_of_renderings_are_computed_and_the_others_kept(tmp_path: Path) -> None:
    pool, told = records(), []
    before = pool.maps.copy()
    found = physical_maps(pool, tmp_path, progress=lambda *step: told.append(step))
    assert found.dtype == np.float16
    assert found.shape == before.shape
    for index, kind in enumerate(MIXED):
        wanted = before[index]
        if kind == "rendered":
            wanted = at_stride(defocus_map(pool.images[index], "physical"), 4)
            assert not np.array_equal(wanted, before[index])
        assert np.array_equal(found[index], wanted), index
    assert np.array_equal(pool.maps, before)
    assert told == [("physical maps of renderings", 2, 2)]


def test_physical_maps_are_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool, counted = records(), []

    def count(image: np.ndarray, profile: str) -> np.ndarray:
        counted.append(profile)
        return defocus_map(image, profile)  # type: ignore[arg-type]

    monkeypatch.setattr(map_task, "defocus_map", count)
    first = physical_maps(pool, tmp_path)
    assert counted == ["physical"] * 2
    assert np.array_equal(physical_maps(pool, tmp_path), first)
    # The other records may change as they like.
    others = pool.images.copy()
    others[0] = 0
    assert np.array_equal(physical_maps(dataclasses.replace(pool, images=others), tmp_path), first)
    assert counted == ["physical"] * 2
    changed = pool.images.copy()
    changed[1] = changed[1, :, ::-1]
    found = physical_maps(dataclasses.replace(pool, images=changed), tmp_path)
    assert counted == ["physical"] * 4
    assert not np.array_equal(found[1], first[1])
    assert np.array_equal(np.delete(found, 1, axis=0), np.delete(first, 1, axis=0))


def test_without_renderings_no_physical_map_is_computed(tmp_path: Path) -> None:
    pool = records(("whole", "portrait"))
    found = physical_maps(pool, tmp_path / "cache")
    assert np.array_equal(found, pool.maps)
    assert not np.shares_memory(found, pool.maps)
    assert not (tmp_path / "cache").exists()


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(OutputError, match="Cannot write"):
        physical_maps(records(), tmp_path / "file" / "cache")


# The task


@pytest.mark.parametrize("with_map", [False, True])
@pytest.mark.parametrize(
    ("kinds", "counted"),
    [(MIXED, [1, 4]), (("whole", "crop", "portrait"), [0, 1, 2]), (("rendered",) * 2, [0, 1])],
)
def test_the_score_is_taken_on_renderings_or_on_all_where_there_are_none(
    kinds: tuple[str, ...], counted: list[int], with_map: bool
) -> None:
    pool = records(kinds)
    others = beside(len(kinds)) if with_map else None
    seen = np.zeros(pool.maps.shape) if others is None else others.astype(np.float64)
    error = np.abs(seen + 0.75 - pool.maps)[counted].mean()
    judge = task(Judged(pool, others), Judged(pool, others))
    figures = judge.evaluate(Net(0.75), silent)
    assert set(figures) == {"map error on validation", "score"}
    assert figures["map error on validation"] == pytest.approx(error, rel=1e-4)
    assert figures["score"] == -figures["map error on validation"]
    # The nearer, the better.
    assert judge.evaluate(Net(40.0), silent)["score"] < figures["score"]


def test_a_network_that_has_diverged_has_no_score() -> None:
    """The loop takes it from there, and names step and pictures."""
    pool = records()
    figures = task(Judged(pool), Judged(pool)).evaluate(Net(float("nan")), silent)
    assert np.isnan(figures["score"])


def test_losses_are_the_error_of_the_maps_and_how_far_features_have_moved() -> None:
    pool, others = records(), beside(6)
    judge = task(Judged(pool, others), Judged(pool, others), features=0.25)
    assert judge.weights == {"map": 1.0, "features": 0.25}
    batch = judge.batches.part(2, 0, 1)
    wanted_maps, others_seen = batch.maps[:, :1], batch.maps[:, 1:]
    net = Net(0.5)
    losses = judge.losses(net, batch)
    assert losses.keys() == judge.weights.keys()
    wanted = map_loss(others_seen + 0.5, wanted_maps)
    torch.testing.assert_close(losses["map"], wanted)
    assert losses["features"].item() == 0.25
    (gradient,) = torch.autograd.grad(losses["map"], net.level)
    assert gradient.item() != 0
    # Without a map beside, the network is given none.
    alone = task(Judged(pool), Judged(pool))
    assert alone.batches.part(2, 0, 1).maps.shape[1] == 1
    torch.testing.assert_close(
        alone.losses(net, alone.batches.part(2, 0, 1))["map"],
        map_loss(torch.full_like(wanted_maps, 0.5), wanted_maps),
    )


def test_processes_lose_together_what_one_would_lose() -> None:
    judged = Judged(records(), beside(6))
    judge, net = task(judged, judged), Net(0.5)
    whole = judge.losses(net, judge.batches.part(1, 0, 1))["map"]
    parts = [judge.losses(net, judge.batches.part(1, rank, 3))["map"] for rank in range(3)]
    torch.testing.assert_close(torch.stack(parts).mean(), whole)
    assert len({part.item() for part in parts}) == 3


def test_batches_are_those_of_all_that_is_learned_from() -> None:
    pool, others = records(), beside(6)
    judge = task(Judged(pool, others), Judged(records(seed=1)))
    wanted = RecordBatches(pool, size=6, seed=3, beside=others)
    found = judge.batches.part(5, 1, 2)
    part = wanted.part(5, 1, 2)
    assert torch.equal(found.images, part.images)
    assert torch.equal(found.maps, part.maps)
    assert found.maps.shape[1] == 2
    assert list(judge.batches.files(5)) == list(wanted.files(5))
    kinds = {pool.jobs[index].kind for step in range(20) for index in wanted.indices(step)}
    assert kinds == set(MIXED)


def test_what_is_best_is_saved_by_whoever_asked(tmp_path: Path) -> None:
    saved: list[object] = []
    judged = Judged(records())
    judge = MapTask(
        judged,
        judged,
        size=2,
        seed=0,
        features=0.0,
        save=lambda *what: saved.extend(what),
    )
    net = Net()
    judge.save_best(tmp_path / "best", net, 7)
    assert saved == [tmp_path / "best", net, 7]
