from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgedf.distill.datasets.dataset import Sample
from edgedf.distill.records.plan import Job
from edgedf.distill.records.targets import Records
from edgedf.errors import DataError
from edgedf.metrics import auc_with_interval
from experiments.leave_out import Fold, every_record, in_domain, left_out, units
from tests.distill.pictures import write_dataset


def sample(set_: str, label: str, source: str, split: str = "train", group: str = "") -> Sample:
    return Sample(Path("x.png"), set_, label, group or source, split, source)  # type: ignore[arg-type]


def records(jobs: Sequence[Job]) -> Records:
    """Blank pictures: folds follow from jobs and labels alone."""
    labels = np.array([job.label for job in jobs], np.float32)
    blank = np.zeros((len(jobs), 4, 4, 3), np.uint8)
    return Records(tuple(jobs), blank, blank[..., 0].astype(np.float16), labels)


def whole(set_: str, label: str, source: str, split: str = "train", group: str = "") -> Job:
    return Job(sample(set_, label, source, split, group), "whole")


@pytest.fixture
def mixed() -> Records:
    """Two sources with both classes (one of them in two sets), a pair, and a gallery of fakes."""
    jobs = []
    for split in ("train", "val", "test"):
        for label in ("real", "fake"):
            jobs += [
                whole("scenes", label, "quiz", split),
                whole("faces256", label, "quiz", split),
                whole("scenes", label, "forum", split),
            ]
        jobs += [whole("pairs", "real", "camera", split), whole("pairs", "fake", "gan", split)]
        jobs += [whole("scenes", "fake", "gallery", split)]
        jobs += [Job(sample("faces256", "real", "quiz", split), "self_blend")]
        jobs += [whole("holiday", "real", "phone", split)]
        jobs += [Job(sample("holiday", "real", "phone", split), "portrait")]
    return records(jobs)


def test_a_source_with_both_classes_is_left_out_by_itself() -> None:
    found = units([sample("a", "real", "quiz"), sample("a", "fake", "quiz")])
    assert [(unit.name, unit.sources) for unit in found] == [("quiz", {"quiz"})]


def test_a_camera_and_a_generator_of_one_set_are_left_out_together() -> None:
    found = units([sample("faces", "real", "ffhq"), sample("faces", "fake", "stylegan")])
    assert [(unit.name, unit.sources) for unit in found] == [("faces", {"ffhq", "stylegan"})]


def test_sources_without_a_counterpart_stay_in() -> None:
    assert not units([sample("a", "fake", "gallery"), sample("b", "real", "camera")])
    with_quiz = [sample("a", "real", "quiz"), sample("a", "fake", "quiz")]
    found = units([*with_quiz, sample("a", "fake", "gallery")])
    assert [unit.name for unit in found] == ["quiz"]


def test_a_fold_is_never_fitted_to_the_unit_that_it_judges(mixed: Records) -> None:
    folds = {fold.name: fold for fold in left_out(mixed)}
    assert list(folds) == ["without forum", "without pairs", "without quiz"]
    unit = {
        "without forum": {"forum"},
        "without pairs": {"camera", "gan"},
        "without quiz": {"quiz"},
    }
    for name, fold in folds.items():
        fitted = {mixed.jobs[index].sample.source for index in fold.fitted}
        assert fitted == {"quiz", "forum", "camera", "gan", "gallery", "phone"} - unit[name]
        for part in fold.judged.values():
            assert {mixed.jobs[index].sample.source for index in part} == unit[name]
            assert {mixed.jobs[index].kind for index in part} == {"whole"}
        # Nothing of the unit is fitted to (its self-blends included), and all else is.
        out = [i for i, job in enumerate(mixed.jobs) if job.sample.source in unit[name]]
        assert sorted([*fold.fitted, *out]) == list(range(len(mixed)))


def test_a_unit_is_judged_by_set_over_all_splits(mixed: Records) -> None:
    judged = {title: part for fold in left_out(mixed) for title, part in fold.judged.items()}
    assert {title: len(part) for title, part in judged.items()} == {
        "scenes without forum": 6,
        "pairs without pairs": 6,
        "faces256 without quiz": 6,
        "scenes without quiz": 6,
    }
    for part in judged.values():
        assert {mixed.jobs[index].sample.split for index in part} == {"train", "val", "test"}
        assert set(mixed.labels[part].tolist()) == {0.0, 1.0}


