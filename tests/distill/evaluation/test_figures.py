import numpy as np
import pytest

from edgedf.distill.datasets.dataset import read_manifest
from edgedf.distill.evaluation.figures import as_accuracy, measure, physical_map_error
from edgedf.distill.optics.maps import defocus_map
from edgedf.distill.records.making import TargetSettings, at_stride
from edgedf.distill.records.plan import plan
from edgedf.distill.records.targets import Records, compute
from edgedf.distill.settings import PictureSettings
from edgedf.figures import Figure
from edgedf.result import Threshold
from edgedf.spec import Accuracy
from tests.distill.pictures import write_dataset


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """Whole pictures of a test split, a self-blend, and three renderings of a sharp picture."""
    folder = tmp_path_factory.mktemp("made")
    samples = read_manifest(write_dataset(folder / "data", groups=1)).select(split="test")
    jobs = plan(samples, PictureSettings(crops=0, renderings=3, portraits=0))
    return compute(jobs, folder / "cache", TargetSettings(size=32))


def test_the_physical_maps_error_is_that_on_renderings(made: Records) -> None:
    rendered = np.flatnonzero([job.kind == "rendered" for job in made.jobs])
    assert len(rendered) == 3
    errors = [
        np.abs(
            defocus_map(made.images[i]).reshape(8, 4, 8, 4).mean(axis=(1, 3))
            - made.maps[i].astype(np.float64)
        ).mean()
        for i in rendered
    ]
    (figure,) = physical_map_error(made, "dev")
    assert figure.dataset == "rendered depth of field dev"
    assert figure.metric == "physical map's error against the exact map (px)"
    assert figure.value == pytest.approx(np.mean(errors), abs=1e-3)
    assert figure.value > 0.01
    assert figure.low <= figure.value <= figure.high
    assert figure.n == 3


def test_the_physical_map_misses_nothing_of_itself_and_other_records_do_not_count(
    made: Records,
) -> None:
    rendered = np.array([job.kind == "rendered" for job in made.jobs])
    maps = np.full_like(made.maps, 100)
    for index in np.flatnonzero(rendered):
        maps[index] = at_stride(defocus_map(made.images[index], "physical"), 4)
    (figure,) = physical_map_error(Records(made.jobs, made.images, maps, made.labels), "dev")
    assert (figure.value, figure.n) == (0.0, 3)


def test_without_renderings_there_is_no_error_of_the_physical_map(made: Records) -> None:
    rest = made.subset(np.flatnonzero([job.kind != "rendered" for job in made.jobs]))
    assert len(rest) == 5
    assert physical_map_error(rest, "dev") == ()


def test_without_maps_the_figures_of_scores_are_the_same_and_no_others_there(
    made: Records,
) -> None:
    """A teacher's verdicts come without maps."""
    logits = np.random.default_rng(0).normal(size=len(made))
    maps = made.maps.astype(np.float32)
    threshold = Threshold(0.6, 0.4, "by hand")
    without, complete = (measure(made, logits, m, "dev", threshold) for m in (None, maps))
    assert without == tuple(f for f in complete if not f.metric.startswith("map error"))
    assert len(complete) == len(without) + 3
    assert {figure.metric for figure in without} == {
        "AUC",
        "real pictures called fake",
        "fakes called fake",
    }


def test_figures_are_written_with_four_digits() -> None:
    figure = Figure(0.123449, 0.10005001, 2 / 3, 7)
    assert as_accuracy("scenes dev", "AUC", figure) == Accuracy(
        "scenes dev", "AUC", 0.1234, 0.1001, 0.6667, 7, "fp32"
    )
