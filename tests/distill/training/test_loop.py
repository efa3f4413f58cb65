import csv
import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from edgedf.distill.distributed import World
from edgedf.distill.settings import LoopSettings
from edgedf.distill.training import loop as module
from edgedf.distill.training.loop import BEST, STATE, Loop
from edgedf.distill.training.task import ParameterGroup
from edgedf.errors import CheckpointError, ConfigError, OutputError
from tests.distill.toy import SETTINGS, Net, Toy, make_loop, train

ROOT = Path(__file__).parents[3]


def rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "metrics.csv").read_text("utf-8").splitlines()))


def assert_same_run(one: Path, other: Path) -> None:
    for name in (STATE, BEST):
        first, second = (safetensors.torch.load_file(folder / name) for folder in (one, other))
        assert first.keys() == second.keys()
        for key, value in first.items():
            assert torch.equal(value, second[key]), (name, key)
    assert rows(one) == rows(other)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    train(folder)
    return folder


def test_a_run_learns_and_notes_every_loss_apart(whole: Path, tmp_path: Path) -> None:
    noted = rows(whole)
    assert [row["step"] for row in noted] == [str(step) for step in range(1, 13)]
    assert list(noted[0]) == ["step", "fit", "size", "score", "odd"]
    assert [bool(row["score"]) for row in noted] == [False, False, False, True] * 3
    long = dataclasses.replace(SETTINGS, steps=60, evaluate_every=20, save_every=60.0)
    outcome = train(tmp_path, long)
    assert outcome.steps == 60
    assert outcome.best_score > float(noted[3]["score"]) + 0.5
    assert not outcome.stopped_early


def test_the_average_follows_weights_and_batch_statistics(tmp_path: Path) -> None:
    """After one step, decay 1/10: nine parts new, one part old."""
    loop = make_loop(tmp_path, dataclasses.replace(SETTINGS, steps=1, warmup=0))
    before = {name: value.clone() for name, value in loop.module.state_dict().items()}
    loop.go()
    after, averaged = loop.module.state_dict(), loop.averaged.state_dict()
    for name in ("last.weight", "norm.running_mean"):
        assert not torch.equal(before[name], after[name])
        assert torch.allclose(averaged[name], 0.1 * before[name] + 0.9 * after[name], atol=1e-6)
    assert averaged["norm.num_batches_tracked"] == 1


def test_the_rate_rises_and_falls(tmp_path: Path) -> None:
    settings = LoopSettings(steps=110, warmup=10)
    factors = [module._rate_factor(step, settings) for step in range(110)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9] == 1 == factors[10]
    assert factors[60] == pytest.approx(0.5)
    assert sorted(factors[10:], reverse=True) == factors[10:]
    assert factors[-1] < 1e-3


def test_a_process_killed_in_the_middle_goes_on_as_if_nothing_had_been(
    whole: Path, tmp_path: Path
) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.distill.toy", str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith("training steps 7"):
            os.kill(child.pid, signal.SIGKILL)
            break
    child.stdout.close()
    assert child.wait(timeout=60) == -signal.SIGKILL
    with safetensors.safe_open(str(tmp_path / STATE), framework="pt") as file:
        assert json.loads(file.metadata()["header"])["so_far"]["step"] in (7, 8)
    outcome = train(tmp_path)
    assert outcome.steps == 12
    assert_same_run(whole, tmp_path)


def test_batches_made_ahead_change_nothing(whole: Path, tmp_path: Path) -> None:
    train(tmp_path, dataclasses.replace(SETTINGS, prefetch=0))
    assert_same_run(whole, tmp_path)


def test_a_finished_run_is_not_trained_further(whole: Path) -> None:
    before = (whole / STATE).read_bytes()
    outcome = train(whole)
    assert outcome.steps == 12
    assert outcome.best_step in (4, 8, 12)
    assert (whole / STATE).read_bytes() == before


def test_training_stops_when_the_score_does_not_improve_and_stays_stopped(tmp_path: Path) -> None:
    task = Toy(scores=(0.5, 0.7, 0.6, 0.7, 0.9))
    settings = dataclasses.replace(SETTINGS, steps=40, patience=2)
    outcome = train(tmp_path, settings, task)
    assert outcome.stopped_early
    assert (outcome.steps, outcome.best_step, outcome.best_score) == (16, 8, 0.7)
    with safetensors.safe_open(str(tmp_path / BEST), framework="pt") as file:
        assert file.metadata() == {"step": "8"}
    again = Toy(scores=())
    assert train(tmp_path, settings, again) == outcome
    assert not again.looks


def test_patience_is_remembered_over_a_kill(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(step: str, done: int, total: int) -> None:
        if done == 13:
            raise Killed

    settings = dataclasses.replace(SETTINGS, steps=40, patience=2)
    with pytest.raises(Killed):
        train(tmp_path, settings, Toy(scores=(0.5, 0.7, 0.6)), kill)
    outcome = train(tmp_path, settings, Toy(scores=(0.7, 0.9)))
    assert (outcome.steps, outcome.best_step) == (16, 8)


def test_a_loss_that_is_no_number_names_the_batch_and_keeps_the_last_state(
    whole: Path, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="diverged at step 6: the loss fit is nan") as caught:
        train(tmp_path, task=Toy(bad_step=5))
    assert "picture-5.png" in caught.value.message
    assert "state after step 5 is kept" in caught.value.message
    train(tmp_path)  # the picture has been mended
    assert_same_run(whole, tmp_path)


def test_a_score_that_is_no_number_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="the score on the validation split is nan"):
        train(tmp_path, task=Toy(scores=(float("nan"),)))
    assert not (tmp_path / BEST).exists()


