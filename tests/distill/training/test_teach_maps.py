import csv
import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgedf.distill.datasets.dataset import Sample
from edgedf.distill.distributed import World
from edgedf.distill.networks.decoder import MapHead
from edgedf.distill.networks.teacher import Teacher
from edgedf.distill.records.plan import Job
from edgedf.distill.records.preparation import Splits
from edgedf.distill.records.targets import Records
from edgedf.distill.settings import LoopSettings, TeacherConfig
from edgedf.distill.training.logbook import METRICS
from edgedf.distill.training.loop import BEST, STATE
from edgedf.distill.training.map_task import Judged, maps_of, physical_maps
from edgedf.distill.training.taught import with_taught_maps
from edgedf.distill.training.teach_maps import learn_head, take_head
from edgedf.errors import CheckpointError
from edgedf.progress import Progress, silent
from tests.distill.pictures import crop

SIDE = 32
CONFIG = TeacherConfig(
    modalities=("rgb", "defocus"), first_block=8, last_block=8, map_channels=8, map_blocks=1
)
QUICK = LoopSettings(
    steps=6, batch=4, warmup=1, evaluate_every=2, save_every=0.0, device="cpu", average=0.5
)


class Killed(Exception):
    """Stands for a power cut."""


def records(kinds: tuple[str, ...], seed: int = 0, side: int = SIDE) -> Records:
    """Photographs; each is blurred, sharp ones a little and others much, and has that for a map."""
    rng = np.random.default_rng(seed)
    images, maps, jobs = [], [], []
    for number, kind in enumerate(kinds):
        sample = Sample(Path(f"{number}.png"), "a", "real", f"{number}", "train", "skimage")
        jobs.append(Job(sample, kind))  # type: ignore[arg-type]
        blur = 0.5 + 3.5 * (number % 2)
        picture = cv2.GaussianBlur(crop(rng), (0, 0), blur)
        images.append(picture[:side, :side])
        maps.append(np.full((side // 4, side // 4), blur, np.float16))
    labels = np.array([job.label for job in jobs], np.float32)
    return Records(tuple(jobs), np.stack(images), np.stack(maps), labels)


RENDERED = ("rendered",) * 8


def splits(training: Records, validation: Records) -> Splits:
    return Splits(training, validation, validation)


def make_teacher(config: TeacherConfig = CONFIG) -> Teacher:
    torch.manual_seed(0)
    teacher = Teacher(config).eval()
    teacher.load_imagenet()
    return teacher


def with_opinions(seed: int = 0) -> Teacher:
    """A teacher whose maps are random; a new head says nearly the same everywhere."""
    teacher = make_teacher()
    torch.manual_seed(seed)
    torch.nn.init.normal_(head_of(teacher).blur.weight, std=0.2)
    return teacher


def head_of(teacher: Teacher) -> MapHead:
    assert teacher.map_head is not None
    return teacher.map_head


def learn(
    folder: Path,
    pool: Splits,
    loop: LoopSettings = QUICK,
    *,
    rate: float = 1e-2,
    progress: Progress = silent,
) -> Teacher:
    """A teacher that has learned in a folder, the best head taken."""
    teacher = make_teacher()
    learn_head(
        teacher,
        head_of(teacher),
        pool,
        folder / "run",
        folder / "cache",
        loop,
        rate=rate,
        world=World(),
        progress=progress,
    )
    take_head(head_of(teacher), folder / "run")
    return teacher


def error(teacher: Teacher, pool: Records, cache: Path) -> float:
    """Of a teacher's maps, in pixels, with the physical map beside the picture."""
    judged = Judged(pool, physical_maps(pool, cache))
    found = maps_of(lambda x, y: teacher.defocus_map(x, y), judged)  # type: ignore[arg-type]
    return float(np.abs(found - pool.maps).mean())


def rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "run" / METRICS).read_text("utf-8").splitlines()))


# Learning


