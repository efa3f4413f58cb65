import json
from pathlib import Path

import numpy as np
import pytest
import torch

from edgedf import typed_json
from edgedf.distill.datasets.dataset import read_manifest
from edgedf.distill.evaluation import evaluate
from edgedf.distill.evaluation.evaluate import Evaluation, evaluate_checkpoint, measure_all
from edgedf.distill.evaluation.predictions import Predictions, predict
from edgedf.distill.networks.checkpoints import save_checkpoint
from edgedf.distill.networks.student import Student
from edgedf.distill.records.making import TargetSettings
from edgedf.distill.records.plan import Job, evaluation_plan
from edgedf.distill.records.targets import compute
from edgedf.distill.settings import EvaluationSettings, StudentConfig
from edgedf.errors import CheckpointError, ConfigError, DataError
from edgedf.evaluation import Report
from edgedf.imaging import load_image, prepare
from edgedf.map_metrics import map_error_with_interval
from edgedf.metrics import auc_with_interval
from edgedf.spec import Accuracy
from tests.distill.pictures import crop, write, write_dataset, write_manifest

SMALL = StudentConfig(input_size=32)
EVERYTHING_IS_FAKE = {"fake_at": 0.0, "real_at": 0.0, "how": "everything is fake"}


def saved(folder: Path, **metadata: object) -> Path:
    """An untrained student, the same each time."""
    torch.manual_seed(0)
    path = folder / "student.safetensors"
    save_checkpoint(path, Student(SMALL), metadata)
    return path


def test_map_error_is_the_mean_over_pictures() -> None:
    wanted = np.zeros((3, 2, 2))
    found = wanted + np.array([1.0, 2.0, 6.0])[:, None, None]
    figure = map_error_with_interval(found, wanted, ["a", "b", "c"])
    assert figure.value == 3.0
    assert (figure.low, figure.high) == (1.0, 6.0)


def test_a_checkpoint_is_measured_by_set_and_a_wrong_split_is_named(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", groups=3)
    checkpoint = saved(tmp_path, threshold=EVERYTHING_IS_FAKE)
    cache = tmp_path / "cache"
    found = evaluate_checkpoint(checkpoint, data, "val", metrics="auc", cache=cache)
    assert (found.report, found.skipped) == (None, ())
    shares = [figure for figure in found.figures if "called fake" in figure.metric]
    assert [figure.value for figure in shares] == [1.0] * 4
    rest = [figure for figure in found.figures if figure not in shares]
    assert {(figure.dataset, figure.metric.split()[0]): figure.n for figure in rest} == {
        ("faces256 val", "AUC"): 6,
        ("faces256 self-blended val", "AUC"): 6,
        ("scenes val", "AUC"): 6,
        ("faces256 val", "map"): 6,
        ("scenes val", "map"): 6,
        ("rendered depth of field val", "map"): 1,
    }
    assert all(figure.low <= figure.value <= figure.high for figure in found.figures)
    with pytest.raises(ConfigError, match="no split 'dev'"):
        evaluate_checkpoint(checkpoint, data, "dev")
    with pytest.raises(ConfigError, match="no set of metrics 'some'"):
        evaluate_checkpoint(checkpoint, data, metrics="some")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="robustness table is part of the report"):
        evaluate_checkpoint(checkpoint, data, metrics="auc", robustness=True)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Evaluation]:
    """A folder with ``data`` and ``cache``, and everything about its test split."""
    folder = tmp_path_factory.mktemp("measured")
    data = write_dataset(folder / "data", groups=3)
    checkpoint = saved(folder, threshold=EVERYTHING_IS_FAKE)
    found = evaluate_checkpoint(checkpoint, data, robustness=True, cache=folder / "cache")
    return folder, found


def test_the_report_says_what_the_figures_say(measured: tuple[Path, Evaluation]) -> None:
    _, found = measured
    report = found.report
    assert report is not None
    frames = {(row.by, row.name): row.metrics for row in report.rows}
    maps = {(row.name, row.against): row.metrics.error for row in report.maps}
    pairs = {
        ("faces256 test", "AUC"): frames["set", "faces256"].auc,
        ("scenes test", "AUC"): frames["set", "scenes"].auc,
        ("faces256 self-blended test", "AUC"): frames["fakes", "faces256 / self-blend"].auc,
        ("scenes test", "fakes called fake"): frames["set", "scenes"].detections,
        ("scenes test", "map"): maps["scenes", "physical"],
        ("faces256 test", "map"): maps["faces256", "physical"],
        ("rendered depth of field test", "map"): maps["rendered depth of field", "exact"],
    }
    figures = {
        (f.dataset, "map" if f.metric.startswith("map") else f.metric): f for f in found.figures
    }
    for key, figure in pairs.items():
        assert figure is not None
        expected = figures[key]
        wanted = (expected.value, expected.low, expected.high)
        assert (figure.value, figure.low, figure.high) == pytest.approx(wanted, abs=1e-4)
        assert figure.n == expected.n
    assert (report.pictures, report.split) == (12, "test")
    assert ("set", "sharp") not in frames  # renderings have no label
    assert isinstance(found.figures[0], Accuracy)
    text = json.dumps(typed_json.encode(found), allow_nan=False)
    assert typed_json.decode(Report, json.loads(text)["report"]) == report


