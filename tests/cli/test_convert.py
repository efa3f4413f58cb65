import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import pytest

import edgedf.sample
from edgedf.artifact import ModelFormat, read_artifact
from edgedf.cli import convert as convert_module
from edgedf.cli import main
from edgedf.machine import this_processor
from edgedf.quantize.auto import candidate, search
from edgedf.runtime.models import shipped_model
from tests.cli.runs import assert_clear, run
from tests.quantize.students import (
    convert_without_torch,
    hostile,
    photograph_folder,
    scratch,
    ship_the_small_one,
    shipped_conversion,
    shipped_int8,
    small_checkpoint,
    small_model,
    write_manifest,
)
from tests.runtime.absent import without
from tests.runtime.pictures import write_broken

Captured = pytest.CaptureFixture[str]
FORMATS: tuple[ModelFormat, ...] = ("tflite", "onnx")


@cache
def as_json() -> tuple[dict[str, Any], Path]:
    """The shipped student converted with ``--json`` on a third of the sample."""
    folder = scratch() / "json"
    (folder / "pictures").mkdir(parents=True)
    for image in edgedf.sample.images()[::3]:
        shutil.copy(image.path, folder / "pictures")
    options = ("--json", "--calibration", "pictures", "--samples", "16")
    return json.loads(convert_without_torch(folder, *options).stdout), folder


def convert_small(model_format: ModelFormat, *arguments: str | Path) -> int:
    """Run it in this process on a small student and the photographs."""
    given = (small_model(model_format), "--calibration", photograph_folder(), "--samples", 12)
    return main(["convert", *map(str, (*given, *arguments))])


# The shipped student


def test_the_shipped_student_becomes_int8_in_both_formats_without_torch() -> None:
    code, _, err, folder = shipped_conversion()
    assert code == 0, err
    assert "Error" not in err
    assert sorted(path.name for path in folder.iterdir()) == [
        "student_int8.onnx",
        "student_int8.tflite",
    ]
    for path in folder.iterdir():
        assert path.stat().st_size <= 1.6e6
        spec = read_artifact(path).spec
        assert spec.precision == "int8"
        assert spec.calibration is not None
        assert spec.calibration.samples == 32


def test_the_files_judge_the_sample_as_the_float_student_does() -> None:
    for model_format in FORMATS:
        flips = 0
        with (
            edgedf.Detector(shipped_int8(model_format), threads=1) as small,
            edgedf.Detector(shipped_model(model_format), threads=1) as full,
        ):
            for image in edgedf.sample.images()[::4]:
                labels = {small.detect(image.path).label, full.detect(image.path).label}
                flips += labels == {"real", "fake"}
        assert flips <= 1


def test_the_table_has_a_mark_for_every_output_and_fits_80_columns() -> None:
    lines = shipped_conversion()[1].splitlines()
    marked = [line.split()[:2] for line in lines if line.lstrip().startswith(("✓", "✗"))]
    assert marked.pop(0) == ["✓", "nothing"]  # to worry about: the audit
    assert marked == [["✓", what] for what in ("fake_logit", "defocus_map", "verdicts")] * 5
    assert max(map(len, lines)) <= 80
    text = " ".join(shipped_conversion()[1].split())
    for part in (
        "tflite int8 against tflite fp32 on",
        "images that calibration never saw",
        "build/student_int8.tflite",
        "build/student_int8.onnx",
        "of the float file",
        "XNNPACK takes them over in 1 partition; left to the interpreter: CAST",
        "CAST uint8 → float32, QUANTIZE float32 → int8, 2 × DEQUANTIZE int8 → float32",
        "correlation ≥ 0.99",
        "mean ≤ 0.02 of the range",
        "allowed: 1",
        "seconds",
        "make tflite",
    ):
        assert part in text


def test_json_is_one_document_with_everything_in_it() -> None:
    data, folder = as_json()
    assert data["passed"] is True
    assert data["precision"] == "int8"
    assert data["calibration"]["samples"] == 16
    assert data["held_out"] == 18
    tflite, onnx = data["models"]
    assert tflite["path"] == "build/student_int8.tflite"
    assert tflite["bytes"] == (folder / tflite["path"]).stat().st_size <= 1.6e6
    assert tflite["delegate_partitions"] == 1
    assert tflite["float_operators"] == []
    assert onnx["delegate_partitions"] is None
    assert {model["speed"]["processor"] for model in (tflite, onnx)} == {this_processor().name}
    assert data["seconds"]["time"] < 5  # a second, but for other work on this machine
    assert set(onnx["float_operators"]) <= {"Resize", "DequantizeLinear", "QuantizeLinear"}
    assert len(data["comparisons"]) == 5
    for comparison in data["comparisons"]:
        logit, dense = comparison["outputs"]
        assert logit["correlation"] >= 0.99
        assert dense["mean_relative"] <= 0.02
        assert comparison["verdicts"]["flips"] <= comparison["verdicts"]["allowed"]


