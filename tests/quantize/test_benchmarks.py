"""The benchmarks run and say what they promise; how fast anything is, is not tested."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.processors.machines import start
from tests.quantize.students import photograph_folder, shipped_int8

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def output_of(script: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    assert "Error" not in done.stderr
    return done.stdout


def check_host(host: dict[str, Any]) -> None:
    assert host["cpu"]
    assert host.keys() >= {"cores", "load_average", "system", "python", "edgedf"}


def test_latency_gives_both_runtimes_and_every_number_of_threads() -> None:
    given = ("--model-dir", str(shipped_int8("tflite").parent), "--rounds", "4")
    document = json.loads(output_of("latency.py", "--json", *given))
    check_host(document["host"])
    found = [(result["runtime"], result["threads"]) for result in document["results"]]
    assert found == [
        ("ai-edge-litert", 1),
        ("onnxruntime", 1),
        ("ai-edge-litert", 2),
        ("onnxruntime", 2),
    ]
    for result in document["results"]:
        assert result["version"]
        assert result["rounds"] == 4
        assert 0 < result["ratio_low"] <= result["ratio"] <= result["ratio_high"]
        for which in ("fp32", "converted"):
            speed = result[which]
            assert 0 < speed["minimum_ms"] <= speed["median_ms"] <= speed["p90_ms"]

    assert [found["threads"] for found in document["formats"]] == [1, 2]
    for found in document["formats"]:
        assert 0 < found["ratio_low"] <= found["ratio"] <= found["ratio_high"]
        assert 0 < found["tflite_p50_ms"] <= found["tflite_p90_ms"]

    table = output_of("latency.py", "--threads", "1", *given)
    assert "onnxruntime" in table
    assert "onnx / tflite" in table
    assert "95 %" in table


def test_latency_on_a_processor_with_instructions_hidden() -> None:
    if start("avx2").emulated:
        pytest.skip("this processor cannot stand for one without AVX-512")
    given = ("--model-dir", str(shipped_int8("tflite").parent), "--formats", "tflite")
    few = ("--rounds", "2", "--threads", "1", "--cpu-time", "--json")
    (found,) = json.loads(output_of("latency.py", "--processor", "avx2", *given, *few))["results"]
    assert found["ratio_low"] <= found["ratio"] <= found["ratio_high"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--processor", "8086"], "processor 8086: there is none; expected: native, "),
        (["--cpu-time", "--threads", "1", "2"], "one thread alone"),
    ],
)
def test_latency_refuses_what_it_cannot_measure(arguments: list[str], said: str) -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "latency.py"), *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr


def test_latency_says_what_is_missing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "latency.py"), "--model-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert "student_int8.tflite" in done.stderr
    assert "Traceback" not in done.stderr


def test_conversion_gives_time_and_memory() -> None:
    given = ("--source", "exports", "--calibration", str(photograph_folder()), "--samples", "8")
    document = json.loads(output_of("conversion.py", "--json", *given))
    check_host(document["host"])
    (result,) = document["results"]
    assert result["source"] == "exports"
    assert result["seconds"] >= result["stages"]["total"] > 0
    assert 50 < result["peak_mb"] < 4000


def test_recipes_cost_what_they_look_at() -> None:
    document = json.loads(output_of("recipes.py", "--json", "--rounds", "1"))
    check_host(document["host"])
    costs = {cost["recipe"]: cost for cost in document["costs"]}
    parts = ["rgb", "frequency", "defocus"]
    assert list(costs) == ["xception", "fine-tune", *parts, "teacher", "student"]
    assert costs["student"]["parameters"] < 1.5e6 < costs["xception"]["parameters"]
    assert costs["student"]["multiply_adds"] < 0.4e9 < costs["teacher"]["multiply_adds"]
    # A teacher is its branches and the dense head.
    for cost in ("parameters", "multiply_adds"):
        assert costs["teacher"][cost] > sum(costs[name][cost] for name in parts)
    assert all(cost["median_ms"] > 0 for cost in costs.values())


def test_profiling_compares_with_a_bare_loop_and_keeps_what_it_has(tmp_path: Path) -> None:
    kept, models = tmp_path / "kept.json", str(shipped_int8("onnx").parent)
    given = ("--model-dir", models, "--effort", "quick", "--times", "2", "--seconds", "0.4")
    wanted = ("--json", "--formats", "onnx", "--only", "overhead", "--keep", str(kept))
    document = json.loads(output_of("profiling.py", *wanted, *given))
    check_host(document["overhead"]["host"])
    (row,) = document["overhead"]["models"]
    assert row["model"] == "student_int8.onnx"
    assert len(row["bare_p50_ms"]) == len(row["profile_p50_ms"]) == 2
    assert 0 < row["low"] <= row["ratio"] <= row["high"]
    assert json.loads(kept.read_text()) == document
    assert "ratio" in output_of("profiling.py", *wanted[1:], *given)  # what is kept is shown


def test_scaling_has_a_row_for_each_batch(tmp_path: Path) -> None:
    # An export of the shipped student as the script keeps it: no torch is needed then.
    shutil.copy(shipped_int8("onnx"), tmp_path / "student_int8_256.onnx")
    given = ("--work", str(tmp_path), "--sides", "256", "--formats", "onnx", "--rounds", "2")
    document = json.loads(output_of("scaling.py", "--json", "--batches", "1", "2", *given))
    check_host(document["host"])
    found = [(row["kind"], row["side"], row["batch"]) for row in document["rows"]]
    assert found == [("resolution", 256, 1), ("batch", 256, 1), ("batch", 256, 2)]
    for row in document["rows"]:
        assert 0 < row["low"] <= row["ratio"] <= row["high"]
        assert 0 < row["ms_per_picture"] <= row["p90_ms_per_picture"]


def test_processors_has_a_row_for_each_that_can_be_had() -> None:
    given = ("--processors", "native", "--precisions", "fp32", "--pictures", "3")
    document = json.loads(output_of("processors.py", "--json", "--emulated", "2", *given))
    assert document["skipped"] == []
    found = [(row["processor"], row["format"], row["pictures"]) for row in document["results"]]
    assert found == [("native", "tflite", 3), ("native", "onnx", 3)]
    for row in document["results"]:
        assert row["kernels"] in ("exact", "widened")
        assert row["correlation"] > 0.9999
        assert max(row["logit_error"], row["map_error"]) < 1e-4


def test_pythons_says_which_is_not_there() -> None:
    (row,) = json.loads(output_of("pythons.py", "--json", "--pythons", "3.99"))
    assert row["python"] == "3.99"
    assert not row["works"]
    assert row["failure"] == "not found on this machine"
