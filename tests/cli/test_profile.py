import json
import re
import shlex
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from edgedf import typed_json
from edgedf.cli import main, profile
from edgedf.runtime.profile.devices import host as host_module
from edgedf.runtime.profile.devices.base import Job
from edgedf.runtime.profile.document import Profile, Validity, from_json, to_json
from edgedf.runtime.profile.events import Block, Emit
from edgedf.runtime.profile.recommend import recommend
from tests.cli.runs import assert_clear, workshop
from tests.runtime.pictures import noise, write

__all__ = ["workshop"]

Captured = pytest.CaptureFixture[str]
ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "commands" / "profile.md").read_text("utf-8")
IN_HELP = re.findall(r"\[bold\](edgedf .*?)\[/\]", profile._EPILOG)
TFLITE, ONNX = "build/student_int8.tflite", "build/student_int8.onnx"
FEW = ("--quick", "--queries", "8", "--seconds", "0.1")
ALONE = (*FEW, "--no-pipeline", "--no-operators")
DONE, NOT_VALID, CANNOT_TELL, MISTAKE, INTERRUPTED = 0, 1, 2, 64, 130


def call(*arguments: str | Path) -> int:
    return main(["profile", *map(str, arguments)])


def profile_of(capsys: Captured, *arguments: str | Path) -> Profile:
    # A machine that does something else meanwhile makes figures invalid: that is not asked here.
    assert call(*arguments, "--json") in (DONE, NOT_VALID)
    return typed_json.decode(Profile, json.loads(capsys.readouterr().out))


def test_a_folder_in_the_way_of_a_result_is_named_before_the_work(
    workshop: Path, capsys: Captured
) -> None:
    Path("taken/report.html").mkdir(parents=True)
    assert call(TFLITE, *ALONE, "--out", "taken") == MISTAKE
    shown, said = capsys.readouterr()
    assert shown == ""
    assert "report.html: is a folder" in said
    assert [path.name for path in Path("taken").iterdir()] == ["report.html"]


def test_everything_is_measured_and_written(workshop: Path, capsys: Captured) -> None:
    # Long enough for blocks by turns on a busy machine, without which there are no ratios.
    enough = "--seconds", "0.5"
    assert call(*FEW, *enough, "--threads", "1,2", "--out", "profiles") in (DONE, NOT_VALID)
    shown, said = capsys.readouterr()
    assert "Traceback" not in said
    for title in ("Latency", "Ratios of medians", "Start and memory", "Operators of"):
        assert title in shown
    assert "Not publishable" in shown
    written = from_json("profiles/profile.json")
    (run,) = written.devices
    assert (run.device, run.status) == ("host", "complete")
    assert [model.file for model in written.models] == ["student_int8.tflite", "student_int8.onnx"]
    assert [(result.model, result.threads) for result in run.results] == [
        (0, 1),
        (0, 2),
        (1, 1),
        (1, 2),
    ]
    for result in run.results:
        assert result.problems == ()
        assert None not in (result.latency, result.memory, result.pipeline, result.operators)
    assert not written.publishable
    page = Path("profiles/report.html").read_text("utf-8")
    assert "student_int8.onnx" in page
    for drawing in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(drawing)
    assert r"student\_int8.tflite" in Path("profiles/report.md").read_text("utf-8")
    assert not list(Path().glob("**/.*-*"))  # temporary files


def test_json_is_one_document_and_markdown_has_tables(workshop: Path, capsys: Captured) -> None:
    found = profile_of(capsys, TFLITE, *ALONE)
    (result,) = found.devices[0].results
    assert (result.pipeline, result.operators) == (None, None)
    assert found.images == 16
    assert call(TFLITE, *ALONE, "--images", "photos", "--markdown") in (DONE, NOT_VALID)
    shown = capsys.readouterr().out
    assert r"student\_int8.tflite | 1 |" in shown
    assert "\x1b" not in shown


def test_a_sustained_run_is_by_minutes(workshop: Path, capsys: Captured) -> None:
    found = profile_of(capsys, ONNX, *ALONE, "--sustained", "0.5s")
    (result,) = found.devices[0].results
    assert result.sustained is not None
    assert result.sustained.seconds >= 0.5


@pytest.fixture
def earlier(workshop: Path, capsys: Captured) -> Profile:
    """A profile, as it would be on a machine that did nothing else."""
    call(TFLITE, *ALONE, "--out", "before")
    capsys.readouterr()
    return from_json("before/profile.json")


def scaled(earlier: Profile, factor: float) -> None:
    """Write a profile of another model, so many times as large."""
    (model,) = earlier.models
    other = replace(model, size_bytes=round(model.size_bytes * factor), sha256="0" * 64)
    Path("scaled.json").write_text(to_json(replace(earlier, models=(other,))))


def test_what_grew_beyond_the_limit_fails(earlier: Profile, capsys: Captured) -> None:
    scaled(earlier, 0.5)
    assert call(TFLITE, *ALONE, "--against", "scaled.json", "--json") == NOT_VALID
    document = json.loads(capsys.readouterr().out)
    assert document["against"]["verdict"] == "fail"
    assert call(TFLITE, *ALONE, "--against", "scaled.json", "--limit", "2") in (
        DONE,
        NOT_VALID,
        CANNOT_TELL,
    )
    shown = capsys.readouterr().out
    assert "size" in shown