# The help, and the page

PAGE = Path(__file__).resolve().parents[2] / "docs" / "commands" / "convert.md"
ON_PAGE = re.findall(r"^edgedf convert.*$", PAGE.read_text("utf-8").split("## Examples")[1], re.M)


def examples() -> list[str]:
    return re.findall(r"\[bold\](.*?)\[/\]", convert_module._EPILOG)


def test_the_help_names_every_option_and_the_exit_codes(capsys: Captured) -> None:
    assert main(["convert", "--help"]) == 0
    out = capsys.readouterr().out
    for part in (
        "--to",
        "--io",
        "--keep",
        "--precision",
        "--calibration",
        "--samples",
        "--out",
        "--json",
        "--seed",
    ):
        assert part in out
    for part in ("--method", "--calibration-split", "minmax, percentile, mse or"):
        assert part in " ".join(out.split())
    assert "Exit code: 0" in " ".join(out.split())
    assert "[[" not in out


def test_the_first_and_last_example_are_what_the_tests_above_ran() -> None:
    assert examples()[0] == "edgedf convert"
    assert examples()[-1] == "edgedf convert --json | jq .passed"


def test_the_page_has_the_examples_of_the_help_that_it_can_run() -> None:
    assert len(ON_PAGE) > 3
    assert set(examples()) & set(ON_PAGE) >= {"edgedf convert"}


OF_THEIR_OWN = ("--lint", "--describe", "auto")  # see test_convert_lint.py and below


