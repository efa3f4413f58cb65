import base64
import contextlib
import csv
import dataclasses
import io
import json
import os
import re
import subprocess
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

import edgedf.sample
from edgedf.cli import main
from edgedf.errors import ImageUnreadable
from edgedf.imaging import load_image, preprocess
from edgedf.result import Detection, Threshold, sigmoid
from edgedf.runtime.folder import Failure
from tests.cli.runs import COMMAND, ENVIRONMENT, assert_clear, run, workshop
from tests.runtime.absent import with_broken, without
from tests.runtime.pictures import BROKEN, damaged, noise, photographs, write, write_broken
from tests.runtime.tiny import SIZE, expected, tiny_spec, write_tiny

__all__ = ["workshop"]

Captured = pytest.CaptureFixture[str]
CSV_COLUMNS = (
    "source,label,score,fake_at,real_at,mean_sigma_px,"
    "decode_ms,preprocess_ms,inference_ms,model,damaged,error"
)


def detect(*arguments: str | Path) -> int:
    return main(["detect", *map(str, arguments)])


def wanted(path: Path | str) -> tuple[str, float, float]:
    """Label, score and mean blur that NumPy gives for an image."""
    logit, dense = expected(preprocess(path, SIZE))
    score = sigmoid(logit)
    return Threshold(0.6, 0.4).label(score), score, float(dense.mean())


def rows_of(text: str) -> list[dict[str, str]]:
    assert text.splitlines()[0] == CSV_COLUMNS
    return list(csv.DictReader(io.StringIO(text)))


# What it prints


@pytest.mark.parametrize("model", ["build/student_int8.tflite", "build/student_int8.onnx"])
def test_the_table_has_a_line_an_image_and_the_path_last(
    model: str, workshop: Path, capsys: Captured
) -> None:
    write(workshop / "photos" / "a name with  spaces.png", noise(64, 64, 9))
    assert detect("photo.jpg", "photos", "--model", model) == 0
    out, err = capsys.readouterr()
    header, *lines = out.splitlines()
    assert header.split() == ["verdict", "score", "blur", "px", "ms", "image"]
    assert len(lines) == 5
    assert lines[1].endswith("  photos/a name with  spaces.png")
    for line in lines:
        label, score, blur, milliseconds, path = line.split(maxsplit=4)
        wanted_label, wanted_score, wanted_blur = wanted(path)
        assert label == wanted_label
        assert float(score) == pytest.approx(wanted_score, abs=6e-4)
        assert float(blur) == pytest.approx(wanted_blur, abs=6e-3)
        assert int(milliseconds) >= 0
    assert err.splitlines()[0].startswith(f"Model: {model} (test-student 0.0.1 fp32, ")
    assert re.fullmatch(
        r"5 images: \d real, \d fake, \d unsure; [\d.]+ images/s", err.splitlines()[-1]
    )


def test_long_paths_are_never_folded(workshop: Path, capsys: Captured) -> None:
    path = Path(*["folder" * 8] * 5, "x.png")
    write(workshop / path, noise(40, 40))
    assert detect(path) == 0
    assert capsys.readouterr().out.splitlines()[1].endswith(str(path))


def test_names_that_would_steer_the_terminal_do_not(workshop: Path, capsys: Captured) -> None:
    write(workshop / "a\x1b[2J\n.png", noise(40, 40))
    (workshop / "b\x1b[2J.png").write_bytes(b"")
    assert detect("a\x1b[2J\n.png", "b\x1b[2J.png", "[bold]c[/].png") == 1
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert len(out.splitlines()) == 2
    assert "[bold]c[/].png" in err


def test_json_is_one_object_a_line(workshop: Path, capsys: Captured) -> None:
    (workshop / "photos" / "bad.jpg").touch()
    assert detect("photos", "--json") == 1
    objects = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [Path(item["source"]).name for item in objects] == ["bad.jpg", "0.jpg", "1.jpg", "2.jpg"]
    failure, *detections = objects
    assert failure["error"]["kind"] == "ImageUnreadable"
    assert {"message", "expected", "next_step"} < set(failure["error"])
    for item in detections:
        label, score, blur = wanted(item["source"])
        assert item["label"] == label
        assert item["score"] == pytest.approx(score, abs=1e-4)
        assert item["defocus_sigma_px"]["mean"] == pytest.approx(blur, abs=1e-3)
        assert (item["fake_at"], item["real_at"]) == (0.6, 0.4)
        assert set(item["timings_ms"]) == {"decode", "preprocess", "inference"}


