import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgedf import typed_json
from edgedf.cli import evaluate, main
from edgedf.evaluation import ALL, MEAN, Report
from edgedf.imaging import prepare
from edgedf.result import sigmoid
from tests.cli.runs import assert_clear, run, shell
from tests.cli.runs import prepare as workbench
from tests.distill.pictures import write_manifest
from tests.runtime.absent import without
from tests.runtime.pictures import damaged, noise, write
from tests.runtime.tiny import SIZE, expected

Captured = pytest.CaptureFixture[str]
TFLITE, ONNX = "build/student_int8.tflite", "build/student_int8.onnx"
EXAMPLES = re.findall(r"\[bold\](edgedf .*?)\[/\]", evaluate._EPILOG)
SETS = {"faces": ("camera", "swaps"), "scenes": ("phone", "painter")}


def fill(folder: Path) -> None:
    """Tiny models in ``build/``; ``pictures/`` with a manifest, ``plain/`` with real and fake."""
    workbench(folder)
    rows = []
    for name, sources in SETS.items():
        for index in range(24):
            label, source = (("real", sources[0]), ("fake", sources[1]))[index % 2]
            split = "test" if index < 20 else "val"
            file = f"{name}/{index}.png"
            rows.append((file, name, label, f"{name}-{index}", split, source))
            write(folder / "pictures" / file, picture(name, index))
    rows.append(("moss.png", "natural", "real", "moss", "test", "forest"))
    write(folder / "pictures" / "moss.png", noise(48, 48, 999))
    write_manifest(folder / "pictures", rows)
    for label, source in (("real", "phone"), ("fake", "painter"), ("fake", "")):
        for index in range(3):
            name = f"{source or 'made'}-{index}.jpg"
            write(folder / "plain" / label / source / name, noise(48, 48, len(source) + index))