def test_a_head_learns_what_the_pictures_tell_and_the_encoders_stay(tmp_path: Path) -> None:
    """To tell sharp pictures from blurred ones, among others than it has seen."""
    pool = splits(records(RENDERED * 3, side=64), records(RENDERED, seed=1, side=64))
    before = make_teacher()
    loop = dataclasses.replace(QUICK, steps=120, batch=8, evaluate_every=40, average=0.9)
    told: list[str] = []
    teacher = learn(tmp_path, pool, loop, progress=lambda step, *_: told.append(step))
    first, last = (error(x, pool.validation, tmp_path / "cache") for x in (before, teacher))
    wanted = pool.validation.maps
    one_number = float(np.abs(wanted - np.median(wanted)).mean())
    assert last < 0.6 * min(first, one_number)
    figures = [float(row["map error on validation"]) for row in rows(tmp_path)[39::40]]
    assert len(figures) == 3
    assert min(figures) == pytest.approx(last, rel=1e-3)
    assert {"physical maps of renderings", "training steps", "maps"} <= set(told)
    kept, now = before.state_dict(), teacher.state_dict()
    for name, value in kept.items():
        if not name.startswith("map_head."):
            assert torch.equal(value, now[name]), name
    assert not torch.equal(kept["map_head.blur.weight"], now["map_head.blur.weight"])


def test_a_head_learns_from_renderings_alone(tmp_path: Path) -> None:
    """Other records have maps that would pull it elsewhere, if it saw them."""
    pool = splits(records(RENDERED), records(("rendered",) * 4, seed=1))
    learn(tmp_path / "pure", pool)
    mixed = []
    for part in (pool.training, pool.validation):
        others = records(("whole", "crop", "portrait"), seed=2)
        mixed.append(
            Records(
                (*others.jobs, *part.jobs),
                np.concatenate([others.images, part.images]),
                np.concatenate([others.maps * 0 + np.float16(6), part.maps]),
                np.concatenate([others.labels, part.labels]),
            )
        )
    learn(tmp_path / "mixed", splits(*mixed))
    pure, found = ((tmp_path / name / "run" / BEST).read_bytes() for name in ("pure", "mixed"))
    assert found == pure
    losses = [[row["map"] for row in rows(tmp_path / name)] for name in ("pure", "mixed")]
    assert losses[0] == losses[1]


def test_without_renderings_to_look_at_it_is_judged_on_those_it_learns_from(
    tmp_path: Path,
) -> None:
    training = records((*RENDERED, "whole"))
    teacher = learn(tmp_path, splits(training, records(("whole", "crop"), seed=1)))
    noted = [float(row["map error on validation"] or "inf") for row in rows(tmp_path)]
    found = error(teacher, training.subset(np.arange(8)), tmp_path / "cache")
    assert min(noted) == pytest.approx(found, rel=1e-3)


def test_a_run_that_was_killed_ends_with_the_same_head(tmp_path: Path) -> None:
    pool = splits(records(RENDERED), records(("rendered",) * 4, seed=1))
    whole = learn(tmp_path / "whole", pool)

    def kill(step: str, done: int, total: int) -> None:
        if (step, done) == ("training steps", 3):
            raise Killed

    with pytest.raises(Killed):
        learn(tmp_path / "cut", pool, progress=kill)
    assert (tmp_path / "cut" / "run" / STATE).is_file()
    assert len(rows(tmp_path / "cut")) == 3
    steps: list[int] = []
    resumed = learn(
        tmp_path / "cut",
        pool,
        progress=lambda step, done, _: steps.append(done) if step == "training steps" else None,
    )
    assert steps == [4, 5, 6]
    one, other = ((tmp_path / name / "run" / BEST).read_bytes() for name in ("whole", "cut"))
    assert one == other
    state = whole.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in resumed.state_dict().items())
    # What has ended takes no further step and gives the same again.
    steps.clear()
    again = learn(tmp_path / "cut", pool, progress=lambda step, *_: steps.append(len(step)))
    assert (tmp_path / "cut" / "run" / BEST).read_bytes() == one
    assert len("training steps") not in steps
    assert all(torch.equal(value, state[name]) for name, value in again.state_dict().items())


