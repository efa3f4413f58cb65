import contextlib
import os
import re
import signal
import subprocess
import sys
import types
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import edgedf
from edgedf.cli import VERBS, Verb, main
from edgedf.errors import ConfigError, ParityError
from tests.cli.runs import COMMAND, ENVIRONMENT, assert_clear, prepare, run, shell, workshop
from tests.runtime.pictures import noise, photographs, write

__all__ = ["workshop"]

RUNTIMES = {"onnxruntime", "ai_edge_litert", "tflite_runtime"}
HEAVY = {"torch", "onnx", "numpy", "cv2", "jinja2", *RUNTIMES}
EXAMPLE = re.compile(r"\[bold\](edgedf .*?)\[/\]", re.DOTALL)
OURS = ("detect", "info", "doctor")  # the other verbs' examples are run in their own tests


def examples_of(verb: str) -> list[str]:
    (command,) = import_module(VERBS[verb].module).app.registered_commands
    return EXAMPLE.findall(command.epilog or "")


_HELP = """
import sys
from edgedf.cli import main
code = main(sys.argv[1:])
print("CODE", code, *sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


@pytest.mark.parametrize("arguments", [[], ["--help"], *([verb, "--help"] for verb in VERBS)])
def test_help_works_without_loading_anything_heavy(arguments: list[str]) -> None:
    found = subprocess.run(
        [sys.executable, "-c", _HELP, *arguments],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=60,
        check=True,
    )
    marker, code, *modules = found.stderr.splitlines()[-1].split()
    assert (marker, code) == ("CODE", "0")
    assert "Usage: edgedf" in found.stdout
    assert "edgedf" in modules
    assert not HEAVY & set(modules)


def test_the_overview_names_every_verb_with_what_it_does(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name, verb in VERBS.items():
        assert re.search(rf"\b{name}\b\s+{re.escape(verb.help)}", shown)


@pytest.mark.parametrize("verb", OURS)
def test_help_shows_examples_one_a_line(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    examples = examples_of(verb)
    assert len(examples) >= 2
    for example in examples:
        assert example in lines  # whole, so that it can be copied


@pytest.mark.parametrize("example", [example for verb in OURS for example in examples_of(verb)])
def test_the_examples_in_the_help_work_as_they_stand(tmp_path: Path, example: str) -> None:
    prepare(tmp_path)
    done = shell(example.partition(" | ")[0], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    made = example.partition(" > ")[2] or example.partition("--csv ")[2].partition(" ")[0]
    assert (tmp_path / made).stat().st_size > 0 if made else done.stdout
    if "--overlay" in example:
        assert len(list((tmp_path / "pictures").glob("*.jpg"))) == 3


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"edgedf {edgedf.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["detct", "a.jpg"], "Did you mean 'detect'?"),
        (["detect", "--jsno", "a.jpg"], "--json"),
        (["detect", "--threads", "many", "a.jpg"], "--threads"),
        (["detect", "--threads", "0", "a.jpg"], "--threads"),
        (["detect"], "Missing argument 'PATH'"),
        (["detect", "a.jpg", "--model"], "--model"),
        (["info", "--jsn"], "--json"),
        (["info", "a", "b"], "unexpected extra argument"),
        (["doctor", "now"], "unexpected extra argument"),
        (["--colour"], "--colour"),
    ],
)
def test_mistyped_verbs_and_options_are_refused_with_a_hint(
    arguments: list[str], said: str, workshop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert "Traceback" not in err


# Errors


def verb_that_raises(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def app(**_: Any) -> None:
        raise error

    module = types.ModuleType("a_verb_that_raises")
    module.app = app  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(VERBS, "raise", Verb(module.__name__, "Raises."))


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ConfigError("No."), 2, "Error: No."),
        (ParityError("They differ."), 1, "Error: They differ."),
        (ModuleNotFoundError("No module", name="rocket"), 2, "'rocket' is needed"),
        (OSError(28, "No space left on device"), 2, "Cannot write the results: No space left"),
        (OSError(28, "No space left on device", "/a/b"), 2, "Cannot write /a/b: No space left"),
        (ValueError("a\nsurprise"), 70, "unforeseen went wrong in edgedf (ValueError: a surprise)"),
        (MemoryError(), 70, "MemoryError"),
        (KeyboardInterrupt(), 130, "Interrupted."),
        (BrokenPipeError(), 1, ""),
    ],
)
def test_exit_codes_and_messages_for_whatever_a_verb_raises(
    error: BaseException,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    verb_that_raises(monkeypatch, error)
    assert main(["raise"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert "Traceback" not in err
    if code == 70:
        assert "--debug" in err


@pytest.mark.parametrize("place", [0, 1, 3])
def test_debug_shows_the_traceback_wherever_it_stands(
    place: int, workshop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["detect", "--model", "no.tflite", "photo.jpg"]
    assert main(arguments) == 2
    assert "Traceback" not in capsys.readouterr().err
    arguments.insert(place, "--debug")
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert "Traceback (most recent call last)" in err
    assert "Error: Cannot read no.tflite" in err


def test_debug_behind_two_dashes_is_a_path(
    workshop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["detect", "photo.jpg", "--", "--debug"]) == 1
    assert "Cannot read --debug" in capsys.readouterr().err


@pytest.mark.parametrize("verb", [["detect", "photo.jpg"], ["info", "build/student_int8.onnx"]])
def test_a_full_disk_behind_standard_output_is_one_clear_error(
    verb: list[str], tmp_path: Path
) -> None:
    if not Path("/dev/full").is_char_device():
        pytest.skip("there is no /dev/full here")
    prepare(tmp_path)
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        done = run(*verb, cwd=tmp_path, stdout=full)
    finally:
        os.close(full)
    assert done.returncode == 2
    assert_clear(done.stderr)
    assert "Cannot write the results: No space left on device." in done.stderr


def test_a_closed_standard_output_is_no_crash(tmp_path: Path) -> None:
    prepare(tmp_path)
    done = shell("edgedf detect photo.jpg --csv out.csv >&-", cwd=tmp_path)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert "1 image:" in done.stderr
    assert (tmp_path / "out.csv").read_text().count("\n") == 2


def many_photographs(folder: Path) -> None:
    """Enough work for a second or more: many names of one large photograph."""
    original = write(folder / "large.jpg", photographs()[0].repeat(4, axis=0).repeat(4, axis=1))
    (folder / "many").mkdir()
    for index in range(300):
        os.link(original, folder / "many" / f"{index:03}.jpg")


def started(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """``edgedf`` as an interactive shell starts it: not deaf to the interrupt key."""
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from edgedf.cli import main; raise SystemExit(main(sys.argv[1:]))"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_an_interrupt_ends_the_work_at_once_and_leaves_nothing_half_done(tmp_path: Path) -> None:
    prepare(tmp_path)
    many_photographs(tmp_path)
    (tmp_path / "out.csv").write_text("from before")
    process = started(tmp_path, "detect", "many", "--json", "--csv", "out.csv")
    assert process.stdout is not None
    assert process.stdout.readline().startswith("{")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out.count("\n") < 299
    assert err.splitlines()[-1] == "Interrupted."
    assert "Traceback" not in err
    assert (tmp_path / "out.csv").read_text() == "from before"
    assert not list(tmp_path.glob(".out-*"))


@pytest.mark.parametrize("options", [[], ["--json"], ["--csv", "-"]])
def test_a_reader_that_leaves_early_is_no_error_message(options: list[str], tmp_path: Path) -> None:
    prepare(tmp_path)
    many_photographs(tmp_path)
    process = started(tmp_path, "detect", "many", *options)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline()
    process.stdout.close()
    said = process.stderr.read()
    assert process.wait(timeout=60) == 1
    process.stderr.close()
    assert said.splitlines()[0].startswith("Model: ")
    # On a busy machine it also says how far it is.
    assert all(line.startswith(("Model: ", "images: ")) for line in said.splitlines())


def test_python_m_is_the_same_command(tmp_path: Path) -> None:
    done = run("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"edgedf {edgedf.__version__}\n")
    assert shell("edgedf --version", cwd=tmp_path).stdout == done.stdout


def test_names_that_the_encoding_of_a_pipe_cannot_take_are_escaped(tmp_path: Path) -> None:
    prepare(tmp_path)
    write(tmp_path / "ünïcode 照片.png", noise(40, 40))
    done = subprocess.run(
        [*COMMAND, "detect", "ünïcode 照片.png"],
        cwd=tmp_path,
        env={**ENVIRONMENT, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert b"\\xfcn\\xefcode \\u7167\\u7247.png" in done.stdout


def test_a_name_that_is_no_text_is_judged_and_listed(tmp_path: Path) -> None:
    prepare(tmp_path)
    name = b"caf\xe9.png"
    with contextlib.suppress(OSError):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(
            write(tmp_path / "plain.png", noise(40, 40)).read_bytes()
        )
    if os.fsdecode(name) not in {path.name for path in tmp_path.iterdir()}:
        pytest.skip("the file system takes only names that are text")
    done = run("detect", os.fsdecode(name), "--csv", "out.csv", cwd=tmp_path)
    assert done.returncode == 0
    assert "caf\ufffd.png" in done.stdout
    assert name in (tmp_path / "out.csv").read_bytes()