def test_csv_goes_to_a_file_beside_the_table(workshop: Path, capsys: Captured) -> None:
    (workshop / "photos" / "bad, worse.jpg").touch()
    write(workshop / "photos" / 'quoted "name".png', noise(40, 40))
    assert detect("photos", "--csv", "new/verdicts.csv") == 1
    assert len(capsys.readouterr().out.splitlines()) == 5
    rows = rows_of((workshop / "new" / "verdicts.csv").read_text(encoding="utf-8"))
    assert len(rows) == 5
    assert rows[0]["source"] == "photos/bad, worse.jpg"
    assert "empty" in rows[0]["error"]
    assert rows[0]["label"] == rows[0]["score"] == ""
    for row in rows[1:]:
        label, score, _ = wanted(row["source"])
        assert row["label"] == label
        assert float(row["score"]) == pytest.approx(score, abs=1e-4)
        assert row["error"] == ""


@pytest.mark.parametrize("target", ["-", "/dev/stdout"])
def test_csv_on_standard_output_replaces_the_table(
    target: str, workshop: Path, capsys: Captured
) -> None:
    assert detect("photos", "--csv", target) == 0
    assert len(rows_of(capsys.readouterr().out)) == 3


def test_csv_and_json_go_together_where_they_do_not_meet(workshop: Path, capsys: Captured) -> None:
    assert detect("photos", "--json", "--csv", "out.csv") == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert len(rows_of(Path("out.csv").read_text())) == 3
    assert detect("photos", "--json", "--csv", "-") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert_clear(err)


@pytest.mark.parametrize("name", ["=1+1.png", "+x.png", "-x.png", "@sum.png"])
def test_a_spreadsheet_runs_no_name_as_a_formula(
    name: str, workshop: Path, capsys: Captured
) -> None:
    write(workshop / name, noise(40, 40))
    write_tiny(workshop, "onnx", name="=HYPERLINK(1)")
    assert detect("--csv", "-", "--model", "tiny.onnx", "--", name) == 0
    (row,) = rows_of(capsys.readouterr().out)
    assert row["source"] == f"./{name}"
    assert row["model"].startswith(" =HYPERLINK")


def test_patterns_and_the_same_file_named_twice(workshop: Path, capsys: Captured) -> None:
    assert detect("**/1.jpg", "photos/trip/1.jpg", "photos/t*", "--json") == 0
    sources = [json.loads(line)["source"] for line in capsys.readouterr().out.splitlines()]
    assert sources == [f"photos/trip/{i}.jpg" for i in (1, 0, 2)]


def test_threads_change_nothing_about_the_answer(workshop: Path, capsys: Captured) -> None:
    answers = []
    for threads in ("1", "2", "4"):
        assert detect("photos", "--json", "--threads", threads) == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        answers.append([(line["source"], line["score"]) for line in lines])
    assert answers[0] == answers[1] == answers[2]


# Pictures


def test_overlays_show_photograph_map_and_verdict(workshop: Path, capsys: Captured) -> None:
    write(workshop / "other" / "0.jpg", np.full((100, 100, 3), (255, 0, 0), np.uint8))
    assert detect("photos", "other", "--overlay", "pictures/new") == 0
    names = sorted(path.name for path in Path("pictures/new").iterdir())
    assert names == ["0_overlay.jpg", "0_overlay_2.jpg", "1_overlay.jpg", "2_overlay.jpg"]
    picture = load_image("pictures/new/0_overlay_2.jpg")
    assert picture.shape == (710, 1170, 3)
    red, yellow, box = picture[300, 280], picture[300, 800], picture[600, 30]
    np.testing.assert_allclose(red, (254, 0, 0), atol=8)
    bgr = cv2.applyColorMap(np.array([[255]], np.uint8), cv2.COLORMAP_VIRIDIS)  # 5 px: the end
    np.testing.assert_allclose(yellow, bgr[0, 0, ::-1], atol=8)
    np.testing.assert_allclose(box, (190, 38, 38), atol=8)
    assert "4 images" in capsys.readouterr().err