def test_a_set_of_one_class_is_left_out_but_not_judged() -> None:
    both = [whole("a", label, source) for source in ("quiz", "forum") for label in ("real", "fake")]
    found = left_out(records([*both, whole("b", "fake", "quiz")]))
    assert [list(fold.judged) for fold in found] == [["a without forum"], ["a without quiz"]]
    assert [fold.fitted.tolist() for fold in found] == [[0, 1, 4], [2, 3]]


@pytest.mark.parametrize(
    "jobs",
    [
        [whole("a", "real", "quiz"), whole("a", "fake", "quiz")],
        [whole("a", "real", "camera"), whole("b", "fake", "gan")],
        [*(whole("a", label, "quiz") for label in ("real", "fake")), whole("b", "real", "x")],
    ],
)
def test_one_unit_alone_cannot_be_left_out(jobs: list[Job]) -> None:
    with pytest.raises(DataError, match="Nothing can be left out") as caught:
        left_out(records(jobs))
    assert "another source" in caught.value.next_step


def test_in_domain_fits_the_training_split_and_judges_the_test_split(mixed: Records) -> None:
    fold = in_domain(mixed)
    splits = np.array([job.sample.split for job in mixed.jobs])
    assert fold.name == "test"
    assert np.array_equal(fold.fitted, np.flatnonzero(splits == "train"))
    for part in fold.judged.values():
        assert set(splits[part]) == {"test"}
    assert {title: len(part) for title, part in fold.judged.items()} == {
        "faces256 test": 2,
        "faces256 self-blended test": 2,
        "pairs test": 2,
        "scenes test": 5,
    }
    swapped = fold.judged["faces256 self-blended test"]
    kinds = [(mixed.jobs[index].kind, mixed.labels[index]) for index in swapped]
    assert kinds == [("whole", 0.0), ("self_blend", 1.0)]


def test_without_a_training_split_of_both_classes_there_is_nothing_to_fit_to() -> None:
    jobs = [whole("a", label, "quiz", "test") for label in ("real", "fake")]
    for more in ([], [whole("a", "real", "quiz", "train")]):
        with pytest.raises(DataError):
            in_domain(records([*jobs, *more]))


def test_figures_are_those_of_the_judged_records() -> None:
    """Groups of two pictures, so that the interval depends on them."""
    jobs = [
        whole("a", label, "quiz", group=f"g{number // 2}")
        for number in range(8)
        for label in ("real", "fake")
    ]
    found = records(jobs)
    rng = np.random.default_rng(0)
    logits = rng.normal(size=len(jobs)) + 1.5 * found.labels
    first, second = np.arange(10), np.array([15, 2, 8, 11])
    asked: list[list[int]] = []

    def judge(part: NDArray[np.intp]) -> NDArray[np.float64]:
        asked.append(part.tolist())
        return np.asarray(logits[part])

    fold = Fold("test", np.arange(3), {"first": first, "second": second})
    figures = fold.figures(found, judge)
    assert asked == [first.tolist(), second.tolist()]
    assert [(figure.dataset, figure.metric, figure.n) for figure in figures] == [
        ("first", "AUC", 10),
        ("second", "AUC", 4),
    ]
    for figure, part in zip(figures, (first, second), strict=True):
        groups = [jobs[index].sample.group for index in part]
        expected = auc_with_interval(found.labels[part], logits[part], groups)
        assert (figure.value, figure.low, figure.high) == pytest.approx(
            (expected.value, expected.low, expected.high), abs=1e-4
        )


def test_records_are_of_all_splits_with_what_is_made_of_them(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", groups=1)
    found = every_record(data, tmp_path / "cache", size=32, workers=1)
    assert found.images.shape == (15, 32, 32, 3)
    kinds = [(job.sample.set, job.sample.split, job.kind, job.label) for job in found.jobs]
    for split in ("train", "val", "test"):
        assert [kind for kind in kinds if kind[1] == split] == [
            ("faces256", split, "whole", 0.0),
            ("faces256", split, "self_blend", 1.0),
            ("faces256", split, "whole", 1.0),
            ("scenes", split, "whole", 0.0),
            ("scenes", split, "whole", 1.0),
        ]
    # All are of one source.
    with pytest.raises(DataError, match="Nothing can be left out"):
        left_out(found)
    manifest = data / "manifest.csv"
    lines = manifest.read_text("utf-8").splitlines()
    kept = [line for line in lines if not line.startswith("scenes") or "fake" not in line]
    manifest.write_text("\n".join(kept) + "\n", "utf-8")
    fewer = every_record(data, tmp_path / "cache", size=32, workers=1)
    made = [job for job in fewer.jobs if job.kind == "portrait"]
    assert {(job.sample.set, job.label) for job in made} == {("scenes", 0.0)}
    assert len(made) == 3