def test_the_file_to_ship_is_named_or_it_is_said_why_not(workshop: Path, capsys: Captured) -> None:
    for index in range(4):
        label = ("real", "fake")[index % 2]
        write(workshop / "data" / label / f"{index}.png", noise(64, 64, index))
    enough = "--seconds", "1"  # for blocks by turns, without which there are no ratios
    arguments = (*ALONE, *enough, "--recommend", "--data", "data", "--json", "--out", "profiles")
    code = call(*arguments)
    found = typed_json.decode(Profile, json.loads(capsys.readouterr().out))
    (chosen,) = found.devices[0].recommendations
    assert [entry.accuracy.standing for entry in chosen.considered] == ["within", "within"]
    assert chosen.accuracy_from == "4 pictures of data, split all"
    assert chosen.reason.endswith(".")
    valid = all(result.validity.status != "invalid" for result in found.devices[0].results)
    assert code == ((CANNOT_TELL if chosen.model is None else DONE) if valid else NOT_VALID)
    assert from_json("profiles/profile.json") == found
    assert "Which file to ship" in Path("profiles/report.md").read_text("utf-8")
    # The same figures, had the machine done nothing else, so that the rule itself is asked.
    (run,) = found.devices
    quiet = tuple(replace(r, validity=Validity("semi-valid")) for r in run.results)
    accuracies = [entry.accuracy for entry in chosen.considered]
    again = recommend(replace(found, devices=(replace(run, results=quiet),)), accuracies, "x")
    (chosen,) = again.devices[0].recommendations
    assert "invalid" not in chosen.reason
    assert chosen.considered[0].finding != "not compared"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--device", "phone"], "'phone' is no device"),
        (["--device", "ssh:"], "no device"),
        (["--device", "host", "--device", "host"], "named twice"),
        (["--threads", "1,x"], "--threads 1,x cannot be used"),
        (["--threads", "0"], "--threads 0 cannot be used"),
        (["--threads", "2,2"], "cannot be used"),
        (["--sustained", "soon"], "no time"),
        (["--sustained", "48h"], "at most 24h"),
        (["--limit", "0.1"], "means nothing without --against"),
        (["--against", "none.json"], "none.json is no profile"),
        (["--against", "photo.jpg"], "photo.jpg is no profile"),
        (["--json", "--markdown"], "exclude each other"),
        (["--images", "nowhere"], "nowhere"),
        (["--resume"], "nothing to resume"),
        (["--data", "photos"], "means nothing without --recommend"),
        (["--recommend", TFLITE], "nothing to choose among"),
        (["--recommend", "--data", "nowhere"], "nowhere"),
        (["none.tflite"], "none.tflite"),
        (["photo.jpg"], "photo.jpg"),
        (["--device", "adb"], "--runner"),
        (["--device", "ssh:-oProxyCommand=true"], "no machine to log in to"),
    ],
)
def test_mistakes_are_said_before_anything_is_measured(
    workshop: Path, capsys: Captured, arguments: Sequence[str], said: str
) -> None:
    assert call(*arguments, *(["--quick"] if "--quick" not in arguments else [])) == MISTAKE
    out, err = capsys.readouterr()
    assert out == ""
    assert said in " ".join(err.split())
    assert_clear(err)


@pytest.mark.parametrize("option", ["--thread", "--queries=few", "--seconds=0"])
def test_a_mistyped_option_is_no_verdict(workshop: Path, option: str) -> None:
    assert call(option, "1") == MISTAKE


def test_ctrl_c_writes_what_there_is(
    workshop: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = host_module.HostDevice.run

    def interrupted(self: host_module.HostDevice, job: Job, emit: Emit) -> None:
        def once(event: object) -> None:
            emit(event)  # type: ignore[arg-type]
            if isinstance(event, Block):
                raise KeyboardInterrupt

        real(self, job, once)

    monkeypatch.setattr(host_module.HostDevice, "run", interrupted)
    assert call(TFLITE, *ALONE, "--out", "cut") == INTERRUPTED
    assert from_json("cut/profile.json").devices[0].status == "partial"
    assert "interrupted" in capsys.readouterr().out
    monkeypatch.undo()
    monkeypatch.chdir(workshop)
    assert call(TFLITE, *ALONE, "--out", "cut", "--resume") in (DONE, NOT_VALID)
    assert from_json("cut/profile.json").devices[0].status == "complete"


@pytest.mark.parametrize("example", [line for line in IN_HELP if "--device" not in line])
def test_the_examples_in_the_help_work(workshop: Path, capsys: Captured, example: str) -> None:
    if "--against" in example:
        assert call(TFLITE, *ALONE, "--out", "profiles") in (DONE, NOT_VALID)
    # As they stand, but for the minutes that a full profile takes.
    assert main([*shlex.split(example)[1:], *ALONE]) in (DONE, NOT_VALID, CANNOT_TELL)
    assert "Latency" in capsys.readouterr().out


def test_the_page_and_the_help_show_the_same_options() -> None:
    (command,) = profile.app.registered_commands
    assert command.callback is not None
    declared = set(re.findall(r'"(--[a-z-]+)"', Path(profile.__file__).read_text("utf-8")))
    named = set(re.findall(r"`(--[a-z-]+)", PAGE))
    assert declared - {"--help"} <= named
    assert {line.split()[1] for line in IN_HELP} == {"profile"}
