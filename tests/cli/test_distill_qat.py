import json
from pathlib import Path

import pytest

from edgedf.cli import main
from tests.cli.runs import assert_clear
from tests.distill.pictures import write_dataset
from tests.quantize.students import small_checkpoint

QUICK = ("--steps", "2", "--batch", "1", "--set", "observed=4", "--set", "equalize=false")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("qat") / "pictures", groups=1)


def test_a_student_is_fine_tuned_and_told_how_near_it_is(
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    call = ["distill", "train", "--data", str(pictures), "--out", "run"]
    call += ["--qat", str(small_checkpoint()), *QUICK]
    assert main(call) == 0
    said = capsys.readouterr()
    for line in ('ranges = "learned"', "[loop]", "steps = 2", "batch = 1"):
        assert f"  {line}\n" in said.err
    assert "Against the float student" in said.out
    assert "int8 before" in said.out
    assert "int8 after" in said.out
    assert "Weights of step" in said.out
    assert "edgedf convert run/student.safetensors" in said.out
    weights = Path("run/student.safetensors").read_bytes()
    # Again: nothing is trained, and with --json the report is all that is printed.
    assert main([*call, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["checkpoint"] == "run/student.safetensors"
    assert {figure["data"] for figure in report["figures"]} == {"val", "test"}
    assert Path("run/student.safetensors").read_bytes() == weights


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--teacher", "t.safetensors"), "--teacher has no part in quantization-aware training"),
        (("--input-size", "64"), "--input-size has no part"),
        (("--set", "ranegs=ema"), "did you mean 'ranges'?"),
        (("--set", "ranges=minmax"), "ranges is 'minmax', not one of learned, ema"),
        (("--set", "loop.amp=bf16"), "coarser than the steps of int8"),
        (("--qat", "none.safetensors"), "Cannot read the checkpoint none.safetensors"),
        (("--data", "nowhere"), "Cannot read nowhere"),
    ],
)
def test_a_mistake_gives_one_clear_error(
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    call = ["distill", "train", "--data", str(pictures), "--out", "run"]
    assert main([*call, "--qat", str(small_checkpoint()), *arguments]) == 2
    said = capsys.readouterr()
    assert not said.out
    assert_clear(said.err)
    assert message in said.err
