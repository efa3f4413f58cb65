import json
import re
from pathlib import Path

import pytest

from edgedf.cli import main
from edgedf.cli.distill_audit import EPILOG
from tests.cli.runs import assert_clear, run, shell
from tests.distill.datasets.trees import picture, write, write_faceforensics, write_video
from tests.runtime.absent import without

EXAMPLES = re.findall(r"\[bold\](edgedf .*?)\[/\]", EPILOG)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``pictures/`` without a fault, ``leaking/`` with fakes of another width."""
    for number in range(40):
        for label in ("real", "fake"):
            seed = number + 100 * (label == "fake")
            write(tmp_path / "pictures" / label / f"{seed}.jpg", picture(seed))
            width = 48 if label == "fake" else 40
            write(tmp_path / "leaking" / label / f"{seed}.jpg", picture(seed, width))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setenv("NO_COLOR", "1")
    return tmp_path


def test_what_is_there_is_shown(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["distill", "audit", "pictures"]) == 0
    out, err = capsys.readouterr()
    assert "pictures: 80 pictures, layout folders" in out
    assert "28 + 0" in out and "0 + 28" in out
    assert "jpeg, IJG quality 90" in out
    assert "AUC of metadata alone" in out
    assert "Warning" not in err


def test_a_leak_is_a_warning_and_exit_code_1(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["distill", "audit", "leaking"]) == 1
    out, err = capsys.readouterr()
    assert "width 1.00" in out
    assert "Warning: leaking: metadata alone tell real from fake with AUC 1.00" in err


def test_json_is_one_document_with_everything(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["distill", "audit", "leaking", "--json"]) == 1
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert report["metadata"][0]["leakage"]["features"][0]["auc"] == 1.0
    assert report["pictures"] == 80
    assert len(report["warnings"]) == err.count("Warning: ") == 1


def test_what_is_wrong_is_listed(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split in ("train", "val", "test"):
        for label in ("real", "fake"):
            for number in range(12):
                write(Path("copies", split, label, f"{number}.png"), picture(number))
    Path("copies/train/real/bad.png").write_bytes(b"")
    assert main(["distill", "audit", "copies"]) == 1
    out, err = capsys.readouterr()
    assert "Near-duplicates in more than one split" in out
    assert "copies/train/real/0.png, copies/train/fake/0.png" in out
    assert "2 more; --json lists them all." in out
    assert "copies/train/real/bad.png: The image is empty" in out
    assert "12 pictures are in more than one split" in err
    assert "1 of 73 pictures cannot be read" in err


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_in_the_help_work_as_they_stand(workplace: Path, example: str) -> None:
    write_faceforensics(workplace / "FaceForensics++", manipulations=["Deepfakes"], frames=1)
    write_video(
        workplace
        / "FaceForensics++"
        / "original_sequences"
        / "youtube"
        / "c23"
        / "videos"
        / "000.mp4"
    )
    done = shell(example, cwd=workplace)
    assert done.returncode in (0, 1), done.stderr
    assert (done.returncode == 1) == ("Warning: " in done.stderr)
    assert "Traceback" not in done.stderr
    made = example.partition(" > ")[2]
    assert (workplace / made).stat().st_size > 0 if made else "layout" in done.stdout


def test_frames_are_extracted_where_a_folder_is_named(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for place in (
        "original_sequences/youtube/c23/000",
        "manipulated_sequences/FaceSwap/c23/000_001",
    ):
        write_video(workplace / "ff" / f"{place}.mp4")
    call = ["distill", "audit", "ff", "--layout", "faceforensics", "--frames", "4"]
    Path("ff/manipulated_sequences/FaceSwap/c23/001_000.mp4").write_bytes(b"no video")
    assert main(call) == 2
    said = capsys.readouterr().err
    assert_clear(said)
    assert "--cache DIR" in said
    # In a process of its own: the decoder asks once how much it may say.
    ended = run(*call, "--cache", "frames", cwd=workplace)
    assert ended.returncode == 2
    assert_clear(ended.stderr)
    assert "1 of 3 videos in ff cannot be read" in ended.stderr
    assert "moov atom" not in ended.stderr  # what FFmpeg says by itself
    Path("ff/manipulated_sequences/FaceSwap/c23/001_000.mp4").unlink()
    assert main([*call, "--cache", "frames", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["pictures"] == 8
    assert len(list(Path("frames").rglob("*.png"))) == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere",), "nowhere is no folder"),
        (("pictures", "--layout", "folder"), "did you mean folders?"),
        (("pictures/real",), "no layout that is known"),
        (("pictures", "--layout", "cifake"), "CIFAKE has no picture in pictures/train/REAL"),
    ],
)
def test_a_mistake_gives_one_clear_error(
    workplace: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert main(["distill", "audit", *arguments]) == 2
    said = capsys.readouterr().err
    assert_clear(said)
    assert message in said


def test_without_the_extra_the_command_that_brings_it_is_named(workplace: Path) -> None:
    hidden = without(workplace / "site", "sklearn")
    ended = run("distill", "audit", "pictures", cwd=workplace, environment=hidden)
    assert ended.returncode == 2
    assert_clear(ended.stderr)
    assert "pip install 'edgedf[distill]'" in ended.stderr


def test_help_shows_examples(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["distill", "audit", "--help"]) == 0
    shown = capsys.readouterr().out
    assert len(EXAMPLES) == 3
    assert all(example in shown for example in EXAMPLES)
