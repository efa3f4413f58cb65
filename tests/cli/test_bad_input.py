"""Bad input of every kind at every verb that can meet it; test_detect.py has more on detect."""

import contextlib
import ctypes
import dataclasses
import io
import json
import os
import pickle
import re
import resource
import shlex
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy

import edgedf.sample
from edgedf.artifact import ModelFormat
from edgedf.cli import distill_map, main
from edgedf.formats.tflite.container import SPEC_FILE
from edgedf.formats.tflite.container import strip as strip_tflite
from edgedf.runtime.models import shipped_model
from tests.cli.runs import assert_clear, run
from tests.distill.pictures import write_dataset
from tests.runtime.absent import without
from tests.runtime.pictures import BROKEN, noise, write, write_broken
from tests.runtime.tiny import bare_onnx, bare_tflite, tiny_spec, write_tiny

Captured = pytest.CaptureFixture[str]
FORMATS: tuple[ModelFormat, ...] = ("tflite", "onnx")
DETECT = ("detect", "photo.jpg", "--model")
MAP = ("distill", "map", "--workers", "1", "--size", "64")
EVALUATE = ("distill", "evaluate", "good.safetensors", "--workers", "1", "--data")
QUICK = ("--steps", "1", "--batch", "2", "--input-size", "32", "--workers", "1")
TOO_LONG = "x" * 300


class _Trap:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("it-ran"),))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything bad in it; no test leaves anything there."""
    folder = tmp_path_factory.mktemp("bench")
    write(folder / "photo.jpg", noise(80, 100))
    write_broken(folder / "bad")
    with (folder / "bad" / "large.jpg").open("wb") as stream:
        stream.truncate(140_000_000)  # sparse: takes no room
    for model_format in FORMATS:
        _write_models(folder, model_format)
    _write_checkpoints(folder)
    _write_calibration(folder)
    write_dataset(folder / "pictures", groups=1)
    return folder


def _write_models(folder: Path, model_format: ModelFormat) -> None:
    whole = shipped_model(model_format).read_bytes()
    is_tflite = model_format == "tflite"
    picture = dataclasses.replace(tiny_spec().input, name="picture")
    (folder / "models").mkdir(exist_ok=True)
    write_tiny(folder, model_format, input=picture).rename(
        folder / f"models/tensors.{model_format}"
    )
    for name, content in {
        "empty": b"",
        "text": b"this is no model",
        "bare": bare_tflite() if is_tflite else bare_onnx(),
        "half": whole[: len(whole) // 2],
        "almost": whole[:-100],
        "future": _of_the_future(whole, is_tflite),
    }.items():
        (folder / "models" / f"{name}.{model_format}").write_bytes(content)
    write_tiny(folder, model_format).rename(folder / f"good.{model_format}")


def _of_the_future(model: bytes, is_tflite: bool) -> bytes:
    if not is_tflite:
        return model.replace(b'"schema_version": 1', b'"schema_version": 9')
    spec = json.loads(zipfile.ZipFile(io.BytesIO(model)).read(SPEC_FILE))
    stream = io.BytesIO(strip_tflite(model))
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr(SPEC_FILE, json.dumps({**spec, "schema_version": 9}))
    return stream.getvalue()


def _write_checkpoints(folder: Path) -> None:
    student = shipped_model("tflite").with_suffix(".safetensors")
    whole = student.read_bytes()
    with safetensors.safe_open(str(student), framework="numpy") as file:
        metadata = file.metadata()
    tensors = safetensors.numpy.load(whole)
    tensors["wrong.key"] = tensors.pop("blur.bias")
    (folder / "weights").mkdir()
    for name, content in {
        "empty.safetensors": b"",
        "half.safetensors": whole[: len(whole) // 2],
        "pickle.safetensors": pickle.dumps(_Trap()),
        "keys.safetensors": safetensors.numpy.save(tensors, metadata),
        "foreign.safetensors": safetensors.numpy.save({"a": np.ones(1, np.float32)}),
    }.items():
        (folder / "weights" / name).write_bytes(content)
    (folder / "good.safetensors").write_bytes(whole)


def _write_calibration(folder: Path) -> None:
    images = edgedf.sample.images()
    for name, label, count in (("few", "real", 3), ("few", "fake", 3), ("one", "real", 16)):
        target = folder / "calibration" / name / label
        target.mkdir(parents=True, exist_ok=True)
        for image in [image for image in images if image.label == label][:count]:
            shutil.copy(image.path, target)
    (folder / "calibration" / "empty").mkdir()
    write_broken(folder / "calibration" / "broken")


@pytest.fixture
def locked(bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder: good files, the same again unreadable, and below a locked folder."""
    monkeypatch.chdir(tmp_path)
    names = [f"good.{suffix}" for suffix in (*FORMATS, "safetensors")]
    Path("locked").mkdir()
    Path("fixed").mkdir()
    for name in ("photo.jpg", *names):
        secret = f"secret{Path(name).suffix}"
        for target in (name, secret, f"locked/{name}"):
            shutil.copy(bench / name, target)
        Path(secret).chmod(0)
    shutil.copytree(bench / "pictures", "pictures")
    shutil.copytree(bench / "pictures", "locked/pictures")
    shutil.copytree(bench / "calibration", "calibration")
    shutil.copytree(bench / "calibration", "locked/calibration")
    Path("calibration/few/real").chmod(0)
    Path("fixed").chmod(0o500)
    Path("locked").chmod(0)
    yield tmp_path
    for folder in ("locked", "fixed", "calibration/few/real"):
        Path(folder).chmod(0o700)


