import json
import re
import shutil
from pathlib import Path

import pytest

import edgedf.sample
from edgedf import typed_json
from edgedf.cli import diff, main
from edgedf.quantize.accuracy.limits import DiffLimits
from edgedf.quantize.diff.compare import DEFAULT_ROUNDS
from edgedf.quantize.diff.difference import Difference
from edgedf.result import Threshold
from edgedf.runtime.models import shipped_model
from tests.cli.runs import assert_clear, run
from tests.cli.runs import prepare as workbench
from tests.runtime.absent import without
from tests.runtime.tiny import write_tiny

Captured = pytest.CaptureFixture[str]
ROOT = Path(__file__).parents[2]
TFLITE, ONNX, STRICT = "build/student_int8.tflite", "build/student_int8.onnx", "strict.tflite"
WITHIN, BROKEN, CANNOT_TELL, MISTAKE = 0, 1, 2, 64
IN_HELP = re.findall(r"\[bold\](edgedf .*?)\[/\]", diff._EPILOG)
PAGE = (ROOT / "docs" / "commands" / "diff.md").read_text("utf-8")
ON_PAGE = re.findall(r"^(edgedf diff [^\n\[]*)$", PAGE, re.MULTILINE)
QUICK = ("--rounds", "2")
ONLY_FILES = ("--no-pictures", "--no-latency")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("diff")
    workbench(folder)
    strict = write_tiny(folder, "tflite", threshold=Threshold(0.99, 0.98, "stricter"))
    strict.rename(folder / STRICT)
    return folder