def test_overlays_inside_the_folder_are_not_judged_the_next_time(
    workshop: Path, capsys: Captured
) -> None:
    for _ in range(2):
        assert detect("photos", "photos/**", "--overlay", "photos/overlays", "--json") == 0
        assert len(capsys.readouterr().out.splitlines()) == 3
    assert len(list(Path("photos/overlays").iterdir())) == 3


def test_overlays_never_overwrite_a_photograph(workshop: Path) -> None:
    write(workshop / "p" / "a.png", noise(40, 40))
    original = write(workshop / "p" / "A_OVERLAY.jpg", noise(40, 40)).read_bytes()
    assert detect("p/a.png", "p/A_OVERLAY.jpg", "--overlay", "p") == 0
    assert (workshop / "p" / "A_OVERLAY.jpg").read_bytes() == original
    assert (workshop / "p" / "a_overlay_2.jpg").exists()


def test_overlays_of_names_as_long_as_they_may_be(workshop: Path) -> None:
    name = "ü" * 125 + ".png"  # 254 bytes
    write(workshop / "long" / name, noise(40, 40))
    assert detect("long", "--overlay", "pictures") == 0
    (made,) = Path("pictures").iterdir()
    assert made.name == "ü" * 100 + "_overlay.jpg"


def test_an_image_that_goes_away_before_its_overlay_is_a_failure(
    workshop: Path, capsys: Captured
) -> None:
    from edgedf.cli._results import Overlays

    overlays = Overlays(Path("pictures"), [])
    gone = Detection(0.5, "unsure", Threshold(0.6, 0.4), np.ones((8, 8), np.float32), "m")
    result = overlays.drawn(gone)
    assert isinstance(result, Failure)
    failure = Failure("a.jpg", ImageUnreadable("Broken."))
    assert overlays.drawn(failure) is failure


# A large folder with everything in it that goes wrong


@pytest.mark.parametrize("model_format", ["tflite", "onnx"])
def test_a_hundred_images_with_broken_ones_among_them(
    model_format: str, workshop: Path, capsys: Captured
) -> None:
    folder = workshop / "hundred"
    write_broken(folder / "m")
    for index in range(100):
        write(folder / "abxyz"[index % 5] / f"{index:02}.png", noise(36, 44, index, red=index / 99))
    (folder / "z" / "broken link.jpg").symlink_to("nowhere")
    (folder / "z" / "notes.txt").write_text("not an image and not named like one")

    model = f"build/student_int8.{model_format}"
    options = ("--csv", "out.csv", "--overlay", "pictures", "--model", model)
    assert detect("hundred", *options) == 1
    out, err = capsys.readouterr()
    lines = out.splitlines()[1:]
    assert len(lines) == 100
    for line in lines:
        label, score, _, _, path = line.split(maxsplit=4)
        assert (label, float(score)) == (wanted(path)[0], pytest.approx(wanted(path)[1], abs=6e-4))

    assert err.count("Failed: ") == len(BROKEN) + 1
    for name, (_, said) in BROKEN.items():
        (line,) = (line for line in err.splitlines() if f"/{name}" in line)
        assert line.startswith("Failed: ")
        assert said in line
    assert "broken link.jpg" in err
    assert "notes.txt" not in err
    assert "Traceback" not in err

    counts = {label: sum(line.startswith(label) for line in lines) for label in ("real", "fake")}
    assert min(counts.values()) > 5
    assert err.splitlines()[-1].startswith(
        f"100 images: {counts['real']} real, {counts['fake']} fake, "
        f"{100 - sum(counts.values())} unsure, {len(BROKEN) + 1} failed; "
    )
    rows = rows_of(Path("out.csv").read_text())
    assert len(rows) == 100 + len(BROKEN) + 1
    assert sum(bool(row["error"]) for row in rows) == len(BROKEN) + 1
    assert len(list(Path("pictures").iterdir())) == 100


# Bad input


