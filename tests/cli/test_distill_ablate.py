import csv
import json
from pathlib import Path

import pytest

from edgedf.cli import main
from tests.cli.runs import assert_clear, run
from tests.distill.pictures import write_dataset
from tests.runtime.absent import without

QUICK = ("--input-size", "64", "--workers", "1", "--penalty", "0.5")
FOLDER = ("--data", "pictures", "--out", "results", "--cache", "cache")
RECIPES = ("--recipes", "frequency, student")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``pictures/`` of two sources, ``results/`` of two recipes and ``cache/``."""
    folder = tmp_path_factory.mktemp("work")
    manifest = write_dataset(folder / "pictures", groups=2) / "manifest.csv"
    rows = list(csv.reader(manifest.read_text("utf-8").splitlines()))
    for row in rows[1:]:
        row[5] = row[1]  # each set is a source of its own
    with manifest.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)
    compared = run("distill", "ablate", *FOLDER, *QUICK, *RECIPES, cwd=folder)
    assert compared.returncode == 0, compared.stderr
    for text in (
        "frequency: teacher's fine-detail branch",
        "student: student, labels only",
        "faces256 self-blended test",
        "scenes without scenes",
    ):
        assert text in compared.stdout
    assert "xception" not in compared.stdout
    return folder


def test_results_that_are_there_are_given_as_json(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workplace)
    files = {path: path.stat().st_mtime_ns for path in Path("results").iterdir()}
    assert len(files) == 6
    assert main(["distill", "ablate", *FOLDER, *QUICK, *RECIPES, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["settings"] == {
        "penalty": 0.5,
        "distilled": 0.5,
        "steps": 600,
        "batch": 16,
        "seed": 0,
        "size": 64,
    }
    assert [(row["recipe"], row["fold"]) for row in report["rows"]] == [
        (recipe, fold)
        for recipe in ("frequency", "student")
        for fold in ("test", "without faces256", "without scenes")
    ]
    titles = [[figure["dataset"] for figure in row["figures"]] for row in report["rows"][:3]]
    assert titles == [
        ["faces256 test", "faces256 self-blended test", "scenes test"],
        ["faces256 without faces256"],
        ["scenes without scenes"],
    ]
    assert {path: path.stat().st_mtime_ns for path in Path("results").iterdir()} == files


def test_markdown_is_two_tables(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workplace)
    assert main(["distill", "ablate", *FOLDER, *QUICK, *RECIPES, "--markdown"]) == 0
    within, out = capsys.readouterr().out.split("\n\n")
    heads = [table.splitlines()[0] for table in (within, out)]
    assert heads == [
        "| recipe | faces256 test | faces256 self-blended test | scenes test |",
        "| recipe | faces256 without faces256 | scenes without scenes | mean |",
    ]
    for table in (within, out):
        lines = table.splitlines()
        assert len(lines) == 5
        assert lines[2].startswith("| teacher's fine-detail branch | ")
        assert lines[3].startswith("| student, labels only | ")


def test_options_reach_the_recipes(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from experiments import ablation

    asked: list[tuple[object, ...]] = []

    def compared(data: Path, out: Path, **options: object) -> tuple[ablation.Row, ...]:
        asked.append((data, out, options["recipes"], options["settings"], options["workers"]))
        return ()

    monkeypatch.setattr(ablation, "ablate", compared)
    options = ["--steps", "7", "--batch", "3", "--seed", "5", "--input-size", "96"]
    assert main(["distill", "ablate", *FOLDER, *options, "--workers", "2", "--json"]) == 0
    settings = ablation.AblationSettings(steps=7, batch=3, seed=5, size=96)
    every = tuple(ablation.RECIPES)
    assert asked == [(Path("pictures"), Path("results"), every, settings, 2)]
    assert json.loads(capsys.readouterr().out)["rows"] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--recipes", "frequency,rbg"), "There is no recipe rbg."),
        (("--recipes", ""), "There is no recipe at all."),
        (("--data", "nowhere"), "Cannot read nowhere/manifest.csv"),
        (("--input-size", "48", "--recipes", "frequency"), "48"),
        (("--cache", "pictures/manifest.csv/x"), "Cannot write"),
        (("--out", "pictures/manifest.csv/x", *RECIPES), "Cannot write"),
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
    assert main(["distill", "ablate", *FOLDER, *QUICK, "--json", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert_clear(said.err)
    assert message in said.err


def test_the_names_of_the_recipes_are_in_the_error_and_in_the_help(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from experiments import ablation

    monkeypatch.chdir(workplace)
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["distill", "ablate", *FOLDER, "--recipes", "all"]) == 2
    assert f"Expected: {', '.join(ablation.RECIPES)}\n" in capsys.readouterr().err
    assert main(["distill", "ablate", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "edgedf distill ablate --data pictures/ --out runs/ablation" in shown
    for name in ablation.RECIPES:
        assert name in shown.split("Recipes: ")[1]


def test_a_single_source_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_dataset(tmp_path / "pictures", groups=1)
    assert main(["distill", "ablate", *FOLDER, *QUICK, *RECIPES, "--json"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert_clear(said.err)
    assert "Nothing can be left out." in said.err


@pytest.mark.parametrize("package", ["torch", "sklearn"])
def test_without_the_extra_the_command_that_brings_it_is_named(
    workplace: Path, tmp_path: Path, package: str
) -> None:
    hidden = without(tmp_path / "site", package)
    ended = run("distill", "ablate", *FOLDER, cwd=workplace, environment=hidden)
    assert ended.returncode == 2
    assert_clear(ended.stderr)
    assert "pip install 'edgedf[distill]'" in ended.stderr