def picture(name: str, index: int) -> np.ndarray:
    """Fakes have more red in them; in scenes every fourth has less."""
    fake = index % 2 == 1 and not (name == "scenes" and index % 4 == 1)
    return noise(40, 50, index, red=0.95 if fake else 0.3 + index / 200)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    fill(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("NO_COLOR", "1")
    return tmp_path


def report_of(capsys: Captured, *arguments: str, code: int = 0) -> Report:
    assert main(["evaluate", *arguments, "--json", "--threads", "1"]) == code
    return typed_json.decode(Report, json.loads(capsys.readouterr().out))


@pytest.mark.parametrize("model", [TFLITE, ONNX])
def test_a_model_is_measured_on_the_test_split(model: str, bench: Path, capsys: Captured) -> None:
    report = report_of(capsys, model, "pictures")
    assert (report.data, report.split, report.pictures) == ("pictures", "test", 41)
    assert report.model.startswith(f"{model} (test-student 0.0.1 fp32, ")
    found = {(row.by, row.name): row.metrics for row in report.rows}
    faces, scenes = found["set", "faces"].auc, found["set", "scenes"].auc
    assert faces is not None and scenes is not None
    assert (faces.value, faces.n) == (1.0, 20)
    assert scenes.value < 0.9
    assert report.mean_auc is not None
    assert report.mean_auc.value == pytest.approx((1 + scenes.value) / 2)
    moss = found["set", "natural"]
    assert moss.auc is None
    assert moss.false_alarms is not None
    assert (moss.false_alarms.value, moss.false_alarms.n) == (1.0, 1)
    camera = found["source", "faces / camera"].false_alarms
    assert camera is not None and camera.n == 10
    assert report.skipped == ()


def test_the_tables_show_scores_verdicts_and_false_alarms(bench: Path, capsys: Captured) -> None:
    assert main(["evaluate", TFLITE, "pictures"]) == 0
    shown, said = capsys.readouterr()
    assert "Scores of pictures, test split" in shown
    for heading in ("AUC", "AP", "EER", "TPR@1%", "TPR@5%", "accuracy", "Brier", "ECE"):
        assert heading in shown
    assert re.search(r"faces +10\+10 +1\.000", shown)
    assert "mean of 2 sets" in shown
    assert re.search(r"real: natural / forest +1 +100\.0%", shown)
    assert re.search(r"fake: faces / swaps +10 +\d", shown)
    assert "faces / swaps, all real" not in shown  # says what faces says
    assert "changed" not in shown
    assert "Traceback" not in said


def test_predictions_are_a_line_a_picture(bench: Path, capsys: Captured) -> None:
    report_of(capsys, TFLITE, "pictures", "--csv", "out/predictions.csv")
    with Path("out/predictions.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == [
        *("file", "set", "source", "group", "label", "score", "verdict", "damaged")
    ]
    assert len(rows) == 41
    line = rows[3]
    assert line["file"] == "pictures/faces/3.png"
    assert (line["set"], line["source"], line["group"]) == ("faces", "swaps", "faces-3")
    score = sigmoid(expected(prepare(picture("faces", 3), SIZE))[0])
    assert float(line["score"]) == pytest.approx(score, abs=1e-5)
    assert (line["label"], line["verdict"]) == ("fake", "fake" if score >= 0.6 else "unsure")


def test_a_name_is_no_formula_in_a_spreadsheet(bench: Path, capsys: Captured) -> None:
    file = "=cmd.png"
    write(bench / "odd" / file, noise(40, 40))
    write_manifest(bench / "odd", [(file, "@set", "real", "+1", "test", "-x")])
    report_of(capsys, TFLITE, "odd", "--csv", "odd.csv")
    with Path("odd.csv").open(newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert [row[name] for name in ("file", "set", "source", "group")] == [
        "odd/=cmd.png",
        " @set",
        " -x",
        " +1",
    ]


def test_splits_and_sets_are_chosen(bench: Path, capsys: Captured) -> None:
    assert report_of(capsys, TFLITE, "pictures", "--split", "val").pictures == 8
    assert report_of(capsys, TFLITE, "pictures", "--split", "all").pictures == 49
    chosen = report_of(capsys, TFLITE, "pictures", "--set", "scenes", "--set", "natural")
    assert {row.name for row in chosen.rows if row.by == "set"} == {"scenes", "natural"}


def test_folders_named_real_and_fake_need_no_manifest(bench: Path, capsys: Captured) -> None:
    report = report_of(capsys, TFLITE, "plain")
    assert (report.split, report.pictures) == ("all", 9)
    names = {row.name for row in report.rows if row.by == "source"}
    assert names == {"plain / phone", "plain / painter", "plain / fake"}
    assert report_of(capsys, TFLITE, "plain", "--split", "train").pictures < 9
    for split in ("train", "test"):
        shutil.copytree("plain", f"divided/{split}")
    divided = report_of(capsys, TFLITE, "divided")
    assert (divided.split, divided.pictures) == ("test", 9)
    assert report_of(capsys, TFLITE, "divided", "--split", "all").pictures == 18


def test_videos_are_measured_where_the_manifest_has_them(bench: Path, capsys: Captured) -> None:
    manifest = bench / "pictures" / "manifest.csv"
    head, *lines = manifest.read_text().splitlines()
    # Frames 0, 4, 8 … are of one video, and so on; moss is a picture of no video.
    videos = [f"{line},v{number % 4 if number < 48 else ''}" for number, line in enumerate(lines)]
    videos[-1] = videos[-1].removesuffix("v")
    manifest.write_text("\n".join([f"{head},video", *videos]))
    report = report_of(capsys, TFLITE, "pictures")
    counts = {(row.level, row.name): (row.metrics.real, row.metrics.fake) for row in report.rows}
    assert counts["frame", "all"] == (21, 20)
    assert counts["video", "all"] == (5, 4)
    assert counts["video", "faces"] == (2, 2)
    assert main(["evaluate", TFLITE, "pictures"]) == 0
    shown = capsys.readouterr().out
    assert "Scores of videos, test split" in shown
    assert "Verdicts on videos" in shown


def test_robustness_adds_an_auc_for_each_change(bench: Path, capsys: Captured) -> None:
    report = report_of(capsys, TFLITE, "pictures", "--robustness")
    table = {(row.change, row.name): row.auc.value for row in report.robustness}
    assert len(table) == 11 * 4
    assert {name for _, name in table} == {ALL, "faces", "scenes", MEAN}
    assert table["unchanged", "faces"] == table["JPEG 50", "faces"] == 1.0
    assert main(["evaluate", TFLITE, "pictures", "--set", "faces", "--robustness"]) == 0
    shown = capsys.readouterr().out
    assert "AUC of changed pictures" in shown
    assert re.search(r"half size +1\.000 +1\.000 +both sides times 0\.5", shown)


def test_unreadable_pictures_are_left_out_counted_and_listed(bench: Path, capsys: Captured) -> None:
    (bench / "pictures" / "faces" / "4.png").write_bytes(b"no picture")
    report = report_of(capsys, TFLITE, "pictures", "--csv", "out.csv", code=1)
    assert [(entry.file, "not an image" in entry.reason) for entry in report.skipped] == [
        ("pictures/faces/4.png", True)
    ]
    assert report.pictures == 40
    assert Path("out.csv").read_text().count("\n") == 41
    assert main(["evaluate", TFLITE, "pictures"]) == 1
    said = capsys.readouterr().err
    assert "1 picture could not be read and is left out" in said
    assert "pictures/faces/4.png" in said


def test_too_many_unreadable_pictures_stop_it(bench: Path, capsys: Captured) -> None:
    for index in range(3):
        (bench / "pictures" / "faces" / f"{index}.png").write_bytes(b"")
    assert main(["evaluate", TFLITE, "pictures", "--csv", "out.csv"]) == 2
    out, said = capsys.readouterr()
    assert out == ""
    assert_clear(said)
    assert "3 of 41 pictures cannot be read" in said
    assert not Path("out.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("none.tflite", "pictures"), "none.tflite"),
        (("photo.jpg", "pictures"), "photo.jpg"),
        ((TFLITE, "nowhere"), "nowhere is no folder"),
        ((TFLITE, "photos"), "photos has no layout that is known here"),
        ((TFLITE, "pictures", "--layout", "manifets"), "There is no layout 'manifets'"),
        ((TFLITE, "pictures", "--split", "dev"), "There is no split 'dev'"),
        ((TFLITE, "pictures", "--set", "faces", "--set", "face"), "has no set 'face'"),
        ((TFLITE, "pictures", "--split", "train"), "The train split of pictures has no picture"),
        ((TFLITE, "plain", "--set", "a"), "plain has no set 'a'"),
        ((TFLITE, "pictures", "--csv", "a.jpg"), "--csv a.jpg is no name for a table"),
        ((TFLITE, "pictures", "--csv", "-"), "--csv - is no name for a table"),
        ((TFLITE, "pictures", "--csv", "photo.jpg/a.csv"), "Cannot write photo.jpg/a.csv"),
        ((TFLITE, "pictures", "--csv", "build"), "Cannot write build"),
    ],
)
def test_a_mistake_gives_one_clear_error(
    arguments: tuple[str, ...], said: str, bench: Path, capsys: Captured
) -> None:
    assert main(["evaluate", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert_clear(err)
    assert said in err


def test_it_needs_neither_torch_nor_scikit_learn(bench: Path) -> None:
    hidden = without(bench / "site", "torch", "sklearn", "scipy", "skimage", "safetensors", "onnx")
    call = ("evaluate", TFLITE, "pictures", "--robustness", "--set", "faces")
    done = run(*call, cwd=bench, environment=hidden)
    assert done.returncode == 0, done.stderr
    script = (
        "import sys; from edgedf.cli import main; main(sys.argv[1:]);"
        "print(*sorted({'torch', 'sklearn', 'scipy'} & set(sys.modules)), 'loaded')"
    )
    seen = subprocess.run(
        [sys.executable, "-c", script, *call], cwd=bench, capture_output=True, text=True, timeout=60
    )
    assert seen.stdout.splitlines()[-1].strip() == "loaded"


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_in_the_help_work_as_they_stand(example: str, tmp_path: Path) -> None:
    fill(tmp_path)
    done = shell(example, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    made = example.partition(" > ")[2] or example.partition("--csv ")[2]
    assert (tmp_path / made).stat().st_size > 0 if made else "faces" in done.stdout


def test_the_help_shows_the_examples(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["evaluate", "--help"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert len(EXAMPLES) >= 2
    assert all(example in lines for example in EXAMPLES)


@pytest.mark.parametrize(
    ("real", "fake"), [("Real", "Fake"), ("REAL", "FAKE"), ("0_real", "1_fake")]
)
def test_folders_of_classes_are_judged_whole_however_they_are_spelt(
    real: str, fake: str, bench: Path, capsys: Captured
) -> None:
    wanted = report_of(capsys, TFLITE, "plain")
    Path("plain/real").rename(f"plain/{real}")
    Path("plain/fake").rename(f"plain/{fake}")
    report = report_of(capsys, TFLITE, "plain")
    assert (report.split, report.pictures) == ("all", 9)
    assert report.rows[0] == wanted.rows[0]
    assert report_of(capsys, TFLITE, "plain", "--split", "test").pictures < 9


def test_damaged_files_and_those_left_out_are_counted(bench: Path, capfd: Captured) -> None:
    bad = next(Path("plain/real").rglob("*.jpg"))
    bad.write_bytes(damaged(bad.read_bytes()))
    Path("plain/fake/a.heic").touch()
    assert main(["evaluate", TFLITE, "plain", "--json", "--csv", "p.csv", "--threads", "1"]) == 0
    out, err = capfd.readouterr()
    report = typed_json.decode(Report, json.loads(out))
    assert report.damaged == (str(bad),)
    assert report.left_out == {".heic": 1}
    assert report.pictures == 9
    assert "Corrupt" not in err
    assert f"1 picture is damaged and judged all the same: {bad}." in err
    assert "1 file left out for their suffix: 1 .heic." in err
    with Path("p.csv").open(newline="", encoding="utf-8") as stream:
        assert {row["file"]: row["damaged"] for row in csv.DictReader(stream)}[str(bad)] == "true"
    report = report_of(capfd, TFLITE, "plain", "--robustness")
    assert report.damaged == (str(bad),)
