import contextlib
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text

from edgedf.cli._console import (
    StepProgress,
    error_text,
    json_text,
    print_error,
    print_json,
    printable,
    quiet_natives,
)
from edgedf.errors import ConfigError
from tests.cli.runs import COMMAND, ENVIRONMENT, prepare


@given(st.text())
def test_nothing_that_steers_a_terminal_is_printed(text: str) -> None:
    shown = printable(text)
    assert len(shown) == len(text)
    assert not any(ord(char) < 32 or 0x7F <= ord(char) < 0xA0 for char in shown)
    assert not any(0xD800 <= ord(char) < 0xE000 for char in shown)
    assert printable(shown) == shown


def test_names_stay_as_they_are_where_they_can_be_shown() -> None:
    for name in ("ümlaut 照片.jpg", "Screenshot 9.41\u202fAM.png", "a\u00a0b", "😀.png"):
        assert printable(name) == name
    assert printable("a\x1b[31mb\n\u202egpj") == "a\ufffd[31mb\ufffd\ufffdgpj"


def test_an_error_has_its_three_parts_and_only_those_that_are_there() -> None:
    error = ConfigError("It broke\x1b.", expected="one\nor two", next_step="try again")
    assert error_text(error).plain == (
        "Error: It broke\ufffd.\n  Expected: one\nor two\n  Next step: try again"
    )
    assert error_text(ConfigError("It broke."), label="Failed").plain == "Failed: It broke."


def test_errors_go_to_standard_error_unfolded_and_unstyled(
    capsys: pytest.CaptureFixture[str],
) -> None:
    long = "x" * 300 + " [bold]not markup[/] " + "y" * 300
    print_error(ConfigError(long))
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"Error: {long}\n"


def test_json_goes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": ["ü", 1]})
    assert capsys.readouterr() == ('{\n "a": [\n  "\\u00fc",\n  1\n ]\n}\n', "")


def test_half_a_character_never_gets_into_json() -> None:
    name = os.fsdecode(b"caf\xe9 ") + "\N{PILE OF POO}\\ud800"  # the last is a backslash and text
    assert json_text({name: [name]}) == (
        '{"caf\\ufffd \\ud83d\\udca9\\\\ud800": ["caf\\ufffd \\ud83d\\udca9\\\\ud800"]}'
    )


def test_without_a_terminal_progress_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with StepProgress(every=0.0) as progress:
        for done in range(4):
            progress("images", done, 3)
        progress.result(Text("a result"))
    out, err = capsys.readouterr()
    assert out == "a result\n"
    lines = err.splitlines()
    assert lines[0] == "images: 0/3"
    assert lines[-1] == "images: 3/3, about 0 s left"


def test_what_an_earlier_run_did_does_not_shorten_the_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("edgedf.cli._console.time.monotonic", lambda: now[0])
    with StepProgress(every=0.0) as progress:
        progress("steps", 900, 1000)
        now[0] += 20.0
        progress("steps", 910, 1000)
    assert capsys.readouterr().err.splitlines()[-1] == "steps: 910/1000, about 180 s left"


def test_a_step_that_starts_again_is_timed_from_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("edgedf.cli._console.time.monotonic", lambda: now[0])
    with StepProgress(every=0.0) as progress:
        progress("maps", 50, 100)
        now[0] += 500.0
        progress("maps", 100, 100)
        progress("maps", 10, 40)
        now[0] += 10.0
        progress("maps", 20, 40)
    assert capsys.readouterr().err.splitlines()[-1] == "maps: 20/40, about 20 s left"


def test_quick_steps_print_no_progress_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with StepProgress(every=1000.0) as progress:
        for done in range(100):
            progress("images", done, 100)
    assert capsys.readouterr() == ("", "")


def test_what_native_code_writes_is_dropped_and_python_errors_pass(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with quiet_natives():
        os.write(2, b"INFO: Created TensorFlow Lite XNNPACK delegate\n")
    os.write(2, b"after\n")
    with contextlib.suppress(ValueError), quiet_natives():
        raise ValueError
    os.write(2, b"after an error\n")
    assert capfd.readouterr().err == "after\nafter an error\n"


def test_nothing_is_held_back_where_there_is_no_standard_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with quiet_natives():
        pass


@contextlib.contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    ours, theirs = pty.openpty()
    try:
        yield ours, theirs
    finally:
        for descriptor in (ours, theirs):
            with contextlib.suppress(OSError):
                os.close(descriptor)


def read_all(descriptor: int) -> str:
    data = b""
    with contextlib.suppress(OSError):  # a terminal ends with EIO
        while block := os.read(descriptor, 65536):
            data += block
    return data.decode()


def test_on_a_terminal_there_is_a_bar_and_the_file_gets_only_results(tmp_path: Path) -> None:
    prepare(tmp_path)
    environment = {**ENVIRONMENT, "TERM": "xterm"}
    with terminal() as (ours, theirs), (tmp_path / "out").open("w") as out:
        process = subprocess.Popen(
            [*COMMAND, "detect", "photos", "no.jpg", "--json"],
            cwd=tmp_path,
            env=environment,
            stdout=out,
            stderr=theirs,
        )
        os.close(theirs)
        shown = read_all(ours)
        assert process.wait(timeout=120) == 1
    assert "4/4" in shown
    assert "Cannot read no.jpg" in shown
    lines = (tmp_path / "out").read_text().splitlines()
    assert len(lines) == 4
    assert all(line.startswith("{") and line.endswith("}") for line in lines)