def test_every_change_has_an_auc_and_no_change_has_that_of_the_report(
    measured: tuple[Path, Evaluation],
) -> None:
    folder, found = measured
    assert found.report is not None
    table = {(row.change, row.name): row.auc for row in found.report.robustness}
    assert len(table) == 11 * 4
    names = {row.name: row.metrics.auc for row in found.report.rows if row.by in ("all", "set")}
    for name in ("all", "faces256", "scenes"):
        assert table["unchanged", name] == names[name]
    # One of them worked out by hand: changed first, prepared afterwards.
    samples = read_manifest(folder / "data").select(split="test", sets=["scenes"])
    half = next(c.change for c in evaluate.perturbations() if c.name == "half size")
    inputs = np.stack([prepare(half(load_image(s.path)), 32) for s in samples])
    torch.manual_seed(0)
    logits = predict(Student(SMALL), inputs).logits
    labels = np.array([float(s.label == "fake") for s in samples])
    expected = auc_with_interval(labels, logits, [s.group for s in samples])
    assert table["half size", "scenes"] == expected


def test_a_checkpoint_brings_the_settings_of_its_training(
    measured: tuple[Path, Evaluation], tmp_path: Path
) -> None:
    folder, default = measured
    settings = EvaluationSettings(face_sets=("scenes",), sharp_sets=("sharp", "none"), seed=5)
    data, cache = folder / "data", folder / "cache"
    checkpoint = saved(tmp_path, evaluation=typed_json.encode(settings))
    found = evaluate_checkpoint(checkpoint, data, cache=cache)
    names = {figure.dataset for figure in found.figures}
    assert "scenes self-blended test" in names
    assert "faces256 self-blended test" not in names
    by_default = saved(tmp_path, evaluation=typed_json.encode(EvaluationSettings()))
    same = evaluate_checkpoint(by_default, data, metrics="auc", cache=cache).figures
    assert same == tuple(f for f in default.figures if "called fake" not in f.metric)
    # Another seed blends and renders otherwise, and leaves the pictures themselves alone.
    seeded = saved(tmp_path, evaluation={"seed": 5})
    other = evaluate_checkpoint(seeded, data, metrics="auc", cache=cache).figures
    values = {figure.dataset + figure.metric: figure.value for figure in other}
    differ = {f.dataset for f in same if values[f.dataset + f.metric] != f.value}
    assert "rendered depth of field test" in differ
    assert differ <= {"rendered depth of field test", "faces256 self-blended test"}


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"evaluation": {"seed": "five"}}, "The evaluation in .* seed is str, not integer"),
        ({"evaluation": []}, "The evaluation in .* is list, not an object"),
        ({"threshold": {"fake_at": 2.0, "real_at": 0.0}}, "The thresholds in"),
    ],
)
def test_settings_that_cannot_be_used_are_named(
    metadata: dict[str, object], said: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=said):
        evaluate_checkpoint(saved(tmp_path, **metadata), tmp_path)


def test_pictures_that_cannot_be_read_are_left_out_and_listed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for index in range(21):
        label = ("real", "fake")[index % 2]
        rows.append((f"{index}.png", "scenes", label, str(index), "test", "skimage"))
        write(tmp_path / "data" / f"{index}.png", crop(rng)[:40, :40])
    write_manifest(tmp_path / "data", rows)
    (tmp_path / "data" / "4.png").write_bytes(b"no picture")
    checkpoint = saved(tmp_path)
    found = evaluate_checkpoint(checkpoint, tmp_path / "data")
    assert [(Path(s.file).name, "not an image" in s.reason) for s in found.skipped] == [
        ("4.png", True)
    ]
    assert found.report is not None
    assert (found.report.skipped, found.report.pictures) == (found.skipped, 20)
    (tmp_path / "data" / "7.png").write_bytes(b"")
    with pytest.raises(DataError, match="2 of 21 pictures cannot be read"):
        evaluate_checkpoint(checkpoint, tmp_path / "data")


def test_maps_are_compared_within_each_picture(tmp_path: Path) -> None:
    samples = read_manifest(write_dataset(tmp_path / "data", groups=1)).select(split="test")
    records = compute(evaluation_plan(samples), tmp_path / "cache", TargetSettings(size=32))
    maps = records.maps.astype(np.float32)
    rendered = np.array([job.kind == "rendered" for job in records.jobs])
    maps[~rendered] = 2 * maps[~rendered] + 1
    answer = Predictions(np.arange(len(maps), dtype=float), maps)
    report = measure_all(records, answer, model="m", data="d", split="test")
    for row in report.maps:
        exact = row.name == "rendered depth of field"
        assert row.against == ("exact" if exact else "physical")
        assert row.metrics.correlation is not None
        assert row.metrics.correlation.value == pytest.approx(1, abs=1e-3)
        assert (row.metrics.error.value == 0) == exact
    assert len(report.maps) == 3
    assert isinstance(records.jobs[0], Job)