@pytest.mark.parametrize("name", BROKEN)
def test_every_kind_of_bad_image_gives_one_clear_message(
    name: str, workshop: Path, capsys: Captured
) -> None:
    write_broken(workshop / "bad")
    assert detect(f"bad/{name}") == 2
    out, err = capsys.readouterr()
    assert out == ""
    _, message, *_ = err.splitlines()
    assert message.startswith("Failed: ")
    assert f"bad/{name}" in message
    assert BROKEN[name][1] in message
    assert err.count("Failed: ") == 1
    assert "  Expected: " in err
    assert "Traceback" not in err
    assert "0 images: 0 real, 0 fake, 0 unsure, 1 failed" in err


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("missing.jpg", "Cannot read missing.jpg: No such file or directory."),
        ("photo.jpg/x.jpg", "Cannot read photo.jpg/x.jpg: Not a directory."),
        ("empty", "There is no image in empty."),
        ("*.gif", "Nothing matches *.gif."),
        ("", "'' is not a path."),
        ("x" * 300, "File name too long"),
        ("/dev/null", "/dev/null is not a file."),
    ],
)
def test_places_without_an_image(place: str, said: str, workshop: Path, capsys: Captured) -> None:
    (workshop / "empty").mkdir()
    assert detect(place) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("Failed") == 1
    assert "  Expected: " in err
    assert detect(place, "photo.jpg") == 1  # the rest is done
    assert "1 image:" in capsys.readouterr().err


def test_a_file_that_cannot_be_read(workshop: Path, capsys: Captured) -> None:
    if os.geteuid() == 0:  # root may read everything, except what the kernel itself refuses
        unreadable = Path("/proc/self/mem")
        if not unreadable.exists():
            pytest.skip("root may read every file, and there is no /proc")
    else:
        unreadable = workshop / "secret.jpg"
        unreadable.write_bytes(Path("photo.jpg").read_bytes())
        unreadable.chmod(0)
    assert detect(unreadable, "photo.jpg") == 1
    err = capsys.readouterr().err
    assert f"Failed: Cannot read {unreadable}: " in err
    assert "Expected: the path of a readable image" in err


def test_a_file_too_large_to_be_a_photograph_is_not_read(workshop: Path, capsys: Captured) -> None:
    with Path("large.jpg").open("wb") as stream:
        stream.truncate(140_000_000)  # sparse: takes no room
    assert detect("large.jpg", "photo.jpg") == 1
    assert "Failed: large.jpg has 140 MB." in capsys.readouterr().err


def test_a_pipe_named_like_an_image_does_not_block(workshop: Path, capsys: Captured) -> None:
    os.mkfifo("photos/stuck.jpg")
    assert detect("photos") == 1
    assert "photos/stuck.jpg is not a file." in capsys.readouterr().err


def test_debug_shows_the_traceback_of_a_bad_image(workshop: Path, capsys: Captured) -> None:
    assert detect("missing.jpg", "--debug") == 2
    said = capsys.readouterr().err
    assert "Traceback (most recent call last)" in said
    assert "Failed: Cannot read missing.jpg" in said
    assert detect("missing.jpg") == 2
    assert "Traceback" not in capsys.readouterr().err