@pytest.fixture
def bench(filled: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Tiny models in ``build/``, one of other thresholds, three photographs in ``photos/``."""
    monkeypatch.chdir(filled)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")
    return filled


def call(*arguments: str | Path) -> int:
    return main(["diff", *map(str, arguments)])


def outcome_of(capsys: Captured, *arguments: str | Path, code: int) -> Difference:
    assert call(*arguments, "--json") == code
    return typed_json.decode(Difference, json.loads(capsys.readouterr().out))


# Outcomes


def test_identical_files_are_said_to_be(bench: Path, capsys: Captured) -> None:
    assert call(TFLITE, TFLITE) == WITHIN
    assert "✓ A and B are byte-identical." in capsys.readouterr().out
    found = outcome_of(capsys, TFLITE, TFLITE, "--data", "photos", code=WITHIN)
    assert found.identical
    assert found.verification is None
    assert call(TFLITE, TFLITE, "--max-size-ratio", "0.5") == BROKEN


def test_few_pictures_cannot_tell_and_looser_limits_pass(bench: Path, capsys: Captured) -> None:
    arguments = (TFLITE, ONNX, "--data", "photos", *QUICK)
    assert call(*arguments) == CANNOT_TELL
    shown, said = capsys.readouterr()
    assert "? flipped verdicts" in shown
    assert "latency, B / A" in shown
    assert "2 turns each (A B A B …), 1 thread;" in shown
    assert "? Cannot tell from 3 pictures." in " ".join(shown.split())
    assert max(map(len, shown.splitlines())) <= 100
    assert "Traceback" not in said
    found = outcome_of(capsys, *arguments, "--flips-bound", "1", "--threads", "2", code=WITHIN)
    assert found.limits.flips_bound == 1.0
    assert found.latency is not None
    assert (found.latency.threads, found.latency.measured.rounds) == (2, 2)


def test_a_broken_limit_is_one(bench: Path, capsys: Captured) -> None:
    assert call(TFLITE, ONNX, *ONLY_FILES) == WITHIN
    assert "Nothing was held against a limit." in capsys.readouterr().out
    found = outcome_of(capsys, ONNX, TFLITE, *ONLY_FILES, "--max-size-ratio", "0.1", code=BROKEN)
    assert (found.verification, found.latency, found.verdict) == (None, None, "fail")
    slow = (TFLITE, ONNX, "--no-pictures", *QUICK, "--max-latency-ratio", "1e-9")
    assert call(*slow) == BROKEN
    assert "✗ B is over the limits: latency, B / A." in capsys.readouterr().out


def test_without_data_the_shipped_sample_is_taken(bench: Path, capsys: Captured) -> None:
    found = outcome_of(capsys, TFLITE, STRICT, "--no-latency", code=BROKEN)
    assert found.verification is not None
    assert found.verification.data == "the shipped sample"
    assert (found.verification.real, found.verification.fake) == (60, 41)
    assert [ratio.name for ratio in found.ratios] == ["size_ratio"]


def test_markdown_is_a_document_of_its_own(bench: Path, capsys: Captured) -> None:
    assert call(TFLITE, STRICT, *ONLY_FILES, "--markdown") == WITHIN
    shown = capsys.readouterr().out
    assert shown.startswith("**✓ Nothing was held against a limit.**\n\n|  | A | B |\n| --- |")
    assert "| threshold.how |" in shown


def test_what_a_spec_says_cannot_break_what_is_pasted(
    bench: Path, capsys: Captured, tmp_path: Path
) -> None:
    rude = write_tiny(tmp_path, "tflite", licence="a | b\n\n# <script>\x1b[31m `x`")
    assert call(TFLITE, rude, *ONLY_FILES, "--markdown") == WITHIN
    shown = capsys.readouterr().out
    (line,) = [line for line in shown.splitlines() if line.startswith("| licence |")]
    assert line.endswith("| a \\| b \\# \\<script\\>\ufffd\\[31m \\`x\\` |")


def test_limits_come_from_options_then_the_file(
    bench: Path, capsys: Captured, tmp_path: Path
) -> None:
    limits = tmp_path / "limits.toml"
    limits.write_text("max_size_ratio = 0.001\nmax_latency_ratio = 1e6\nflips_bound = 1\n")
    arguments = (TFLITE, ONNX, "--data", "photos", *QUICK, "--limits", limits)
    assert outcome_of(capsys, *arguments, code=BROKEN).limits.max_size_ratio == 0.001
    found = outcome_of(capsys, *arguments, "--max-size-ratio", "9", code=WITHIN)
    assert found.limits == DiffLimits(flips_bound=1.0, max_size_ratio=9.0, max_latency_ratio=1e6)


def test_it_needs_no_torch(filled: Path, tmp_path: Path) -> None:
    hidden = without(tmp_path, "torch", "safetensors", "sklearn", "tomli_w", "skimage")
    done = run("diff", TFLITE, ONNX, "--data", "photos", *QUICK, cwd=filled, environment=hidden)
    assert done.returncode == CANNOT_TELL, done.stderr
    assert "INFO" not in done.stderr  # what TFLite says of its delegate


def test_a_missing_extra_is_named(filled: Path, tmp_path: Path) -> None:
    hidden = without(tmp_path, "onnx")
    done = run("diff", TFLITE, ONNX, cwd=filled, environment=hidden)
    assert (done.returncode, done.stdout) == (MISTAKE, "")
    assert_clear(done.stderr)
    assert "edgedf[convert]" in done.stderr


# Mistakes are no verdicts


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("none.tflite", TFLITE), "none.tflite"),
        ((TFLITE, "photo.jpg"), "photo.jpg"),
        ((TFLITE, ONNX, "--data", "nowhere"), "nowhere is no folder"),
        ((TFLITE, ONNX, "--data", "photos", "--split", "test"), "--split"),
        ((TFLITE, ONNX, "--layout", "folders"), "--layout"),
        ((TFLITE, ONNX, "--limits", "none.toml"), "Cannot read"),
        ((TFLITE, ONNX, "--max-size-ratio", "0"), "The limit max_size_ratio is 0"),
        ((TFLITE, ONNX, "--flips", "2"), "The limit flips is 2"),
        ((TFLITE, ONNX, "--no-pictures", "--data", "photos"), "exclude each other"),
        ((TFLITE, ONNX, "--no-latency", "--max-latency-ratio", "1"), "exclude each other"),
        ((TFLITE, ONNX, "--markdown"), "--json and --markdown exclude each other"),
        ((TFLITE, str(shipped_model("onnx"))), "32 x 32 pixels"),
    ],
)
def test_a_mistake_gives_one_clear_error_and_a_code_of_its_own(
    arguments: tuple[str, ...], said: str, bench: Path, capsys: Captured
) -> None:
    assert call(*arguments, "--json") == MISTAKE
    out, err = capsys.readouterr()
    assert out == ""
    assert_clear(err)
    assert said in " ".join(err.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((TFLITE,), "Missing argument 'B'"),
        ((TFLITE, ONNX, "c"), "unexpected extra argument"),
        ((TFLITE, ONNX, "--max-sise-ratio", "1"), "--max-size-ratio"),
        ((TFLITE, ONNX, "--rounds", "1"), "--rounds"),
        ((TFLITE, ONNX, "--threads", "0"), "--threads"),
    ],
)
def test_a_mistyped_option_is_no_verdict(
    arguments: tuple[str, ...], said: str, bench: Path, capsys: Captured
) -> None:
    assert call(*arguments) == MISTAKE
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err


# Examples


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the examples speak of, with tiny models: what they say is the same, only sooner."""
    folder = tmp_path_factory.mktemp("shop")
    workbench(folder)
    write_tiny(folder, "tflite").rename(folder / "old.tflite")
    write_tiny(folder, "tflite", version="0.0.2").rename(folder / "new.tflite")
    for image in edgedf.sample.images()[:16]:
        place = folder / "pictures" / image.label
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(image.path, place)
    (limits,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (folder / "limits.toml").write_text(limits)
    return folder


@pytest.mark.parametrize("example", sorted({*IN_HELP, *ON_PAGE}))
def test_the_examples_work_as_they_stand(
    example: str, shop: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shop)
    assert main(example.split()[1:]) in (WITHIN, CANNOT_TELL)
    shown = capsys.readouterr().out
    if "--json" in example:
        assert json.loads(shown)["verdict"] == "pass"
    else:
        assert "size, B / A" in shown
    assert shown.startswith("**") == ("--markdown" in example)


def test_the_help_shows_the_examples_and_the_codes(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["diff", "--help"]) == 0
    shown = capsys.readouterr().out
    lines = [line.strip() for line in shown.splitlines()]
    assert len(IN_HELP) >= 2
    assert all(example in lines for example in IN_HELP)
    assert set(IN_HELP) <= set(ON_PAGE)
    text = " ".join(shown.split())
    assert "Exit code: 0 no difference beyond the limits, 1 a limit is broken" in text
    assert "64 something that was asked or given is wrong" in text


def test_help_and_page_give_the_default_number_of_rounds() -> None:
    assert diff._DEFAULT_ROUNDS == DEFAULT_ROUNDS
    assert f"default {DEFAULT_ROUNDS}" in PAGE
