import json
from pathlib import Path

import pytest

from edgedf.cli import main
from tests.cli.runs import assert_clear, run
from tests.distill.pictures import write_dataset
from tests.runtime.absent import without

QUICK = (
    *("--workers", "1", "--set", "input_size=32", "--set", "crops=0", "--set", "renderings=1"),
    *("--set", "teacher.first_block=8", "--set", "teacher.last_block=8", "--penalty", "0.5"),
    *("--set", "teacher.map_channels=8", "--set", "teacher.map_blocks=1", "--steps", "2"),
    *("--set", "loop.batch=2", "--set", "loop.device=cpu"),
)
TEACHER = Path("runs/first/teacher.safetensors")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``pictures/``, a teacher in ``runs/first`` and the statistics in ``cache/``."""
    folder = tmp_path_factory.mktemp("work")
    write_dataset(folder / "pictures", groups=3)
    taught = run(
        *("distill", "teach", "--data", "pictures", "--out", "runs/first", "--cache", "cache"),
        *QUICK,
        cwd=folder,
    )
    assert taught.returncode == 0, taught.stderr
    settings, figures = taught.stderr, taught.stdout
    for line in ("input_size = 32", "penalty = 0.5", "[loop]", "steps = 2", "[teacher]"):
        assert f"  {line}\n" in settings
    assert "Settings:" not in figures
    for text in (
        "scenes test",
        "rgb alone: scenes test",
        "rendered depth of field test",
        "Calibration",
        "all sets pooled val",
        "Brier score",
        "Temperatures: rgb ",
        f"Teacher: {TEACHER}\n",
        f"Next: edgedf distill train --teacher {TEACHER} --data pictures --out runs/student\n",
    ):
        assert text in figures
    return folder


def test_teaching_again_changes_nothing_and_gives_json(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workplace)
    before = TEACHER.read_bytes()
    options = ["--data", "pictures", "--out", "runs/first", "--cache", "cache"]
    assert main(["distill", "teach", *options, *QUICK, "--json"]) == 0
    out, err = capsys.readouterr()
    assert "Settings:" not in err
    report = json.loads(out)
    assert report == json.loads(Path("runs/first/teacher.json").read_text("utf-8"))
    assert report["teacher"] == str(TEACHER)
    assert list(report["temperatures"]) == ["rgb", "frequency", "defocus", "all"]
    assert {figure["metric"] for figure in report["calibration"]} == {"ECE", "Brier score"}
    assert {"scenes test", "defocus alone: faces256 test"} < {f["dataset"] for f in report["test"]}
    assert TEACHER.read_bytes() == before


def test_some_modalities_make_a_teacher_of_those(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workplace)
    options = ["--data", "pictures", "--out", "runs/two", "--cache", "cache", *QUICK]
    call = ["distill", "teach", *options, "--modalities", "rgb, frequency"]
    assert main([*call, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert list(report["temperatures"]) == ["rgb", "frequency", "all"]
    alone = {f["dataset"].split(" ")[0] for f in report["test"] if " alone: " in f["dataset"]}
    assert alone == {"rgb", "frequency"}
    # The settings of the run make the same again.
    before = Path("runs/two/teacher.safetensors").read_bytes()
    again = ["--config", "runs/two/settings.toml", "--cache", "cache", "--workers", "1"]
    assert main(["distill", "teach", "--data", "pictures", "--out", "runs/two", *again]) == 0
    out, err = capsys.readouterr()
    assert '"rgb",' in err and '"frequency",' in err and '"defocus",' not in err
    assert "Temperatures: rgb " in out
    assert Path("runs/two/teacher.safetensors").read_bytes() == before


def test_a_student_learns_from_the_teacher_that_the_command_names(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workplace)
    call = [
        *("distill", "train", "--data", "pictures", "--out", "runs/student", "--cache", "cache"),
        *("--workers", "1", "--input-size", "32", "--steps", "1", "--batch", "4"),
        *("--set", "student.judged_blocks=1", "--set", "student.decoder_channels=8"),
        *("--set", "crops=0", "--set", "renderings=1"),
    ]
    assert main([*call, "--teacher", str(TEACHER)]) == 0
    assert "Student: runs/student/student.safetensors" in capsys.readouterr().out
    report = json.loads(Path("runs/first/teacher.json").read_text("utf-8"))
    settings = Path("runs/student/settings.toml").read_text("utf-8")
    assert f"# Teacher's SHA-256: {report['sha256']}\n" in settings
    card = Path("runs/student/MODEL_CARD.md").read_text("utf-8")
    assert "a teacher's verdicts and maps" in card
    assert f"SHA-256 of what its teacher judges by: `{report['sha256']}`" in card
    assert main(call) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert_clear(said.err)
    assert "runs/student holds a run with other settings" in said.err


def test_pictures_that_were_left_out_are_named(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from edgedf.distill.training import teach as stage
    from edgedf.evaluation import Skipped

    def taught(*_: object, **__: object) -> stage.TeachReport:
        skipped = (Skipped("cut.jpg", "It is cut off."),)
        return stage.TeachReport(Path("t"), "0" * 64, {"rgb": 0.5}, (), (), (), skipped)

    monkeypatch.setattr(stage, "teach", taught)
    assert main(["distill", "teach", "--data", "pictures", "--out", "o"]) == 0
    said = capsys.readouterr()
    assert "1 picture could not be read" in said.err
    assert "cut.jpg: It is cut off." in said.err
    assert "Temperatures: rgb 0.50" in said.out


def test_paths_are_shown_as_they_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Brackets are markup to the library that prints."""
    from edgedf.distill.training import teach as stage

    path = Path("runs/[red]/[/x]/teacher.safetensors")

    def taught(*_: object, **__: object) -> stage.TeachReport:
        return stage.TeachReport(path, "0" * 64, {"rgb": 0.5}, (), (), ())

    monkeypatch.setattr(stage, "teach", taught)
    assert main(["distill", "teach", "--data", "[bold]", "--out", "o"]) == 0
    out = capsys.readouterr().out
    assert f"Teacher: {path}\n" in out
    assert f"--teacher {path} --data [bold] --out runs/student\n" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--modalities", "rgb,depth"), "No teacher can be built from the modalities rgb, depth"),
        (("--modalities", ""), "No teacher can be built from the modalities -"),
        (("--modalities", "rgb,rgb"), "No teacher can be built from the modalities rgb, rgb"),
        (("--backbone", "lite9"), "teacher.backbone"),
        (("--penalty", "0"), "penalty = 0.0 is outside"),
        (("--set", "input_size=33"), "input_size = 33 is outside"),
        (("--set", "teacher.backbnoe=lite1"), "did you mean 'teacher.backbone'?"),
        (("--config", "none.toml"), "Cannot read none.toml"),
        (("--out", "runs/first", *QUICK, "--seed", "1"), "holds a run with other settings"),
        (("--out", "runs/first", *QUICK, "--steps", "3"), "holds a run with other settings"),
        (("--set", "seed=1"), "did you mean 'loop.seed'?"),
        (("--set", "teacher.map_channels=-1"), "map_channels = -1 is outside"),
        (("--data", "nowhere"), "Cannot read nowhere/manifest.csv"),
        (("--out", "runs/first/teacher.json/x"), "Cannot write"),
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
    assert main(["distill", "teach", "--data", "pictures", "--out", "a", "--json", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert_clear(said.err)
    assert message in said.err
    assert not Path("a").exists()


@pytest.mark.parametrize("package", ["torch", "sklearn"])
def test_without_the_extra_the_command_that_brings_it_is_named(
    workplace: Path, tmp_path: Path, package: str
) -> None:
    hidden = without(tmp_path / "site", package)
    arguments = ("distill", "teach", "--data", "pictures", "--out", "other")
    ended = run(*arguments, cwd=workplace, environment=hidden)
    assert ended.returncode == 2
    assert_clear(ended.stderr)
    assert "pip install 'edgedf[distill]'" in ended.stderr


def test_help_shows_examples(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["distill", "teach", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "edgedf distill teach --data pictures/ --out runs/rgb --modalities rgb" in shown
    assert "goes on when it is started again" in shown