def bad_models(folder: Path) -> dict[str, str]:
    """Name by what has to be said."""
    whole = write_tiny(folder, "tflite").read_bytes()
    onnx = write_tiny(folder, "onnx").read_bytes()
    (folder / "empty.tflite").touch()
    (folder / "half.tflite").write_bytes(whole[: len(whole) // 2])
    (folder / "half.onnx").write_bytes(onnx[: len(onnx) // 2])
    (folder / "picture.tflite").write_bytes((folder / "photo.jpg").read_bytes())
    future = write_tiny(folder, "onnx").read_bytes().replace(b'_version": 1', b'_version": 9')
    (folder / "future.onnx").write_bytes(future)
    picture = dataclasses.replace(tiny_spec().input, name="picture")
    write_tiny(folder, "tflite", input=picture).rename(folder / "tensors.tflite")
    return {
        "missing.tflite": "No such file or directory",
        "build": "is a folder",
        "empty.tflite": "is empty",
        "half.tflite": "carries no edgedf spec",
        "half.onnx": "is no model, or it is cut off",
        "picture.tflite": "is no model",
        "future.onnx": "schema version 9",
        "tensors.tflite": "The model's inputs are",
    }


def test_every_kind_of_bad_model_gives_one_clear_error(workshop: Path, capsys: Captured) -> None:
    for name, said in bad_models(workshop).items():
        for verb in (["detect", "photo.jpg", "--model", name], ["info", name]):
            assert main(verb) == 2, verb
            out, err = capsys.readouterr()
            assert out == ""
            assert_clear(err)
            assert name in err
            assert said in err


# Outputs that cannot be written


@pytest.mark.parametrize(
    ("option", "target", "said"),
    [
        ("--csv", "photo.jpg/out.csv", "Cannot write"),
        ("--csv", "photos", "Cannot write"),
        ("--csv", "x" * 300, "File name too long"),
        ("--overlay", "x" * 300, "File name too long"),
        ("--overlay", "photo.jpg", "Cannot write pictures to photo.jpg"),
        ("--overlay", "photo.jpg/pictures", "Cannot write pictures to photo.jpg/pictures"),
        ("--overlay", "photos/../photos/trip/", "among the images to judge"),
        ("--csv", "photos/trip/0.jpg", "write a table over an image"),
        ("--csv", "x.PNG", "write a table over an image"),
    ],
)
def test_outputs_that_cannot_be_written_are_refused_before_any_image_is_judged(
    option: str, target: str, said: str, workshop: Path, capsys: Captured
) -> None:
    before = {path: path.stat().st_mtime_ns for path in workshop.rglob("*")}
    assert detect("photos/trip", option, target) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert_clear(err)
    assert said in err
    after = {path: path.stat().st_mtime_ns for path in workshop.rglob("*")}
    assert {path for path in after if path.is_file()} == {p for p in before if p.is_file()}


def test_a_table_from_before_stays_when_the_new_one_fails(workshop: Path) -> None:
    Path("out.csv").write_text("from before")
    Path("pictures").write_text("a file where the folder should be")
    assert detect("photos", "--csv", "out.csv", "--overlay", "pictures") == 2
    assert Path("out.csv").read_text() == "from before"
    assert not list(workshop.glob(".out*"))


def test_a_table_replaces_the_file_behind_a_link_not_the_link(workshop: Path) -> None:
    Path("real.csv").write_text("from before")
    Path("link.csv").symlink_to("real.csv")
    assert detect("photos", "--csv", "link.csv") == 0
    assert Path("link.csv").is_symlink()
    assert len(rows_of(Path("real.csv").read_text())) == 3


def test_a_device_or_a_pipe_is_written_to_and_never_replaced(
    workshop: Path, capsys: Captured
) -> None:
    os.mkfifo("pipe.csv")
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(Path("pipe.csv").read_text()))
    reader.start()
    assert detect("photos", "--csv", "pipe.csv") == 0
    reader.join(timeout=30)
    assert len(rows_of(read[0])) == 3
    assert Path("pipe.csv").is_fifo()
    if Path("/dev/full").is_char_device():
        capsys.readouterr()
        assert detect("photos", "--csv", "/dev/full") == 2
        assert Path("/dev/full").is_char_device()
        err = capsys.readouterr().err
        assert_clear(err)
        assert "No space left on device" in err


# Missing pieces


def test_without_a_runtime_the_error_says_what_to_install(tmp_path: Path) -> None:
    write(tmp_path / "photo.png", noise(40, 40))
    model = write_tiny(tmp_path, "onnx")
    none = without(tmp_path / "site", "onnxruntime", "ai_edge_litert", "tflite_runtime")
    done = run("detect", "photo.png", cwd=tmp_path, environment=none)
    assert done.returncode == 2
    assert_clear(done.stderr)
    assert "pip install 'edgedf[tflite]'" in done.stderr
    done = run("detect", "photo.png", "--model", model, cwd=tmp_path, environment=none)
    assert done.returncode == 2
    assert_clear(done.stderr)
    assert "pip install 'edgedf[onnx]'" in done.stderr


def test_with_one_runtime_the_other_format_is_refused_and_the_default_works(
    tmp_path: Path,
) -> None:
    write(tmp_path / "photo.png", photographs()[0])
    model = write_tiny(tmp_path, "tflite")
    only_onnx = without(tmp_path / "site", "ai_edge_litert", "tflite_runtime")
    done = run("detect", "photo.png", "--json", cwd=tmp_path, environment=only_onnx)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"].endswith(" onnx")
    done = run("detect", "photo.png", "--model", model, cwd=tmp_path, environment=only_onnx)
    assert done.returncode == 2
    assert "pip install 'edgedf[tflite]'" in done.stderr


def test_a_runtime_that_cannot_be_loaded_is_one_clear_error(tmp_path: Path) -> None:
    write(tmp_path / "photo.png", noise(40, 40))
    model = write_tiny(tmp_path, "onnx")
    broken = with_broken(tmp_path / "site", "onnxruntime")
    done = run("detect", "photo.png", "--model", model, cwd=tmp_path, environment=broken)
    assert done.returncode == 2
    assert_clear(done.stderr)
    assert "libedge.so.1" in done.stderr


# The real thing


@pytest.mark.parametrize("model_format", ["tflite", "onnx"])
def test_the_shipped_student_judges_the_shipped_sample(
    model_format: str, workshop: Path, capsys: Captured
) -> None:
    from edgedf.runtime.models import shipped_model

    model = shipped_model(model_format)  # type: ignore[arg-type]
    assert detect(edgedf.sample.folder(), "--model", model, "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == len(edgedf.sample.images()) >= 40
    scores = [line["score"] for line in lines]
    assert all(0 <= score <= 1 for score in scores)
    assert len(set(scores)) > len(scores) / 2  # no dead output
    for line in lines:
        blur = line["defocus_sigma_px"]
        assert 0 <= blur["min"] < blur["max"] <= 6.01


# Damaged files, and those of other kinds


def test_a_damaged_jpeg_is_judged_and_called_so_everywhere(workshop: Path) -> None:
    bad = workshop / "photos" / "trip" / "1.jpg"
    bad.write_bytes(damaged(bad.read_bytes()))
    done = run("detect", "photos", "--csv", "out.csv", cwd=workshop)
    assert done.returncode == 0
    assert [line.endswith("  (damaged)") for line in done.stdout.splitlines()[1:]] == [
        *(False, True, False)
    ]
    assert done.stderr.splitlines()[0].startswith("Model: ")
    assert len(done.stderr.splitlines()) == 2  # and nothing raw from the decoder
    assert ", 1 damaged; " in done.stderr
    rows = rows_of((workshop / "out.csv").read_text("utf-8"))
    assert [row["damaged"] for row in rows] == ["false", "true", "false"]
    done = run("detect", "photos", "--json", cwd=workshop)
    assert [json.loads(line)["damaged"] for line in done.stdout.splitlines()] == [
        *(False, True, False)
    ]


def test_files_that_are_left_out_are_counted(workshop: Path, capsys: Captured) -> None:
    for name in ("a.heic", "b.HEIC", "c.gif"):
        (workshop / "photos" / name).touch()
    assert detect("photos") == 0
    assert "3 files left out for their suffix: 2 .heic, 1 .gif." in capsys.readouterr().err
    assert detect("photos", "--json") == 0
    *_, last = capsys.readouterr().out.splitlines()
    assert json.loads(last) == {"left_out": {".heic": 2, ".gif": 1}}


def test_a_name_that_is_no_text_goes_through_a_pipe_as_it_is(workshop: Path) -> None:
    name = b"\xff caf\xe9.png"
    with contextlib.suppress(OSError):
        Path(os.fsdecode(name)).write_bytes(
            write(workshop / "plain.png", noise(40, 40)).read_bytes()
        )
    if os.fsdecode(name) not in {path.name for path in workshop.iterdir()}:
        pytest.skip("the file system takes only names that are text")
    Path(os.fsdecode(b"photos/\xff.jpg")).touch()  # a failure has a name too
    for encoding in ("utf-8", "ascii"):
        done = subprocess.run(
            [*COMMAND, "detect", name, "photos", "--csv", "-"],
            cwd=workshop,
            env={**ENVIRONMENT, "PYTHONIOENCODING": encoding},
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 1
        rows = [line.split(b",")[0] for line in done.stdout.splitlines()]
        assert {name, b"photos/\xff.jpg"} <= set(rows)
        assert b"udcff" not in done.stdout
    done = run("detect", os.fsdecode(name), "photos", "--json", cwd=workshop)
    assert "udc" not in done.stdout  # half a character is no JSON text
    found = {item["source"]: item for item in map(json.loads, done.stdout.splitlines())}
    judged, failed = found["\ufffd caf\ufffd.png"], found["photos/\ufffd.jpg"]
    assert base64.b64decode(judged["source_bytes"]) == name
    assert base64.b64decode(failed["source_bytes"]) == b"photos/\xff.jpg"
    assert "source_bytes" not in found["photos/trip/0.jpg"]