@pytest.mark.parametrize(
    "example",
    sorted(
        example
        for example in {*examples()[1:-1], *ON_PAGE} - {"edgedf convert"}
        if not any(option in example for option in OF_THEIR_OWN)
    ),
)
def test_the_other_examples_run(
    example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    shutil.copytree(photograph_folder(), tmp_path / "photos")
    shutil.copytree(photograph_folder(), tmp_path / "pictures")
    (tmp_path / "data").mkdir()
    write_manifest(tmp_path / "data", ("train", "train", "val"))
    (tmp_path / "limits.toml").write_text("flips_bound = 1.0\ntpr_drop_bound = 1.0\n")
    shutil.copy(small_checkpoint(), tmp_path / "student.safetensors")
    ship_the_small_one(monkeypatch)
    monkeypatch.chdir(tmp_path)
    command, *arguments = shlex.split(example)
    assert command == "edgedf"
    # A photograph or two may be unlike those that happen to calibrate; that is not the matter here.
    assert main([*arguments, "--keep-failing"]) in (0, 1)
    assert "✓" in capsys.readouterr().out
    written = {path.name for folder in ("build", "models") for path in Path(folder).glob("*")}
    words = example.split()
    precision = words[words.index("--precision") + 1] if "--precision" in words else "int8"
    formats = [words[words.index("--to") + 1]] if "--to" in words else ["tflite", "onnx"]
    assert written == {f"student_{precision}.{name}" for name in formats}


def test_the_example_of_auto_shows_its_stages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    (example,) = (line for line in examples() if "auto" in line)
    assert example in ON_PAGE
    shutil.copytree(photograph_folder(), tmp_path / "pictures")
    limits = "flips = 0.2\nflips_bound = 1.0\ntpr_drop = 1.0\ntpr_drop_bound = 1.0\n"
    limits += "auc_drop = 1.0\nauc_drop_bound = 1.0\n"
    (tmp_path / "limits.toml").write_text(limits)
    shutil.copy(hostile("tflite")[1], tmp_path / "student.tflite")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(search, "MOST_KEPT", 1)
    monkeypatch.setattr(candidate, "MOST_KEPT", 2)
    monkeypatch.setattr(candidate, "_ROUNDS", 2)
    assert main(shlex.split(example)[1:]) in (0, 1)
    out = capsys.readouterr().out
    assert "Stages tried for .tflite" in out
    assert "1 int8" in out
    assert "2 other ranges" in out
    assert "--method " in out


def test_auto_without_pictures_and_a_budget_without_auto_are_refused(
    tmp_path: Path, capsys: Captured
) -> None:
    assert main(["convert", "--precision", "auto", "--out", str(tmp_path)]) == 2
    assert "--gate DIR" in capsys.readouterr().err
    assert main(["convert", "--qat-minutes", "5", "--out", str(tmp_path)]) == 2
    assert "beside --precision auto" in " ".join(capsys.readouterr().err.split())


# The calibration


def test_the_audit_is_shown_and_in_the_json(tmp_path: Path, capsys: Captured) -> None:
    folder = tmp_path / "dark"
    for path in photograph_folder().rglob("*.png"):
        picture = cv2.imread(str(path))
        assert picture is not None
        target = folder / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(target), picture // 8)
    options = ("--to", "tflite", "--samples", "8", "--out", str(tmp_path / "out"))
    source = str(small_model("tflite"))
    command = ("convert", source, "--calibration", str(folder), *options, "--keep-failing")
    assert main(command) in (0, 1)
    out = " ".join(capsys.readouterr().out.split())
    assert "Calibration audit" in out
    assert "error: 8 of 8 calibration images are nearly black" in out
    assert "Next step: use photographs that are exposed" in out
    assert main((*command, "--gate", str(photograph_folder()), "--json")) in (0, 1)
    audit = json.loads(capsys.readouterr().out)["audit"]
    about = {finding["about"] for finding in audit["findings"]}
    assert {"dark", "images", "coverage"} <= about
    assert audit["held_out"] == 23
    assert audit["coverage"]["tflite"][0]["lost"] > 0.01


def test_a_mistyped_method_fails_with_the_list(capsys: Captured) -> None:
    assert main(["convert", "--method", "mean"]) == 2
    done = capsys.readouterr()
    assert done.out == ""
    assert "one of minmax, percentile, mse, entropy" in " ".join(done.err.split())


# The gate


LOOSE = "\n".join(f"{name} = 1.0" for name in ("auc_drop", "tpr_drop", "flips", "map_error"))


def gated(tmp_path: Path, limits: str) -> tuple[str, ...]:
    (tmp_path / "limits.toml").write_text(limits)
    options = ("--to", "onnx", "--samples", "8", "--out", str(tmp_path / "out"))
    gate = ("--gate", str(photograph_folder()), "--limits", str(tmp_path / "limits.toml"))
    return (str(small_model("onnx")), *gate, *options)


def bounds(limits: str) -> str:
    return "\n".join([limits, *(line.replace(" =", "_bound =") for line in limits.splitlines())])


def test_a_file_that_passes_the_gate_is_written(tmp_path: Path, capsys: Captured) -> None:
    loose = bounds(LOOSE) + "\nlogit_correlation = 0.9\nmap_correlation = 0.9"
    shutil.copytree(photograph_folder(), tmp_path / "photos")
    (tmp_path / "photos" / "fake" / "a.heic").touch()
    source, _, _, *options = gated(tmp_path, loose)
    assert main(["convert", source, "--gate", str(tmp_path / "photos"), *options, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["passed"]
    (verification,) = data["gate"]
    assert verification["verdict"] == "pass"
    assert verification["limits"]["map_error_bound"] == 1.0
    assert verification["real"] + verification["fake"] == 23
    assert verification["left_out"] == {".heic": 1}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["small_int8.onnx"]


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ("map_error = 1e-6\nmap_error_bound = 1e-6", "fails"),
        ("flips = 0.0\nflips_bound = 0.01", "Cannot tell from 23 pictures"),
    ],
)
def test_a_file_that_does_not_is_not(
    limits: str, said: str, tmp_path: Path, capsys: Captured
) -> None:
    assert main(["convert", *gated(tmp_path, limits)]) == 1
    shown = capsys.readouterr()
    assert "Gate on " in shown.out
    assert "(not written)" in shown.out
    assert "the gate on " in shown.err
    assert said in shown.err
    assert list((tmp_path / "out").iterdir()) == []


def test_limits_without_a_gate_are_refused(tmp_path: Path, capsys: Captured) -> None:
    source, _, _, *options = gated(tmp_path, "flips = 0.5")
    assert main(["convert", source, *options]) == 2
    assert "Expected: --gate DIR beside it" in capsys.readouterr().err


# What is asked for wrongly


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--to", "tflit"], "one of tflite, onnx"),
        (["--to", "tflite;onnx"], "one of tflite, onnx"),
        (["--to", ","], "one of tflite, onnx, or both"),
        (["--precision", "INT8"], "one of fp32, fp16, int8"),
        (["--io", "unit8"], "one of uint8, int8, float32"),
        (["--io", "int8", "--precision", "fp16"], "--io uint8 or --io float32"),
        (["--keep", "decoder.*"], "PRECISION:PATTERN"),
        (["--keep", "fp32:decoder.*", "--precision", "fp16"], "--precision int8 or int8-a16"),
        (["--keep", "fp32:student.blurr", "--to", "onnx"], "student.blur,"),
        (["--samples", "2"], "at least 8"),
        (["--calibration", "gone"], "does not exist"),
        (["gone.safetensors"], "gone.safetensors does not exist"),
        (["student.pt"], "save it as safetensors first"),
    ],
)
def test_a_mistake_is_named_with_what_is_right(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "student.pt").write_bytes(b"\x80\x04.")
    assert main(["convert", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert_clear(err)
    assert said in err
    assert not list(tmp_path.glob("build/*"))


def test_a_mistyped_option_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["convert", "--precison", "fp16"]) == 2
    assert not (tmp_path / "build").exists()


def test_formats_may_be_given_with_spaces_and_twice(tmp_path: Path, capsys: Captured) -> None:
    arguments = ("--to", " onnx, onnx", "--out", tmp_path, "--precision", "fp32", "--json")
    assert convert_small("onnx", *arguments) == 0
    assert [m["format"] for m in json.loads(capsys.readouterr().out)["models"]] == ["onnx"]


@pytest.mark.parametrize("columns", [80, 120])
def test_a_proof_that_fails_ends_with_1_and_says_where(
    columns: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    from tests.quantize.conversion.test_convert import sabotaged

    monkeypatch.setenv("COLUMNS", str(columns))
    old = tmp_path / "sabotaged_int8.onnx"
    old.write_bytes(b"from yesterday")
    options = ("--calibration", photograph_folder(), "--samples", 12, "--out", tmp_path)
    assert main(["convert", *map(str, (sabotaged(), *options))]) == 1
    out, err = capsys.readouterr()
    assert "✗" in out
    assert "(not written)" in out
    assert max(map(len, out.splitlines())) <= max(columns, len(str(old)) + 20)
    assert_clear(err)
    assert "does not agree with its original" in err
    assert old.read_bytes() == b"from yesterday"
    assert list(tmp_path.iterdir()) == [old]


def test_a_proof_that_fails_is_in_the_json_too(tmp_path: Path, capsys: Captured) -> None:
    from tests.quantize.conversion.test_convert import sabotaged

    options = ("--calibration", photograph_folder(), "--samples", 12, "--out", tmp_path, "--json")
    assert main(["convert", *map(str, (sabotaged(), *options))]) == 1
    data = json.loads(capsys.readouterr().out)
    assert data["passed"] is False
    assert data["models"][0]["written"] is False


def test_broken_images_are_listed_and_the_rest_is_used(tmp_path: Path, capsys: Captured) -> None:
    shutil.copytree(photograph_folder(), tmp_path / "images")
    write_broken(tmp_path / "images" / "real")
    options = ("--calibration", tmp_path / "images", "--samples", 12, "--out", tmp_path / "out")
    # With this seed no photograph is unlike those that happen to calibrate.
    assert main(["convert", *map(str, (small_model("onnx"), *options, "--seed", 1))]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines() if "Skipped" in line] == ["Skipped"] * 6
    assert "Skipped 5 more" in out


@pytest.mark.parametrize(
    ("hidden", "source", "extra"),
    [
        ("ai_edge_quantizer", "shipped", "convert"),
        ("ai_edge_litert", "shipped", "convert"),
        ("onnx", "shipped", "convert"),
        ("onnxruntime", "shipped", "convert"),
        ("torch", "checkpoint", "export"),
        ("litert_torch", "checkpoint", "export"),
    ],
)
def test_a_missing_extra_is_named_with_the_command_that_brings_it(
    hidden: str, source: str, extra: str, tmp_path: Path
) -> None:
    arguments = [str(small_checkpoint())] if source == "checkpoint" else []
    photographs = ["--calibration", str(photograph_folder()), "--samples", "12"]
    environment = without(tmp_path / "site", hidden)
    done = run("convert", *arguments, *photographs, cwd=tmp_path, environment=environment)
    assert done.returncode == 2
    assert_clear(done.stderr)
    assert f"pip install 'edgedf[{extra}]'" in done.stderr
    assert not list(tmp_path.glob("build/*"))


def test_native_libraries_stay_silent_and_progress_does_not(tmp_path: Path) -> None:
    """Lines of progress come every few seconds; here the clock is set to say each."""
    script = (
        "import sys, edgedf.cli._console as console\n"
        "console.StepProgress.__init__.__kwdefaults__['every'] = 0.0\n"
        "from edgedf.cli import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    given = ("--calibration", photograph_folder(), "--samples", 12, "--out", tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", script, "convert", *map(str, (small_model("tflite"), *given))],
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "XNNPACK delegate" not in done.stderr
    assert "calibrate tflite: 6/12" in done.stderr
    assert "Quantized model size" not in done.stdout
