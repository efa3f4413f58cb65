import json
from pathlib import Path

import pytest

from edgedf.cli import main
from tests.cli.runs import assert_clear, run
from tests.distill.pictures import write_dataset
from tests.runtime.absent import without

QUICK = (
    *("--input-size", "32", "--batch", "6", "--workers", "1", "--set", "student.blocks=11"),
    *("--set", "student.judged_blocks=1", "--set", "student.decoder_channels=8"),
)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``pictures/``, a trained ``runs/first`` and the maps in ``cache/``."""
    folder = tmp_path_factory.mktemp("work")
    write_dataset(folder / "pictures", groups=3)
    trained = run(
        *("distill", "train", "--data", "pictures", "--out", "runs/first"),
        *("--steps", "3", "--cache", "cache", *QUICK),
        cwd=folder,
    )
    assert trained.returncode == 0, trained.stderr
    assert "faces256 self-blended test" in trained.stdout
    assert "edgedf convert runs/first/student.safetensors" in trained.stdout
    settings, figures = trained.stderr, trained.stdout
    assert figures
    for line in ("[loop]", "steps = 3", "batch = 6", "[student]", "decoder_channels = 8"):
        assert f"  {line}\n" in settings
    return folder


def test_training_again_changes_nothing_and_gives_json(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workplace)
    weights = Path("runs/first/student.safetensors").read_bytes()
    options = ["--data", "pictures", "--out", "runs/first", "--steps", "3", "--cache", "cache"]
    assert main(["distill", "train", *options, *QUICK, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["checkpoint"] == "runs/first/student.safetensors"
    assert {figure["metric"] for figure in report["test"]} > {"AUC"}
    assert Path("runs/first/student.safetensors").read_bytes() == weights


def test_the_settings_of_a_run_can_be_used_again(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file is the run's own: training is over, and nothing is trained again."""
    monkeypatch.chdir(workplace)
    options = ["--data", "pictures", "--out", "runs/first", "--cache", "cache"]
    config = ["--config", "runs/first/settings.toml"]
    assert main(["distill", "train", *options, *config]) == 0
    assert "decoder_channels = 8" in capsys.readouterr().err
    # The file says 3, --set says 4, --steps wins.
    wins = ["--set", "loop.steps=4", "--steps", "3"]
    assert main(["distill", "train", *options, *config, *wins, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["best_step"] == 3
    assert main(["distill", "train", *options, *config, "--set", "loop.steps=4"]) == 2
    assert "holds a run with other settings" in capsys.readouterr().err


def test_pictures_that_were_left_out_are_named(
    workplace: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from edgedf.distill.training import train as stage
    from edgedf.evaluation import Skipped

    def trained(*_: object, **__: object) -> stage.TrainReport:
        return stage.TrainReport(
            Path("s"), 1, 10, 0.5, (), (), True, (Skipped("cut.jpg", "It is cut off."),)
        )

    monkeypatch.setattr(stage, "train", trained)
    assert main(["distill", "train", "--data", "pictures", "--out", "o"]) == 0
    said = capsys.readouterr()
    assert "1 picture could not be read" in said.err
    assert "cut.jpg: It is cut off." in said.err
    assert "weights of step 1, stopped early" in said.out


def test_evaluating_gives_the_figures_of_the_run(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workplace)
    call = ["distill", "evaluate", "runs/first/student.safetensors", "--data", "pictures"]
    assert main([*call, "--cache", "cache", "--workers", "1", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)["figures"]
    report = json.loads(Path("runs/first/report.json").read_text("utf-8"))
    # A run's report pools the sets as well, and says what the physical map misses.
    wanted = [f for f in report["test"] if not f["dataset"].startswith("all sets")]
    assert figures == [f for f in wanted if not f["metric"].startswith("physical map's error")]
    assert main([*call, "--cache", "cache", "--workers", "1", "--split", "val"]) == 0
    assert "scenes val" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "--data", "nowhere", "--out", "a"), "Cannot read nowhere/manifest.csv"),
        (
            ("train", "--data", "pictures", "--out", "runs/first", "--steps", "4", *QUICK),
            "holds a run with other settings",
        ),
        (("train", "--data", "pictures", "--out", "a", "--input-size", "33"), "input_size = 33"),
        (
            ("train", "--data", "pictures", "--out", "a", "--set", "student.blcoks=11"),
            "did you mean 'student.blocks'?",
        ),
        (
            ("train", "--data", "pictures", "--out", "a", "--set", "teacher_maps=some"),
            "teacher_maps is str, not boolean",
        ),
        (("train", "--data", "pictures", "--out", "a", "--set", "loop.steps=few"), "loop.steps is"),
        (
            ("train", "--data", "pictures", "--out", "a", "--config", "none.toml"),
            "Cannot read none",
        ),
        (("evaluate", "none.safetensors", "--data", "pictures"), "Cannot read the checkpoint"),
        (
            ("evaluate", "runs/first/student.safetensors", "--data", "pictures", "--split", "dev"),
            "There is no split 'dev'",
        ),
        (("train", "--data", "pictures", "--out", "runs/first/report.json/x"), "Cannot write"),
    ],
)
def test_a_mistake_gives_one_clear_error(
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(workplace)
    assert main(["distill", *arguments]) == 2
    said = capsys.readouterr().err
    assert_clear(said)
    assert message in said


def test_half_of_torchruns_environment_is_a_clear_error(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("RANK", "0")
    assert main(["distill", "train", "--data", "pictures", "--out", "a"]) == 2
    said = capsys.readouterr().err
    assert_clear(said)
    assert "RANK and not WORLD_SIZE" in said


@pytest.mark.parametrize("package", ["torch", "scipy", "tomli_w", "tensorboardX"])
def test_without_the_extra_the_command_that_brings_it_is_named(
    workplace: Path, tmp_path: Path, package: str
) -> None:
    hidden = without(tmp_path / "site", package)
    arguments = ("distill", "train", "--data", "pictures", "--out", "other", "--cache", "cache")
    ended = run(*arguments, *QUICK, cwd=workplace, environment=hidden)
    assert ended.returncode == 2
    assert_clear(ended.stderr)
    assert "pip install 'edgedf[distill]'" in ended.stderr


@pytest.mark.parametrize("verb", ["train", "evaluate"])
def test_help_shows_examples(
    verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["distill", verb, "--help"]) == 0
    assert f"edgedf distill {verb} " in capsys.readouterr().out