def test_weights_that_are_no_numbers_are_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overflow(averaged: torch.nn.Module, module: torch.nn.Module, step: int, _: float) -> None:
        if step == 2:
            torch.nn.init.constant_(module.last.bias, float("inf"))

    monkeypatch.setattr(module, "_follow", overflow)
    with pytest.raises(CheckpointError, match=r"step 3: the weight module\.last\.bias"):
        train(tmp_path)
    with safetensors.safe_open(str(tmp_path / STATE), framework="pt") as file:
        assert json.loads(file.metadata()["header"])["so_far"]["step"] == 2


def test_a_full_disk_leaves_the_last_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(step: str, done: int, total: int) -> None:
        if done == 3:
            kept.append((tmp_path / STATE).read_bytes())
            monkeypatch.setattr("edgedf.files.os.fsync", full)

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    kept: list[bytes] = []
    with pytest.raises(OutputError, match="No space left"):
        train(tmp_path, progress=fill)
    assert (tmp_path / STATE).read_bytes() == kept[0]
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_the_state_is_saved_by_the_clock_and_at_the_end(tmp_path: Path) -> None:
    seen = []

    def look(step: str, done: int, total: int) -> None:
        seen.append((tmp_path / STATE).is_file())

    train(tmp_path, dataclasses.replace(SETTINGS, save_every=3600.0), progress=look)
    assert seen == [False] * 11 + [True]


@pytest.mark.parametrize("damage", [b"", b"\0" * 100, b"cut"])
def test_a_damaged_state_is_named(whole: Path, tmp_path: Path, damage: bytes) -> None:
    data = (whole / STATE).read_bytes()
    (tmp_path / STATE).write_bytes(data[: len(data) // 2] if damage == b"cut" else damage)
    with pytest.raises(CheckpointError, match=r"saved state .* cannot be used"):
        train(tmp_path)


def test_the_state_of_another_network_is_refused(whole: Path, tmp_path: Path) -> None:
    (tmp_path / STATE).write_bytes((whole / STATE).read_bytes())
    net = torch.nn.Linear(4, 1)
    with pytest.raises(CheckpointError, match="cannot be used"):
        Loop(tmp_path, SETTINGS, net, Toy(), [ParameterGroup(list(net.parameters()), 0.1)])


def test_a_run_of_more_processes_does_not_go_on_with_one(whole: Path, tmp_path: Path) -> None:
    tensors = safetensors.torch.load_file(whole / STATE)
    with safetensors.safe_open(str(whole / STATE), framework="pt") as file:
        header = {**json.loads(file.metadata()["header"]), "ranks": 2}
    safetensors.torch.save_file(tensors, tmp_path / STATE, {"header": json.dumps(header)})
    with pytest.raises(ConfigError, match="started with 2 processes, not 1"):
        train(tmp_path)


def test_weights_in_no_group_are_refused(tmp_path: Path) -> None:
    net = Net()
    with pytest.raises(ConfigError, match=r"2 weights .* such as last\.weight"):
        net.idle.requires_grad_(False)
        net.first.requires_grad_(False)
        group = ParameterGroup(list(net.norm.parameters()), 0.1)
        Loop(tmp_path, SETTINGS, net, Toy(), [group])


def test_idle_weights_are_found_and_nothing_else_changes(tmp_path: Path) -> None:
    loop = make_loop(tmp_path)
    before = {name: value.clone() for name, value in loop.module.state_dict().items()}
    loop.module.norm.weight.requires_grad_(False)
    loop._freeze_idle()
    trained = {name for name, weight in loop.module.named_parameters() if weight.requires_grad}
    assert trained == {"first.weight", "norm.bias", "last.weight", "last.bias"}
    for name, value in loop.module.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_groups_have_their_own_rate_and_decay(tmp_path: Path) -> None:
    net = Net()
    net.idle.requires_grad_(False)
    net.norm.requires_grad_(False)
    groups = [
        ParameterGroup(list(net.first.parameters()), 0.0),
        ParameterGroup(list(net.last.parameters()), 0.1, weight_decay=0.0),
    ]
    before = {name: value.clone() for name, value in net.state_dict().items()}
    loop = Loop(tmp_path, SETTINGS, net, Toy(), groups)
    loop.go()
    assert torch.equal(net.first.weight, before["first.weight"])
    assert torch.equal(net.idle.weight, before["idle.weight"])
    assert not torch.equal(net.last.weight, before["last.weight"])
    decays = [group["weight_decay"] for group in loop._optimiser.param_groups]
    assert decays == [SETTINGS.weight_decay, 0.0]


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_mixed_precision_learns_and_resumes(amp: str, whole: Path, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(step: str, done: int, total: int) -> None:
        if done == 5:
            raise Killed

    settings = dataclasses.replace(SETTINGS, amp=amp)
    train(tmp_path / "whole", settings)
    with pytest.raises(Killed):
        train(tmp_path / "torn", settings, progress=kill)
    train(tmp_path / "torn", settings)
    assert_same_run(tmp_path / "whole", tmp_path / "torn")
    exact = [float(row["fit"]) for row in rows(whole)]
    found = [float(row["fit"]) for row in rows(tmp_path / "whole")]
    assert found[0] != exact[0]
    assert found[0] == pytest.approx(exact[0], rel=0.02)


def test_precision_is_chosen_for_the_device() -> None:
    assert module._precision("auto", torch.device("cpu")) is None
    assert module._precision("bf16", torch.device("cpu")) is torch.bfloat16
    assert module._precision("off", torch.device("cuda", 0)) is None


def test_a_world_of_one_is_the_default(tmp_path: Path) -> None:
    assert make_loop(tmp_path).world == World()
