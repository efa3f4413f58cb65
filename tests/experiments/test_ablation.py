import csv
import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from edgedf import typed_json
from edgedf.distill.networks.probe import Calibration
from edgedf.errors import ConfigError, DataError
from edgedf.spec import Accuracy
from experiments import recipes as fitting
from experiments.ablation import Row, ablate, as_markdown, main
from experiments.recipes import RECIPES, AblationSettings
from tests.distill.pictures import SIDE, crop, write, write_dataset, write_manifest

SETTINGS = AblationSettings(penalty=0.1, size=96)
CLOSED = ("rgb", "frequency", "defocus", "teacher", "student", "student-distilled")
FOLDS = ("test", "without one", "without two")


class Computed(Exception):
    """Something was computed that should have been read."""


def write_noisy(folder: Path) -> Path:
    """Fakes are noisy in both sources, so what one teaches holds for the other."""
    rng = np.random.default_rng(0)
    rows = []
    for source in ("one", "two"):
        for number in range(8):
            split = "test" if number < 3 else "train"
            for label in ("real", "fake"):
                noise = rng.normal(0, 60 if label == "fake" else 0.1, (SIDE, SIDE, 3))
                picture = np.clip(crop(rng) + noise, 0, 255)
                file = f"{source}/{number}-{label}.png"
                write(folder / file, picture.astype(np.uint8))
                rows.append((file, "scenes", label, f"{source}{number}{label}", split, source))
    write_manifest(folder, rows)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_noisy(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def compared(
    tmp_path_factory: pytest.TempPathFactory, data: Path, cache: Path
) -> tuple[Path, tuple[Row, ...]]:
    """A folder with the results of all recipes in closed form, and these."""
    out = tmp_path_factory.mktemp("results")
    return out, ablate(data, out, cache=cache, recipes=CLOSED, settings=SETTINGS, workers=1)


@pytest.fixture
def copied(compared: tuple[Path, tuple[Row, ...]], tmp_path: Path) -> Path:
    """The same results, to be damaged."""
    out = tmp_path / "results"
    out.mkdir()
    for path in compared[0].iterdir():
        (out / path.name).write_bytes(path.read_bytes())
    return out


def forbid(patch: pytest.MonkeyPatch) -> None:
    """Let nothing be fitted."""

    def refuse(*_: object, **__: object) -> None:
        raise Computed

    patch.setattr(fitting, "fit_probe", refuse)
    patch.setattr(fitting, "learn_labels", refuse)


def fitted(patch: pytest.MonkeyPatch) -> list[int]:
    """How many records each fit from now on is made to.

    Each is followed by one without the groups that its scale comes from, which does not count.
    """
    counts: list[int] = []
    fit, is_trial = fitting.fit_probe, itertools.cycle([False, True])

    def counted(features: np.ndarray, *rest: np.ndarray, penalty: float) -> object:
        if not next(is_trial):
            counts.append(len(features))
        return fit(features, *rest, penalty=penalty)

    patch.setattr(fitting, "fit_probe", counted)
    return counts


def test_what_one_source_teaches_is_measured_on_the_other(
    compared: tuple[Path, tuple[Row, ...]],
) -> None:
    _, rows = compared
    assert [(row.recipe, row.fold) for row in rows] == [
        (recipe, fold) for recipe in CLOSED for fold in FOLDS
    ]
    for row in rows:
        (figure,) = row.figures
        title = "scenes test" if row.fold == "test" else f"scenes {row.fold}"
        assert (figure.dataset, figure.metric) == (title, "AUC")
        assert figure.n == (12 if row.fold == "test" else 16)
        # Noise is no blur: the map alone need not tell them apart.
        assert figure.value > 0.9 or row.recipe == "defocus", row


def test_a_teacher_and_its_student_are_fitted_to_the_same_records(
    data: Path, cache: Path, tmp_path: Path
) -> None:
    """Twenty in the training split, sixteen of the source that stays."""
    with pytest.MonkeyPatch.context() as patch:
        counts = fitted(patch)
        recipes = ("teacher", "student-distilled")
        ablate(data, tmp_path, cache=cache, recipes=recipes, settings=SETTINGS, workers=1)
    # Three branches, then the same and the student itself.
    assert counts == [20] * 3 + [16] * 6 + [20] * 4 + [16] * 8


def test_a_distilled_student_follows_its_teacher_by_its_share(
    data: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With none of the teacher it is the student of labels, which no share changes."""
    said: list[np.ndarray] = []
    scaled = Calibration.__call__

    def noted(scale: Calibration, values: np.ndarray) -> np.ndarray:
        said.append(scaled(scale, values))
        return said[-1]

    monkeypatch.setattr(Calibration, "__call__", noted)

    def logits(recipe: str, share: float) -> np.ndarray:
        settings = dataclasses.replace(SETTINGS, distilled=share)
        ablate(data, tmp_path, cache=cache, recipes=(recipe,), settings=settings, workers=1)
        return said[-1]

    alone = logits("student", 0.0)
    assert np.array_equal(logits("student", 1.0), alone)
    assert np.allclose(logits("student-distilled", 0.0), alone, rtol=1e-5)
    assert not np.allclose(logits("student-distilled", 1.0), alone, rtol=1e-4)


def test_results_that_are_there_are_read(
    compared: tuple[Path, tuple[Row, ...]],
    data: Path,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, rows = compared
    files = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert len(files) == 18
    found = [typed_json.decode(Row, json.loads(path.read_text("utf-8"))) for path in files]
    assert sorted(found, key=str) == sorted(rows, key=str)
    forbid(monkeypatch)
    again = ablate(data, out, cache=cache, recipes=CLOSED, settings=SETTINGS, workers=1)
    assert again == rows
    some = ablate(data, out, cache=cache, recipes=("teacher",), settings=SETTINGS, workers=1)
    assert some == rows[9:12]
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == files
    with pytest.raises(Computed):
        ablate(data, tmp_path, cache=cache, recipes=("rgb",), settings=SETTINGS, workers=1)


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b"{}",
        b'{"recipe": "rgb", "fold": "test", "figures": [1]}',
        b'{"recipe": "rgb", "fold": "test", "figures": [], "more": 1}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_result_is_computed_again(
    compared: tuple[Path, tuple[Row, ...]],
    copied: Path,
    data: Path,
    cache: Path,
    damage: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (path,) = copied.glob("rgb, without two, *.json")
    intact = path.read_bytes()
    path.write_bytes(damage)
    counts = fitted(monkeypatch)
    rows = ablate(data, copied, cache=cache, recipes=CLOSED, settings=SETTINGS, workers=1)
    assert counts == [16]
    assert rows == compared[1]
    assert path.read_bytes() == intact


@pytest.mark.parametrize("change", [{"penalty": 0.2}, {"distilled": 0.4}, {"seed": 1}])
def test_with_another_setting_it_is_computed_again(
    compared: tuple[Path, tuple[Row, ...]],
    copied: Path,
    data: Path,
    cache: Path,
    change: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts = fitted(monkeypatch)
    other = dataclasses.replace(SETTINGS, **change)  # type: ignore[arg-type]
    ablate(data, copied, cache=cache, recipes=("rgb",), settings=other, workers=1)
    assert counts == [20, 16, 16]
    assert len(list(copied.glob("*.json"))) == 21
    # The results of before are still there.
    again = ablate(data, copied, cache=cache, recipes=("rgb",), settings=SETTINGS, workers=1)
    assert counts == [20, 16, 16]
    assert again == compared[1][:3]


@pytest.mark.parametrize("change", ["picture", "split", "source"])
def test_with_another_picture_or_another_split_it_is_computed_again(
    cache: Path, tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The names of the files and their labels stay."""
    data, out = write_noisy(tmp_path / "data"), tmp_path / "out"
    ablate(data, out, cache=cache, recipes=("rgb",), settings=SETTINGS, workers=1)
    manifest = data / "manifest.csv"
    head, *rows = csv.reader(manifest.read_text("utf-8").splitlines())
    if change == "picture":
        write(data / "one" / "7-fake.png", crop(np.random.default_rng(7)))
    for row in rows:
        if change == "split" and "/3-" in row[0]:
            row[4] = "val"
        if change == "source" and row[0].startswith("one/4"):
            row[5] = "two"
    with manifest.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([head, *rows])
    counts = fitted(monkeypatch)
    ablate(data, out, cache=cache, recipes=("rgb",), settings=SETTINGS, workers=1)
    expected = {"picture": [20, 16, 16], "split": [16, 16, 16], "source": [20, 18, 14]}
    assert counts == expected[change]


def test_a_run_that_was_cut_off_goes_on(
    compared: tuple[Path, tuple[Row, ...]],
    data: Path,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fit, fits = fitting.fit_probe, 0

    def cut(*arguments: np.ndarray, penalty: float) -> object:
        nonlocal fits
        fits += 1
        if fits == 9:  # two a fold
            raise KeyboardInterrupt
        return fit(*arguments, penalty=penalty)

    options = {"cache": cache, "recipes": ("rgb", "frequency"), "settings": SETTINGS}
    with monkeypatch.context() as patch:
        patch.setattr(fitting, "fit_probe", cut)
        with pytest.raises(KeyboardInterrupt):
            ablate(data, tmp_path, workers=1, **options)  # type: ignore[arg-type]
    counts = fitted(monkeypatch)
    told: list[tuple[str, int, int]] = []
    rows = ablate(
        data,
        tmp_path,
        workers=1,
        progress=lambda *step: told.append(step),
        **options,  # type: ignore[arg-type]
    )
    assert counts == [16, 16]
    assert rows == compared[1][:6]
    assert [step for step in told if step[0] == "recipes"] == [
        ("recipes", 1, 2),
        ("recipes", 2, 2),
    ]


@pytest.mark.parametrize(
    ("recipes", "named"), [(("rgb", "rbg"), "rbg"), (("xeption",), "xeption"), ((), "at all")]
)
def test_an_unknown_recipe_is_named_with_those_that_are_there(
    recipes: tuple[str, ...], named: str, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=f"no recipe {named}") as caught:
        ablate(data, tmp_path / "out", cache=tmp_path / "cache", recipes=recipes)
    assert caught.value.expected == ", ".join(RECIPES)
    # Nothing has been computed for it.
    assert list(tmp_path.iterdir()) == []


def test_with_one_source_there_is_nothing_to_compare(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", groups=1)
    settings = dataclasses.replace(SETTINGS, size=32)
    with pytest.raises(DataError, match="Nothing can be left out"):
        ablate(data, tmp_path / "out", cache=tmp_path / "cache", settings=settings, workers=1)


@pytest.mark.parametrize(
    ("recipe", "change"),
    [
        ("rgb", {"penalty": 0.0}),
        ("student-distilled", {"distilled": 2.0}),
        ("fine-tune", {"steps": 0}),
        ("fine-tune", {"batch": 0}),
        ("rgb", {"size": 33}),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    data: Path, cache: Path, tmp_path: Path, recipe: str, change: dict[str, float]
) -> None:
    with pytest.raises(ConfigError):
        settings = dataclasses.replace(SETTINGS, **change)  # type: ignore[arg-type]
        ablate(data, tmp_path, cache=cache, recipes=(recipe,), settings=settings, workers=1)


def figure(title: str, value: float) -> Accuracy:
    return Accuracy(title, "AUC", value, value - 0.1, value + 0.05, 40 if "test" in title else 60)


def test_a_table_has_a_line_a_recipe_and_the_mean() -> None:
    rows = [
        Row("student", "test", (figure("a test", 0.9), figure("b test", 0.8))),
        Row("student", "without one", (figure("a without one", 0.6), figure("b without one", 0.7))),
        Row("student", "without two", (figure("b without two", 0.5),)),
        Row("mine", "without one", (figure("a without one", 0.75),)),
    ]
    within, out = as_markdown(rows).split("\n\n")
    assert within.splitlines() == [
        "| recipe | a test | b test |",
        "|---|---|---|",
        "| student, labels only | 0.900 (0.800 to 0.950) | 0.800 (0.700 to 0.850) |",
        "| mine |  |  |",
        "| n | 40 | 40 |",
    ]
    assert out.splitlines() == [
        "| recipe | a without one | b without one | b without two | mean |",
        "|---|---|---|---|---|",
        "| student, labels only | 0.600 (0.500 to 0.650) | 0.700 (0.600 to 0.750) "
        "| 0.500 (0.400 to 0.550) | 0.600 |",
        "| mine | 0.750 (0.650 to 0.800) |  |  | 0.750 |",
        "| n | 60 | 60 | 60 |  |",
    ]
    assert out.endswith("\n")


def test_the_table_of_a_run_has_all_its_recipes(compared: tuple[Path, tuple[Row, ...]]) -> None:
    for table in as_markdown(compared[1]).split("\n\n"):
        lines = table.splitlines()
        assert [line.split(" | ")[0].removeprefix("| ") for line in lines[2:-1]] == [
            RECIPES[name] for name in CLOSED
        ]
        assert {line.count("|") for line in lines} == {lines[0].count("|")}


def test_a_recipe_that_learns_step_by_step_leaves_its_result_alone(
    data: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = AblationSettings(steps=2, batch=4, size=64)
    folders: list[str] = []

    def note(step: str, done: int, total: int) -> None:
        if (step, done) == ("training steps", 2):
            folders.append(next(path.name for path in tmp_path.iterdir() if path.is_dir()))

    options = {"cache": cache, "recipes": ("fine-tune",), "settings": settings}
    rows = ablate(data, tmp_path, workers=1, progress=note, **options)  # type: ignore[arg-type]
    assert [(row.recipe, row.fold, row.figures[0].n) for row in rows] == [
        ("fine-tune", "test", 12),
        ("fine-tune", "without one", 16),
        ("fine-tune", "without two", 16),
    ]
    # Each fold had a folder of its own while it learned.
    assert [name.rsplit(", ", 1)[0] for name in folders] == [f"fine-tune, {x}" for x in FOLDS]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"{name}.json" for name in folders
    )
    forbid(monkeypatch)
    assert ablate(data, tmp_path, workers=1, **options) == rows  # type: ignore[arg-type]


def test_the_script_gives_tables_and_json(
    compared: tuple[Path, tuple[Row, ...]],
    data: Path,
    cache: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = ("--data", str(data), "--out", str(compared[0]), "--cache", str(cache))
    options = ("--penalty", "0.1", "--size", "96", "--workers", "1", "--recipes", "rgb, student")
    assert main([*places, *options]) == 0
    chosen = [row for row in compared[1] if row.recipe in ("rgb", "student")]
    assert capsys.readouterr().out == as_markdown(chosen)
    assert main([*places, *options, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["settings"] == typed_json.encode(SETTINGS)
    assert document["rows"] == typed_json.encode(chosen)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--recipes", "frequency,rbg"), "There is no recipe rbg."),
        (("--recipes", ""), "There is no recipe at all."),
        (("--data", "nowhere"), "Cannot read nowhere/manifest.csv"),
        (("--size", "48", "--recipes", "frequency"), "48"),
    ],
)
def test_the_script_names_a_mistake(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    places = ("--data", str(data), "--out", str(tmp_path), "--cache", str(tmp_path))
    assert main([*places, *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert "Traceback" not in printed.err
