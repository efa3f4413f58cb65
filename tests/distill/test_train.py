import csv
import dataclasses
import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

from edgedf.distill.student import StudentConfig, load_checkpoint
from edgedf.distill.train import BEST, CARD, FINAL, METRICS, STATE, TrainSettings, train
from edgedf.errors import CheckpointError, ConfigError, DataError
from edgedf.quantize.describe import describe_checkpoint
from tests.distill.pictures import write_dataset, write_manifest

QUICK = TrainSettings(
    steps=6,
    batch=6,
    warmup=2,
    crops=0,
    renderings=1,
    evaluate_every=3,
    save_every=0.0,
    student=StudentConfig(input_size=32, decoder_channels=8, texture_channels=8, hidden=8),
)


def read_rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text("utf-8").splitlines()))


class Killed(Exception):
    """Stands for a power cut."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data"), groups=3)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, data: Path, cache: Path) -> Path:
    out = tmp_path_factory.mktemp("run")
    train(data, out, QUICK, cache=cache, workers=1)
    return out


def test_a_run_leaves_a_student_that_says_what_it_is(run: Path) -> None:
    student, metadata = load_checkpoint(run / FINAL)
    spec = describe_checkpoint(metadata, "0" * 64)
    assert spec.input.height == 32
    assert {figure.dataset for figure in spec.accuracy} >= {
        "faces256 test",
        "faces256 self-blended test",
        "scenes test",
        "all sets pooled test",
    }
    assert spec.training.steps in (3, 6)
    assert "validation splits" in spec.threshold.how
    report = json.loads((run / "report.json").read_text("utf-8"))
    assert report["parameters"] == sum(weight.numel() for weight in student.parameters())
    card = (run / CARD).read_text("utf-8")
    for figure in spec.accuracy:
        assert f" {figure.value:.3f} | {figure.low:.3f} to {figure.high:.3f} | {figure.n} |" in card
    assert "research use only" in card
    assert "What it cannot do" in card
    rows = read_rows(run / METRICS)
    assert [row["step"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert all(float(row["fake"]) > 0 and float(row["map"]) > 0 for row in rows)
    assert [bool(row["mean AUC"]) for row in rows] == [False, False, True] * 2


def test_training_moves_the_heads_and_leaves_frozen_stages_alone(run: Path) -> None:
    state = safetensors.torch.load_file(run / STATE)
    moments = {name for name in state if name.startswith("optimiser.")}
    assert moments
    start = load_checkpoint(run / BEST)[0]
    torch.manual_seed(0)
    for name, value in start.state_dict().items():
        trained = state[f"student.{name}"]
        if name.startswith(("encoder.stem", "encoder.stages.0.", "encoder.stages.1.")):
            assert torch.equal(trained, value), name
    assert not torch.equal(state["student.fake.weight"], start.state_dict()["fake.weight"])


def test_a_killed_run_goes_on_with_the_same_next_step(
    run: Path, data: Path, cache: Path, tmp_path: Path
) -> None:
    def kill(step: str, done: int, total: int) -> None:
        if (step, done) == ("training steps", 4):
            raise Killed

    with pytest.raises(Killed):
        train(data, tmp_path, QUICK, cache=cache, workers=1, progress=kill)
    assert not (tmp_path / FINAL).exists()
    train(data, tmp_path, QUICK, cache=cache, workers=1)
    for name in (STATE, BEST, FINAL):
        one, other = (safetensors.torch.load_file(folder / name) for folder in (run, tmp_path))
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert torch.allclose(value, other[key], atol=1e-6), (name, key)
    assert (run / METRICS).read_text("utf-8").count("\n") == 7
    losses = [
        [float(row["fake"]) for row in read_rows(folder / METRICS)] for folder in (run, tmp_path)
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_another_run_in_the_same_folder_is_refused(run: Path, data: Path, cache: Path) -> None:
    before = (run / STATE).read_bytes()
    with pytest.raises(ConfigError, match="holds a run with other settings"):
        train(data, run, dataclasses.replace(QUICK, seed=1), cache=cache)
    assert (run / STATE).read_bytes() == before


def test_a_damaged_state_is_named(run: Path, data: Path, cache: Path, tmp_path: Path) -> None:
    for path in run.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / STATE).write_bytes(b"\0" * 100)
    with pytest.raises(CheckpointError, match=r"saved state .* cannot be used"):
        train(data, tmp_path, QUICK, cache=cache, workers=1)


def test_a_loss_that_is_no_number_stops_the_run(data: Path, cache: Path, tmp_path: Path) -> None:
    wild = dataclasses.replace(QUICK, head_rate=1e30, warmup=0)
    with pytest.raises(CheckpointError, match=r"diverged|not finite"):
        train(data, tmp_path, wild, cache=cache, workers=1)


def test_a_split_without_both_classes_is_refused(data: Path, tmp_path: Path) -> None:
    picture = next(data.rglob("*real.png"))
    (tmp_path / "a.png").write_bytes(picture.read_bytes())
    write_manifest(tmp_path, [("a.png", "scenes", "real", "g", "train", "s")])
    with pytest.raises(DataError, match=r"train split of .* holds real"):
        train(tmp_path, tmp_path / "out", QUICK)


@pytest.mark.parametrize(
    "change", [{"steps": 0}, {"average": 1.0}, {"smoothing": 0.5}, {"head_rate": -1.0}]
)
def test_settings_that_make_no_sense_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="No run is possible"):
        dataclasses.replace(QUICK, **change)  # type: ignore[arg-type]
