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

from edgedf.distill.evaluation.evaluate import evaluate_checkpoint
from edgedf.distill.networks.backbones import EfficientNetLite, load_imagenet_weights
from edgedf.distill.networks.checkpoints import load_checkpoint, load_teacher, save_teacher
from edgedf.distill.networks.probe import Calibration, Probe
from edgedf.distill.networks.teacher import Branch, Teacher
from edgedf.distill.records.preparation import SETTINGS
from edgedf.distill.records.targets import Records
from edgedf.distill.settings import LoopSettings, StudentConfig, TeacherConfig, TrainSettings
from edgedf.distill.training import train as module
from edgedf.distill.training.logbook import METRICS
from edgedf.distill.training.loop import BEST, STATE
from edgedf.distill.training.map_task import Judged, maps_of
from edgedf.distill.training.train import CARD, FINAL, REPORT, train
from edgedf.errors import CheckpointError, ConfigError, DataError
from edgedf.quantize.sources.describe import describe_checkpoint
from edgedf.settings import dump_settings, load_settings
from tests.distill.pictures import write_dataset, write_manifest
from tests.distill.test_distributed import two_ranks

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


def write_teacher(path: Path, seed: int = 0, block: int = 1) -> Path:
    """A teacher whose verdicts mean nothing, but are its own."""
    config = TeacherConfig(modalities=("rgb",), first_block=block, last_block=block, map_channels=0)
    teacher = Teacher(config)
    (branch,) = teacher.each()
    rng = np.random.default_rng(seed)
    centre, deviation = np.full(branch.features, 1, "f4"), np.ones(branch.features, "f4")
    weight = rng.normal(0, 0.3, branch.features).astype("f4")
    branch.take(Probe(centre, deviation, weight, 0.0), Calibration(1.0, 0.0))
    return save_teacher(path, teacher, {})


def write_seeing_teacher(path: Path, seed: int = 0) -> Path:
    """A teacher with a dense head, whose maps mean nothing but are its own."""
    config = TeacherConfig(
        modalities=("defocus",), first_block=8, last_block=8, map_channels=8, map_blocks=1
    )
    torch.manual_seed(seed)
    teacher = Teacher(config)
    assert teacher.map_head is not None
    torch.nn.init.normal_(teacher.map_head.blur.weight, std=0.2)
    return save_teacher(path, teacher, {})