def test_what_is_kept_is_the_best_and_not_the_last(tmp_path: Path) -> None:
    """A rate this high drives all maps to the largest blur."""
    pool = splits(records(RENDERED), records(("rendered",) * 4, seed=1))
    loop = dataclasses.replace(QUICK, steps=12, evaluate_every=1, average=0.0, clip=1e3)
    teacher = learn(tmp_path, pool, loop, rate=0.2)
    noted = [float(row["map error on validation"]) for row in rows(tmp_path)]
    assert min(noted) < noted[-1]
    found = error(teacher, pool.validation, tmp_path / "cache")
    assert found == pytest.approx(min(noted), rel=1e-3)


def test_a_loss_that_is_no_number_names_the_pictures(tmp_path: Path) -> None:
    pool = splits(records(RENDERED), records(("rendered",), seed=1))
    with pytest.raises(CheckpointError, match=r"diverged at step \d: .*\d\.png"):
        learn(tmp_path, pool, dataclasses.replace(QUICK, warmup=0), rate=1e30)


# Handing on


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from(["whole", "crop", "rendered", "portrait"]), min_size=1, max_size=6))
def test_exact_maps_stay_and_the_others_become_the_teachers(
    tmp_path_factory: pytest.TempPathFactory, kinds: list[str]
) -> None:
    teacher, pool = with_opinions(), records(tuple(kinds))
    before = pool.maps.copy()
    found = with_taught_maps(teacher, "a", pool, tmp_path_factory.mktemp("cache"))
    wanted = maps_of(lambda x, y: teacher.defocus_map(x, y), Judged(pool, pool.maps))  # type: ignore[arg-type]
    for index, kind in enumerate(kinds):
        if kind == "rendered":
            assert np.array_equal(found.maps[index], before[index])
        else:
            np.testing.assert_allclose(found.maps[index], wanted[index], rtol=2e-3, atol=2e-3)
            assert not np.allclose(found.maps[index], before[index], atol=0.01)
    assert found.maps.dtype == np.float16
    assert found.jobs == pool.jobs
    assert found.images is pool.images
    assert found.labels is pool.labels
    assert np.array_equal(pool.maps, before)


def test_another_teachers_maps_are_not_mistaken_for_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = records(("whole", "rendered", "crop", "whole"))
    one, other = with_opinions(), with_opinions(seed=1)
    first = with_taught_maps(one, "one", pool, tmp_path)
    second = with_taught_maps(other, "other", pool, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    photographs = [0, 2, 3]
    assert not np.allclose(first.maps[photographs], second.maps[photographs], atol=0.01)
    assert np.array_equal(first.maps[1], second.maps[1])

    def look(*_: object) -> None:
        raise AssertionError("a teacher looks again")

    monkeypatch.setattr(Teacher, "defocus_map", look)
    told: list[tuple[str, int, int]] = []
    for sha256, wanted in (("one", first), ("other", second)):
        # Whoever asks: what was said by the teacher of this hash is kept.
        found = with_taught_maps(
            one, sha256, pool, tmp_path, progress=lambda *step: told.append(step)
        )
        assert np.array_equal(found.maps, wanted.maps)
    assert told == [("the teacher's maps", 3, 3)] * 2
    with pytest.raises(AssertionError, match="looks again"):
        with_taught_maps(one, "third", pool, tmp_path)


def test_a_teacher_without_a_head_leaves_records_as_they_are(tmp_path: Path) -> None:
    pool = records(("whole", "rendered"))
    blind = make_teacher(dataclasses.replace(CONFIG, map_channels=0))
    assert with_taught_maps(blind, "a", pool, tmp_path / "cache") is pool
    # So does one where all maps are exact.
    exact = records(RENDERED)
    assert with_taught_maps(make_teacher(), "a", exact, tmp_path / "cache") is exact
    assert not (tmp_path / "cache").exists()