@contextlib.contextmanager
def powerless() -> Iterator[None]:
    """Permissions hold for this process, even where it runs as root."""
    if os.geteuid():
        yield
        return
    libc = ctypes.CDLL(None)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this thread
    sets = (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    before = sets[0]
    sets[0] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    assert libc.capset(header, sets) == 0
    try:
        yield
    finally:
        sets[0] = before
        assert libc.capset(header, sets) == 0


@contextlib.contextmanager
def no_space() -> Iterator[None]:
    """No file can grow; what is written to pipes still arrives."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def files() -> dict[Path, tuple[int, int]]:
    """Size and time of every file below the current folder."""
    found = (path for path in Path().rglob("*") if path.is_file())
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in found}


def refused(capsys: Captured, *arguments: str) -> str:
    """What it says; with ``--debug`` there is a traceback before it."""
    assert main(arguments) == 2
    out, said = capsys.readouterr()
    assert not out
    assert_clear(said)
    assert "Expected: " in said
    assert main([*arguments, "--debug"]) == 2
    with_debug = capsys.readouterr().err
    assert "Traceback (most recent call last)" in with_debug
    assert said.partition("Error: ")[2] in with_debug
    return said


def refused_untouched(capsys: Captured, verb: tuple[str, ...], path: str, empty: Path) -> str:
    """What a verb says of a bad file; it writes nothing, not even where it may (``empty``)."""
    options = ("--out", str(empty)) if verb == ("convert",) else ()
    before = files()
    message = refused(capsys, *verb, path, *options)
    assert path in message
    assert files() == before
    assert not list(empty.iterdir())
    return message


# Images; detect has the same in its own tests


@pytest.mark.parametrize(
    ("name", "said"),
    [
        *((f"bad/{name}", said) for name, (_, said) in BROKEN.items()),
        ("bad/large.jpg", "140 MB"),
        ("missing.jpg", "No such file"),
        (TOO_LONG, "File name too long"),
        ("bad/*.gif", "Nothing matches"),
    ],
)
def test_no_bad_image_gets_a_map(
    name: str, said: str, bench: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(bench)
    before = files()
    assert main([*MAP, name]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.count("Failed: ") == 1
    for part in (said, name, "Expected: ", "Next step: ", "0 maps written, 1 failed"):
        assert part in err
    assert "Traceback" not in err
    assert files() == before


@pytest.mark.parametrize("verb", [("detect", "--model", "good.onnx"), MAP], ids=["detect", "map"])
@pytest.mark.parametrize("name", ["secret.jpg", "locked/photo.jpg", "locked"])
def test_an_image_that_may_not_be_read_is_named(
    name: str, verb: tuple[str, ...], locked: Path, capsys: Captured
) -> None:
    with powerless():
        assert main([*verb, name]) == 2
    err = capsys.readouterr().err
    assert re.search(f"Failed: Cannot (read|search) {name}: Permission denied", err)
    assert err.count("Failed: ") == 1
    assert "Traceback" not in err


# Models


@pytest.mark.parametrize(
    "verb", [DETECT, ("info",), ("convert",)], ids=["detect", "info", "convert"]
)
@pytest.mark.parametrize("model_format", FORMATS)
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing", "No such file"),
        ("empty", "is empty"),
        ("text", "is no model"),
        ("bare", "carries no edgedf spec"),
        ("half", "is no model, or it is cut off|carries no edgedf spec"),
        ("almost", "cut off|carries no edgedf spec|damaged"),
        ("future", "schema version 9"),
        ("tensors", "inputs are image uint8 .* its spec says picture"),
    ],
)
def test_no_verb_takes_a_bad_model(
    name: str,
    said: str,
    model_format: str,
    verb: tuple[str, ...],
    bench: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
) -> None:
    monkeypatch.chdir(bench)
    message = refused_untouched(capsys, verb, f"models/{name}.{model_format}", tmp_path)
    assert re.search(said, message)
    assert "Next step: " in message


@pytest.mark.parametrize(
    "verb", [DETECT, ("info",), ("convert",)], ids=["detect", "info", "convert"]
)
@pytest.mark.parametrize("path", ["secret.tflite", "locked/good.onnx"])
def test_a_model_that_may_not_be_read_is_named(
    path: str, verb: tuple[str, ...], locked: Path, capsys: Captured
) -> None:
    with powerless():
        assert f"Cannot read {path}: Permission denied" in refused(capsys, *verb, path)


@pytest.mark.parametrize("content", ["empty", "half", "future"])
def test_doctor_finds_a_shipped_student_that_is_damaged(
    content: str, bench: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    damaged = bench / "models" / f"{content}.onnx"
    monkeypatch.setattr("edgedf.runtime.models.shipped_model", lambda _: damaged)
    assert main(["doctor", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert not found["detect"]
    assert all(str(damaged) in model["detail"] for model in found["models"])


# Checkpoints


@pytest.mark.parametrize("verb", [("convert",), ("distill", "evaluate", "--data", "pictures")])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing.safetensors", "does not exist|No such file"),
        ("empty.safetensors", "is cut off or damaged"),
        ("half.safetensors", "is cut off or damaged"),
        ("pickle.safetensors", "is a pickle"),
        ("keys.safetensors", r"missing blur\.bias; unknown wrong\.key"),
        ("foreign.safetensors", "not of an edgedf student"),
        (f"{TOO_LONG}.safetensors", "File name too long"),
    ],
)
def test_no_verb_takes_a_bad_checkpoint(
    name: str,
    said: str,
    verb: tuple[str, ...],
    bench: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
) -> None:
    monkeypatch.chdir(bench)
    # Nothing is written anywhere, so the pickle did not run.
    assert re.search(said, refused_untouched(capsys, verb, f"weights/{name}", tmp_path))


@pytest.mark.parametrize("verb", [("convert",), ("distill", "evaluate", "--data", "pictures")])
@pytest.mark.parametrize("path", ["secret.safetensors", "locked/good.safetensors"])
def test_a_checkpoint_that_may_not_be_read_is_named(
    path: str, verb: tuple[str, ...], locked: Path, capsys: Captured
) -> None:
    with powerless():
        message = refused(capsys, *verb, path)
    assert path in message
    assert "Permission denied" in message


# Calibration


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("calibration/empty", "has no images"),
        ("calibration/few", "Only 6 usable images"),
        ("calibration/one", "All calibration images in calibration/one are real"),
        ("calibration/broken", f"Only 0 usable images .* {len(BROKEN)} could not be used"),
        ("missing", "does not exist"),
        ("photo.jpg", "is not a folder"),
        (TOO_LONG, "File name too long"),
    ],
)
def test_no_bad_folder_calibrates(
    name: str,
    said: str,
    bench: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
) -> None:
    monkeypatch.chdir(bench)
    (tmp_path / "good_int8.onnx").write_text("from yesterday")
    options = ("--calibration", name, "--out", str(tmp_path))
    message = refused(capsys, "convert", "good.onnx", *options)
    assert re.search(said, message)
    assert name in message
    assert "Next step: " in message
    assert [path.read_text() for path in tmp_path.iterdir()] == ["from yesterday"]


@pytest.mark.parametrize("name", ["locked", "locked/calibration/one", "calibration/few"])
def test_a_calibration_folder_that_may_not_be_read_is_not_called_empty(
    name: str, locked: Path, capsys: Captured
) -> None:
    """Nor is one taken whose ``real`` folder alone may not be read."""
    with powerless():
        message = refused(capsys, "convert", "good.onnx", "--calibration", name)
    assert f"The calibration folder {name} cannot be read: " in message
    assert "Permission denied" in message


# Data sets


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing", None, "No such file"),
        ("empty", b"", "has no column"),
        ("program", b"\x7fELF\xff\0" * 9, "is no CSV file"),
        ("cut", b"file,set,label,group,split,source\na.png,faces,re", "the label 're'"),
    ],
)
def test_no_bad_manifest_is_trained_or_measured_with(
    name: str,
    content: bytes | None,
    said: str,
    bench: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(bench / "good.safetensors", tmp_path)
    Path(name).mkdir()
    if content is not None:
        Path(name, "manifest.csv").write_bytes(content)
    for arguments in (("distill", "train", "--out", "run", "--data", name), (*EVALUATE, name)):
        message = refused(capsys, *arguments)
        assert said in message
        assert f"{name}/manifest.csv" in message
    assert not Path("run").exists()


@pytest.mark.parametrize(("verb", "fault"), [("train", "truncated.jpg"), ("evaluate", "bomb.png")])
def test_a_bad_picture_in_a_data_set_is_named(
    verb: str,
    fault: str,
    bench: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(bench / "pictures", "pictures")
    shutil.copy(bench / "good.safetensors", tmp_path)
    split = "train" if verb == "train" else "test"
    (bad,) = Path("pictures/scenes").glob(f"{split}-0-real.png")
    bad.write_bytes(BROKEN[fault][0]())
    train = ("distill", "train", "--data", "pictures", "--out", "run", *QUICK)
    assert main(train if verb == "train" else (*EVALUATE, "pictures")) == 2
    said = capsys.readouterr().err
    assert_clear(said)
    assert str(bad) in said
    assert BROKEN[fault][1] in said
    assert "take its line out of the manifest" in said


def test_a_data_set_that_may_not_be_read_is_named(locked: Path, capsys: Captured) -> None:
    train = ("distill", "train", "--out", "run", "--data")
    with powerless():
        for arguments in (train, EVALUATE):
            message = refused(capsys, *arguments, "locked/pictures")
            assert "locked/pictures/manifest.csv: Permission denied" in message
    assert not Path("run").exists()


# Outputs


WRITERS = {
    "detect --csv": (*DETECT, "good.onnx", "--csv"),
    "detect --overlay": (*DETECT, "good.onnx", "--overlay"),
    "convert": ("convert", "good.onnx", "--precision", "fp32", "--out"),
    "map": (*MAP, "photo.jpg", "--out"),
    "train": ("distill", "train", "--data", "pictures", *QUICK, "--out"),
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("target", ["fixed/new", "locked/new"])
def test_an_output_that_may_not_be_written_is_refused(
    target: str, writer: str, locked: Path, capsys: Captured
) -> None:
    with powerless():
        message = refused(capsys, *WRITERS[writer], target)
    assert "Permission denied" in message
    assert target in message


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_loses_nothing_and_leaves_nothing_half_written(
    writer: str,
    bench: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(bench)
    targets = [tmp_path / name for name in ("out", "good_fp32.onnx", "settings.json")]
    for target in targets:
        target.write_text("from yesterday")
    out = str(targets[0] if writer == "detect --csv" else tmp_path)
    before = files()
    buffer = io.StringIO()
    with no_space(), contextlib.redirect_stderr(buffer), contextlib.redirect_stdout(io.StringIO()):
        code = main([*WRITERS[writer], out])
    assert code == 2
    assert_clear(buffer.getvalue())
    assert "Cannot write" in buffer.getvalue()
    assert sorted(tmp_path.iterdir()) == sorted(targets)
    assert {target.read_text() for target in targets} == {"from yesterday"}
    assert files() == before


# Missing extras; the other verbs' are in their own tests


@pytest.mark.parametrize(
    ("arguments", "package"),
    [
        ((*MAP, "photo.jpg"), "scipy"),
        ((*EVALUATE, "pictures"), "torch"),
    ],
)
def test_without_the_extra_the_command_that_brings_it_is_named(
    arguments: tuple[str, ...], package: str, bench: Path, tmp_path: Path
) -> None:
    done = run(*arguments, cwd=bench, environment=without(tmp_path / "site", package))
    assert done.returncode == 2
    assert_clear(done.stderr)
    assert "pip install 'edgedf[distill]'" in done.stderr
    assert not (bench / "maps").exists()


# Examples in the help; those of the other verbs are run in their own tests


@pytest.mark.parametrize("example", re.findall(r"\[bold\](.*?)\[/\]", distill_map.EPILOG))
def test_the_examples_of_distill_map_run(
    example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("photo.jpg", "photos/a.jpg", "photos/trip/b.png"):
        write(tmp_path / name, noise(80, 100))
    command, *arguments = shlex.split(example.partition(" | ")[0])
    assert command == "edgedf"
    quick = ("--size", "64", "--workers", "1")
    assert main([*arguments, *quick]) == 0
    made = len(list(Path("maps").glob("*_preview.jpg")))
    assert made == (2 if "photos/" in example else 1)
    assert f"{made} map" in capsys.readouterr().err