def encoder_of(path: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(path)[0].encoder.state_dict()


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_teacher(tmp_path_factory.mktemp("teacher") / "teacher.safetensors")


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
    # Errors in pixels stand in their own table, not among the shares called fake.
    shares, errors = card.split("the share called fake")[1].split("error of the defocus map")
    assert "px" not in shares.split("Mean absolute")[0]
    assert errors.count("| rendered depth of field test") == 2
    rows = read_rows(run / METRICS)
    assert [row["step"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert all(float(row["map"]) > 0 and float(row["features"]) == 0 for row in rows)
    assert [bool(row["score"]) for row in rows] == [False, False, True] * 2
    looks = [float(row["map error on validation"]) for row in rows if row["score"]]
    assert [float(row["score"]) for row in rows if row["score"]] == [-error for error in looks]
    # The best maps on renderings are those of the student.
    validation = {(f["dataset"], f["metric"]): f["value"] for f in report["validation"]}
    exact = validation["rendered depth of field val", "map error against the exact map (px)"]
    assert exact == pytest.approx(min(looks), abs=1e-3)
    assert report["best_step"] == 3 * (1 + int(np.argmin(looks)))
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
    assert found.figures == report.test[:-2]
    pooled, physical = report.test[-2:]
    assert (pooled.dataset, pooled.metric) == ("all sets pooled test", "AUC")
    assert physical.metric.startswith("physical map's error")


def test_steps_move_the_map_alone_and_the_verdict_is_fitted_afterwards(run: Path) -> None:
    state = safetensors.torch.load_file(run / STATE)
    best, final = (load_checkpoint(run / name)[0] for name in (BEST, FINAL))
    weights = dict(best.named_parameters())
    dense = {name for name in weights if name.startswith(("decoder.", "local.", "blur."))}
    for name, value in best.state_dict().items():
        # The best weights are averages, so that what was trained differs from them.
        trained = state[f"module.student.{name}"]
        assert torch.equal(trained, value) == (name not in dense), name
        fitted = name.startswith(("fake.", "spreads.")) and name in weights
        fitted = fitted or name in ("centre", "deviation")
        assert torch.equal(final.state_dict()[name], value) == (not fitted), name
    moments = {name.split(".")[1] for name in state if name.startswith("optimiser.")}
    assert len(moments) == len(dense)


def test_a_rate_of_zero_keeps_the_encoder_and_another_moves_it(
    run: Path, data: Path, cache: Path, tmp_path: Path
) -> None:
    wanted = EfficientNetLite("lite0", QUICK.student.blocks)
    load_imagenet_weights(wanted)
    kept = encoder_of(run / FINAL)
    assert kept.keys() == wanted.state_dict().keys()
    for name, value in wanted.state_dict().items():
        assert torch.equal(kept[name], value), name
    tuned = dataclasses.replace(QUICK, encoder_rate=1e-3)
    train(data, tmp_path / "bound", tuned, cache=cache, workers=1)
    moved = encoder_of(tmp_path / "bound" / FINAL)
    for name in ("stem.weight", "stages.2.0.expand.weight", "stages.4.1.depthwise.weight"):
        assert not torch.equal(moved[name], kept[name]), name
    rows = read_rows(tmp_path / "bound" / METRICS)
    losses = [float(row["features"]) for row in rows]
    assert losses[0] == 0  # at the start nothing has moved
    assert min(losses[1:]) > 0
    # Without the loss of features they move further.
    free = dataclasses.replace(tuned, features=0.0)
    train(data, tmp_path / "free", free, cache=cache, workers=1)
    assert {row["features"] for row in read_rows(tmp_path / "free" / METRICS)} == {"0.0"}
    strict = dataclasses.replace(tuned, features=100.0)
    train(data, tmp_path / "strict", strict, cache=cache, workers=1)
    assert float(read_rows(tmp_path / "strict" / METRICS)[-1]["features"]) < losses[-1]


def test_a_teacher_changes_the_verdict_and_nothing_else(
    run: Path, data: Path, cache: Path, teacher: Path, tmp_path: Path
) -> None:
    train(data, tmp_path / "taught", QUICK, teacher=teacher, cache=cache, workers=1)
    alone, taught = (
        load_checkpoint(folder / FINAL)[0].state_dict() for folder in (run, tmp_path / "taught")
    )
    for name, value in alone.items():
        if name.startswith("fake."):
            assert not torch.allclose(taught[name], value, atol=1e-4), name
        else:
            assert torch.allclose(taught[name], value, atol=1e-6), name
    first = (tmp_path / "taught" / SETTINGS).read_text("utf-8").splitlines()[:2]
    assert first[0] == (run / SETTINGS).read_text("utf-8").splitlines()[0]
    assert first[1] == f"# Teacher's SHA-256: {load_teacher(teacher)[1]['sha256']}"
    assert load_settings(TrainSettings, tmp_path / "taught" / SETTINGS) == QUICK
    # The more of the targets is the teacher's, the further the head is from that of labels alone.
    apart = []
    for share in (0.0, 0.5, 1.0):
        settings = dataclasses.replace(QUICK, distilled=share)
        folder = tmp_path / str(share)
        train(data, folder, settings, teacher=teacher, cache=cache, workers=1)
        head = load_checkpoint(folder / FINAL)[0].state_dict()["fake.weight"]
        apart.append(1 - torch.cosine_similarity(head, alone["fake.weight"]).item())
    assert apart[0] == pytest.approx(0, abs=1e-5)
    assert apart[0] < apart[1] < apart[2]


def test_what_a_teacher_has_seen_is_kept_in_the_cache(
    data: Path, cache: Path, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = dataclasses.replace(QUICK, loop=dataclasses.replace(QUICK.loop, steps=1))
    train(data, tmp_path / "one", short, teacher=teacher, cache=cache, workers=1)
    deeper = write_teacher(tmp_path / "deeper.safetensors", block=2)

    def look(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Branch, "statistics", look)
        train(data, tmp_path / "two", short, teacher=teacher, cache=cache, workers=1)
        with pytest.raises(Killed):
            train(data, tmp_path / "three", short, teacher=deeper, cache=cache, workers=1)
    assert (tmp_path / "one" / FINAL).read_bytes() == (tmp_path / "two" / FINAL).read_bytes()
    # The steps are over: what is left is the teacher's part.
    told: list[str] = []
    train(
        data,
        tmp_path / "three",
        short,
        teacher=deeper,
        cache=cache,
        workers=1,
        progress=lambda step, done, total: told.append(step),
    )
    assert "training steps" not in told
    assert "rgb statistics" in told
    assert (tmp_path / "three" / FINAL).read_bytes() != (tmp_path / "one" / FINAL).read_bytes()


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_seeing_teacher(tmp_path_factory.mktemp("seeing") / "teacher.safetensors")


def test_a_teachers_maps_take_the_place_of_the_physical_ones_in_training_alone(
    data: Path, cache: Path, seeing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[Records, Records]] = []

    def note(training: Records, validation: Records, *_: object, **__: object) -> None:
        given.append((training, validation))
        raise Killed

    monkeypatch.setattr(module, "learn_maps", note)
    own = dataclasses.replace(QUICK, teacher_maps=False)
    for name, settings, teacher in (
        ("alone", QUICK, None),
        ("own", own, seeing),
        ("taught", QUICK, seeing),
    ):
        with pytest.raises(Killed):
            train(data, tmp_path / name, settings, teacher=teacher, cache=cache, workers=1)
    (alone, looked_at), (kept, _), (taught, still) = given
    assert np.array_equal(kept.maps, alone.maps)
    assert np.array_equal(still.maps, looked_at.maps)
    dense = load_teacher(seeing)[0]
    wanted = maps_of(lambda x, y: dense.defocus_map(x, y), Judged(alone, alone.maps))  # type: ignore[arg-type]
    kinds = [job.kind for job in alone.jobs]
    assert set(kinds) == {"whole", "self_blend", "rendered"}
    for index, kind in enumerate(kinds):
        is_exact = kind == "rendered"
        expected = alone.maps[index] if is_exact else wanted[index]
        np.testing.assert_allclose(taught.maps[index], expected, rtol=2e-3, atol=2e-3)
        assert is_exact or not np.allclose(taught.maps[index], alone.maps[index], atol=0.1)
    assert np.array_equal(taught.images, alone.images)
    assert [job.kind for job in taught.jobs] == kinds


def test_a_student_learns_its_teachers_maps_and_can_leave_them(
    run: Path, data: Path, cache: Path, seeing: Path, tmp_path: Path
) -> None:
    own = dataclasses.replace(QUICK, teacher_maps=False)
    given = {}
    for name, settings in (("taught", QUICK), ("own", own)):
        report = train(data, tmp_path / name, settings, teacher=seeing, cache=cache, workers=1)
        given[name] = load_checkpoint(report.checkpoint)[1]["training"]["data"]
    alone, taught, kept = (
        load_checkpoint(folder / BEST)[0].state_dict()
        for folder in (run, tmp_path / "taught", tmp_path / "own")
    )
    dense = [name for name in alone if name.startswith(("decoder.", "local.", "blur."))]
    moved = [name for name in dense if name.endswith((".weight", ".bias"))]
    assert len(moved) > 20
    for name in dense:
        assert torch.allclose(kept[name], alone[name], atol=1e-6), name
        assert torch.equal(taught[name], alone[name]) == (name not in moved), name
    assert given["taught"].endswith(", a teacher's verdicts and maps")
    assert given["own"].endswith(", a teacher's verdicts")
    # Settings say it, so that one is not taken for the other.
    with pytest.raises(ConfigError, match="holds a run with other settings"):
        train(data, tmp_path / "taught", own, teacher=seeing, cache=cache, workers=1)


def test_without_its_share_of_the_verdict_a_teacher_judges_nothing(
    run: Path, data: Path, cache: Path, seeing: Path, teacher: Path, tmp_path: Path
) -> None:
    silent = dataclasses.replace(QUICK, distilled=0.0)

    def judge(*_: object) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "judged_by", judge)
        for name, path in (("seeing", seeing), ("blind", teacher)):
            train(data, tmp_path / name, silent, teacher=path, cache=cache, workers=1)
        with pytest.raises(Killed):
            train(data, tmp_path / "asked", QUICK, teacher=seeing, cache=cache, workers=1)
    # What the encoder sees and the labels are the same, and so is the verdict.
    alone = load_checkpoint(run / FINAL)[0].state_dict()
    for name, path, given in (
        ("seeing", seeing, ", a teacher's maps"),
        ("blind", teacher, "synthetic depth of field"),
    ):
        student, metadata = load_checkpoint(tmp_path / name / FINAL)
        head = student.state_dict()["fake.weight"]
        assert torch.allclose(head, alone["fake.weight"], atol=1e-6), name
        assert metadata["training"]["data"].endswith(given)
        assert metadata["teacher_sha256"] == load_teacher(path)[1]["sha256"]


def test_a_killed_run_goes_on_with_its_teachers_maps(
    data: Path, cache: Path, seeing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(step: str, done: int, total: int) -> None:
        if (step, done) == ("training steps", 4):
            raise Killed

    options = {"teacher": seeing, "cache": cache, "workers": 1}
    train(data, tmp_path / "whole", QUICK, **options)  # type: ignore[arg-type]
    with pytest.raises(Killed):
        train(data, tmp_path / "cut", QUICK, progress=kill, **options)  # type: ignore[arg-type]
    # The maps are read again, not looked for.
    monkeypatch.setattr(Teacher, "defocus_map", kill)
    train(data, tmp_path / "cut", QUICK, **options)  # type: ignore[arg-type]
    one, other = ((tmp_path / name / BEST).read_bytes() for name in ("whole", "cut"))
    assert one == other


def test_another_teacher_in_the_same_folder_is_refused(
    run: Path, data: Path, cache: Path, teacher: Path, tmp_path: Path
) -> None:
    short = dataclasses.replace(QUICK, loop=dataclasses.replace(QUICK.loop, steps=1))
    train(data, tmp_path / "run", short, teacher=teacher, cache=cache, workers=1)
    before = (tmp_path / "run" / STATE).read_bytes()
    other = write_teacher(tmp_path / "other.safetensors", seed=1)
    with pytest.raises(ConfigError, match="other data or another teacher"):
        train(data, tmp_path / "run", short, teacher=other, cache=cache, workers=1)
    for folder, given in ((tmp_path / "run", None), (run, teacher)):
        with pytest.raises(ConfigError, match="holds a run with other settings"):
            train(data, folder, short, teacher=given, cache=cache, workers=1)
    assert (tmp_path / "run" / STATE).read_bytes() == before
    with pytest.raises(CheckpointError, match="Cannot read the teacher"):
        train(data, tmp_path / "new", short, teacher=tmp_path / "none", cache=cache, workers=1)
    assert not (tmp_path / "new").exists()


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
        [float(row["map"]) for row in read_rows(folder / METRICS)] for folder in (run, tmp_path)
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
    settings = dataclasses.replace(QUICK, student=student, encoder_rate=1e-4)
    (tmp_path / "two.toml").write_text(
        dump_settings(
            dataclasses.replace(settings, loop=dataclasses.replace(settings.loop, batch=3))
        )
    )
    train(data, tmp_path / "one", settings, cache=cache, workers=1)
    ended = two_ranks(
        *("distill", "train", "--data", str(data), "--out", "two"),
        *("--config", "two.toml", "--cache", "shared", "--workers", "1"),
        cwd=tmp_path,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("Student: two/student.safetensors") == 1
    assert ended.stderr.count("Settings:") == 1
    one, two = (read_rows(tmp_path / name / METRICS) for name in ("one", "two"))
    assert len(one) == len(two) == 6
    for name in ("map", "features", "score"):
        curves = [[float(row[name] or 0) for row in rows] for rows in (one, two)]
        assert curves[1] == pytest.approx(curves[0], rel=1e-4), name
    states = [safetensors.torch.load_file(tmp_path / name / STATE) for name in ("one", "two")]
    for name in ("blur.weight", "encoder.stages.0.0.depthwise.weight"):
        weights = [state[f"module.student.{name}"] for state in states]
        assert torch.allclose(*weights, rtol=1e-3, atol=1e-5), name
    # Both computed maps: no shard is missing, and none was made twice.
    kept = {path.name for path in (tmp_path / "shared").iterdir()}
    assert kept <= {path.name for path in cache.iterdir()}


def test_processes_refuse_what_one_would_and_say_it_once(
    run: Path, data: Path, tmp_path: Path
) -> None:
    for path in run.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    command = ("distill", "train", "--data", str(data), "--out", str(tmp_path))
    ended = two_ranks(*command, "--config", str(tmp_path / SETTINGS), "--steps", "9", cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr.count("holds a run with other settings") == 1
    assert "Traceback" not in ended.stderr


def test_processes_that_find_no_teacher_say_it_once(data: Path, tmp_path: Path) -> None:
    ended = two_ranks(
        *("distill", "train", "--data", str(data), "--out", "out"),
        *("--teacher", "none.safetensors"),
        cwd=tmp_path,
    )
    assert ended.returncode == 2
    assert ended.stderr.count("Cannot read the teacher none.safetensors") == 1


def test_a_process_killed_while_maps_are_computed_goes_on(
    data: Path, run: Path, tmp_path: Path
) -> None:
    """Shards of eight records, so that some are there when it dies."""
    script = (
        "import os, signal, sys; from edgedf.distill.records import targets; targets.SHARD = 8\n"
        "from tests.distill.training.test_train import QUICK, train\n"
        "def stop(step, done, total):\n"
        "    if step == 'defocus maps' and done == 16: os.killpg(0, signal.SIGKILL)\n"
        "if __name__ == '__main__':\n"
        "    train(sys.argv[1], 'out', QUICK, cache='cache', workers=1, progress=stop)\n"
    )
    (tmp_path / "killed.py").write_text(script)
    ended = subprocess.run(
        [sys.executable, "killed.py", str(data)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        start_new_session=True,
        capture_output=True,
        timeout=200,
        check=False,
    )
    assert ended.returncode == -9, ended.stderr
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").glob("*.safetensors")}
    assert len(kept) >= 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgedf.distill.records.targets.SHARD", 8)
        train(data, tmp_path / "out", QUICK, cache=tmp_path / "cache", workers=1)
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    one, other = (safetensors.torch.load_file(folder / FINAL) for folder in (run, tmp_path / "out"))
    for key, value in one.items():
        assert torch.allclose(value, other[key], atol=1e-6), key


def test_another_run_in_the_same_folder_is_refused(run: Path, data: Path, cache: Path) -> None:
    before = (run / STATE).read_bytes()
    other = dataclasses.replace(QUICK, views=1)
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
    wild = dataclasses.replace(QUICK, rate=1e30, loop=loop)
    with pytest.raises(CheckpointError, match=r"diverged at step \d: .*train-\d-\w+\.png"):
        train(data, tmp_path, wild, cache=cache, workers=1)


def test_a_picture_that_cannot_be_read_is_left_out_and_reported(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "data", groups=11, held_out=2)
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
