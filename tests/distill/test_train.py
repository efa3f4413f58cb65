import csv
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from edgedf.distill.config import dump_settings, load_settings
from edgedf.distill.evaluate import evaluate_checkpoint
from edgedf.distill.loop import LoopSettings
from edgedf.distill.student import StudentConfig, load_checkpoint
from edgedf.distill.train import (
    BEST,
    CARD,
    FINAL,
    METRICS,
    REPORT,
    SETTINGS,
    STATE,
    TrainSettings,
    train,
)
from edgedf.errors import CheckpointError, ConfigError, DataError
from edgedf.quantize.describe import describe_checkpoint
from tests.distill.pictures import write_dataset, write_manifest
from tests.distill.test_distributed import torchrun

QUICK = TrainSettings(
    crops=0,
    renderings=1,
    loop=LoopSettings(steps=6, batch=6, warmup=2, evaluate_every=3, save_every=0.0, device="cpu"),
    student=StudentConfig(input_size=32, blocks=11, judged_blocks=1, decoder_channels=8),
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
    report = json.loads((run / REPORT).read_text("utf-8"))
    assert report["parameters"] == sum(weight.numel() for weight in student.parameters())
    assert report["skipped"] == []
    card = (run / CARD).read_text("utf-8")
    for figure in spec.accuracy:
        assert f" {figure.value:.3f} | {figure.low:.3f} to {figure.high:.3f} | {figure.n} |" in card
    assert "research use only" in card
    assert "What it cannot do" in card
    rows = read_rows(run / METRICS)
    assert [row["step"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert all(float(row["label"]) > 0 and float(row["map"]) > 0 for row in rows)
    assert [bool(row["score"]) for row in rows] == [False, False, True] * 2
    aucs = [float(rows[-1][f"{name} val AUC"]) for name in ("scenes", "faces256")]
    aucs.append(float(rows[-1]["faces256 self-blended val AUC"]))
    assert float(rows[-1]["score"]) == pytest.approx(np.mean(aucs))
    assert len(list((run / "tensorboard").iterdir())) == 1


def test_the_settings_of_a_run_start_another_one(run: Path) -> None:
    assert load_settings(TrainSettings, run / SETTINGS) == QUICK
    assert (run / SETTINGS).read_text("utf-8").endswith(dump_settings(QUICK))


def test_evaluation_of_the_checkpoint_uses_the_settings_of_the_run(
    data: Path, cache: Path, tmp_path: Path
) -> None:
    settings = dataclasses.replace(
        QUICK, face_sets=(), loop=dataclasses.replace(QUICK.loop, steps=1, seed=3)
    )
    report = train(data, tmp_path, settings, cache=cache, workers=1)
    names = {figure.dataset for figure in report.test}
    assert "scenes test" in names
    assert "faces256 self-blended test" not in names
    found = evaluate_checkpoint(report.checkpoint, data, metrics="auc", cache=cache)
    assert found.figures == report.test[:-1]


def test_training_moves_the_heads_and_leaves_frozen_stages_alone(run: Path) -> None:
    state = safetensors.torch.load_file(run / STATE)
    moments = {name for name in state if name.startswith("optimiser.")}
    assert moments
    best = load_checkpoint(run / BEST)[0]
    for name, value in best.state_dict().items():
        trained = state[f"module.{name}"]
        if name.startswith(("encoder.stem", "encoder.stages.0.", "encoder.stages.1.")):
            assert torch.equal(trained, value), name
    assert not torch.equal(state["module.fake.weight"], best.state_dict()["fake.weight"])
    assert not torch.equal(
        state["module.encoder.stages.2.0.project.weight"],
        best.state_dict()["encoder.stages.2.0.project.weight"],
    )


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
    losses = [
        [float(row["label"]) for row in read_rows(folder / METRICS)] for folder in (run, tmp_path)
    ]
    assert len(losses[0]) == 6
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_two_processes_are_one_with_the_doubled_batch(
    data: Path, cache: Path, tmp_path: Path
) -> None:
    """Without rounded weights: a rounding error of the sums may move one by a whole level.

    The end of the twelfth block leads nowhere: a process that waited for its gradient would fail.
    """
    student = dataclasses.replace(QUICK.student, int8_weights=False, blocks=12)
    settings = dataclasses.replace(QUICK, student=student)
    (tmp_path / "two.toml").write_text(
        dump_settings(
            dataclasses.replace(settings, loop=dataclasses.replace(settings.loop, batch=3))
        )
    )
    train(data, tmp_path / "one", settings, cache=cache, workers=1)
    ended = torchrun(
        *("edgedf.cli", "distill", "train", "--data", str(data), "--out", "two"),
        *("--config", "two.toml", "--cache", "shared", "--workers", "1"),
        cwd=tmp_path,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("Student: two/student.safetensors") == 1
    assert ended.stdout.count("Settings:") == 1
    one, two = (read_rows(tmp_path / name / METRICS) for name in ("one", "two"))
    assert len(one) == len(two) == 6
    for name in ("label", "map", "score"):
        curves = [[float(row[name] or 0) for row in rows] for rows in (one, two)]
        assert curves[1] == pytest.approx(curves[0], rel=1e-4), name
    weights = [
        safetensors.torch.load_file(tmp_path / name / STATE)["module.fake.weight"]
        for name in ("one", "two")
    ]
    assert torch.allclose(*weights, rtol=1e-3, atol=1e-5)
    # Both computed maps: no shard is missing, and none was made twice.
    kept = {path.name for path in (tmp_path / "shared").iterdir()}
    assert kept <= {path.name for path in cache.iterdir()}


def test_processes_refuse_what_one_would_and_say_it_once(
    run: Path, data: Path, tmp_path: Path
) -> None:
    for path in run.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    command = ("edgedf.cli", "distill", "train", "--data", str(data), "--out", str(tmp_path))
    ended = torchrun(*command, "--config", str(tmp_path / SETTINGS), "--steps", "9")
    assert ended.returncode != 0
    assert ended.stderr.count("holds a run with other settings") == 1
    assert "Traceback" not in ended.stderr.split("torch/distributed")[0]


def test_a_process_killed_while_maps_are_computed_goes_on(
    data: Path, run: Path, tmp_path: Path
) -> None:
    """Shards of eight records, so that some are there when it dies."""
    script = (
        "import os, signal, sys; from edgedf.distill import targets; targets.SHARD = 8\n"
        "from tests.distill.test_train import QUICK, train\n"
        "def stop(step, done, total):\n"
        "    if step == 'defocus maps' and done == 16: os.killpg(0, signal.SIGKILL)\n"
        "if __name__ == '__main__':\n"
        "    train(sys.argv[1], 'out', QUICK, cache='cache', workers=1, progress=stop)\n"
    )
    (tmp_path / "killed.py").write_text(script)
    ended = subprocess.run(
        [sys.executable, "killed.py", str(data)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        start_new_session=True,
        capture_output=True,
        timeout=200,
        check=False,
    )
    assert ended.returncode == -9, ended.stderr
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").glob("*.safetensors")}
    assert len(kept) >= 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgedf.distill.targets.SHARD", 8)
        train(data, tmp_path / "out", QUICK, cache=tmp_path / "cache", workers=1)
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    one, other = (safetensors.torch.load_file(folder / FINAL) for folder in (run, tmp_path / "out"))
    for key, value in one.items():
        assert torch.allclose(value, other[key], atol=1e-6), key


def test_another_run_in_the_same_folder_is_refused(run: Path, data: Path, cache: Path) -> None:
    before = (run / STATE).read_bytes()
    other = dataclasses.replace(QUICK, smoothing=0.0)
    with pytest.raises(ConfigError, match="holds a run with other settings"):
        train(data, run, other, cache=cache)
    assert (run / STATE).read_bytes() == before


def test_a_run_without_its_settings_is_refused(
    run: Path, data: Path, cache: Path, tmp_path: Path
) -> None:
    (tmp_path / STATE).write_bytes((run / STATE).read_bytes())
    with pytest.raises(ConfigError, match="holds a run with other settings"):
        train(data, tmp_path, QUICK, cache=cache)


def test_a_damaged_state_is_named(run: Path, data: Path, cache: Path, tmp_path: Path) -> None:
    (tmp_path / SETTINGS).write_bytes((run / SETTINGS).read_bytes())
    (tmp_path / STATE).write_bytes(b"\0" * 100)
    with pytest.raises(CheckpointError, match=r"saved state .* cannot be used"):
        train(data, tmp_path, QUICK, cache=cache, workers=1)


def test_a_loss_that_is_no_number_stops_the_run(data: Path, cache: Path, tmp_path: Path) -> None:
    loop = dataclasses.replace(QUICK.loop, warmup=0)
    wild = dataclasses.replace(QUICK, head_rate=1e30, loop=loop)
    with pytest.raises(CheckpointError, match=r"diverged at step \d: .*train-\d-\w+\.png"):
        train(data, tmp_path, wild, cache=cache, workers=1)


def test_a_picture_that_cannot_be_read_is_left_out_and_reported(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "data", groups=11)
    picture = folder / "scenes" / "train-0-real.png"
    picture.write_bytes(picture.read_bytes()[:50])
    loop = dataclasses.replace(QUICK.loop, steps=1)
    report = train(folder, tmp_path / "out", dataclasses.replace(QUICK, loop=loop), workers=1)
    assert [entry.file for entry in report.skipped] == [str(picture)]


def test_a_split_without_both_classes_is_refused(data: Path, tmp_path: Path) -> None:
    picture = next(data.rglob("*real.png"))
    (tmp_path / "a.png").write_bytes(picture.read_bytes())
    write_manifest(tmp_path, [("a.png", "scenes", "real", "g", "train", "s")])
    with pytest.raises(DataError, match=r"train split of .* holds real"):
        train(tmp_path, tmp_path / "out", QUICK)


@pytest.mark.parametrize(
    "change", [{"map_weight": -1.0}, {"smoothing": 0.5}, {"head_rate": -1.0}, {"crops": -1}]
)
def test_settings_that_make_no_sense_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="No run is possible"):
        dataclasses.replace(QUICK, **change)  # type: ignore[arg-type]
