import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest

import edgedf
from edgedf.artifact import ModelFormat, read_artifact
from edgedf.errors import ConfigError, OutputError, ParityError
from edgedf.files import sha256_of
from edgedf.formats.onnx.container import SEAL_KEY, SPEC_KEY
from edgedf.formats.onnx.container import embed as embed_onnx
from edgedf.formats.tflite.container import SEAL_FILE, SPEC_FILE
from edgedf.precision import PrecisionName
from edgedf.quantize.calibration.candidates import candidates_in_folder
from edgedf.quantize.calibration.images import choose_images
from edgedf.quantize.calibration.settings import CalibrationImages
from edgedf.quantize.conversion.convert import convert
from edgedf.quantize.conversion.report import ConversionReport
from edgedf.quantize.making.keep import Keep
from edgedf.quantize.recipe import Recipe
from edgedf.spec import LOGIT_BOUND
from tests.quantize.students import (
    SMALL,
    crops,
    export_the_small_one_no_more,
    photograph_folder,
    photographs,
    scratch,
    small_checkpoint,
    small_exports,
    small_int8_file,
    small_model,
)

FORMATS: tuple[ModelFormat, ...] = ("tflite", "onnx")


def convert_small(
    source: Path, out: Path, recipe: Recipe = Recipe(), **options: Any
) -> ConversionReport:
    return convert(source, recipe, out=out, **{"calibration": photographs(), **options})


def files_in(folder: Path) -> dict[str, bytes]:
    """Everything below a folder, temporary files too."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@cache
def from_checkpoint() -> tuple[ConversionReport, Path]:
    """The small student to int8, from what torch exported of it."""
    out = scratch() / "from_checkpoint"
    with pytest.MonkeyPatch.context() as patch:
        export_the_small_one_no_more(patch)
        return convert_small(small_checkpoint(), out), out


# What comes out


def test_a_checkpoint_becomes_two_int8_files_that_agree_with_torch() -> None:
    report, out = from_checkpoint()
    assert report.passed
    report.raise_if_failed()
    assert sorted(files_in(out)) == ["small_int8.onnx", "small_int8.tflite"]
    compared = [(c.model, c.reference, c.images) for c in report.comparisons]
    assert compared == [
        ("tflite int8", "checkpoint (torch)", "calibration"),
        ("tflite int8", "checkpoint (torch)", "held out"),
        ("onnx int8", "checkpoint (torch)", "calibration"),
        ("onnx int8", "checkpoint (torch)", "held out"),
        ("tflite int8", "onnx int8", "held out"),
    ]
    for model in report.models:
        assert model.written
        assert model.path.stat().st_size == model.bytes
        assert sha256_of(model.path) == model.sha256
        assert model.misplaced == ()
    assert report.models[0].delegate_partitions == 1
    assert report.models[0].undelegated_operators == ("CAST",)
    assert report.models[1].delegate_partitions is None


def test_the_figures_are_those_of_the_files_that_were_written() -> None:
    """Measured again from the files alone, with the public detector."""
    report, out = from_checkpoint()
    images = choose_images(candidates_in_folder(photograph_folder()), samples=12, size=SMALL)
    for model in report.models:
        named = (f"{model.format} int8", "checkpoint (torch)", "held out")
        (comparison,) = (c for c in report.comparisons if (c.model, c.reference, c.images) == named)
        errors = []
        with edgedf.Detector(out / model.path.name, threads=1) as detector:
            for image in images.held_out:
                wanted = small_exports().torch_run(image)["defocus_map"]
                errors.append(np.abs(detector.detect(image).defocus_map - wanted).mean())
        assert comparison.n == len(images.held_out) >= 4
        assert comparison.outputs[1].mean_abs == pytest.approx(np.mean(errors), rel=1e-4)


@pytest.mark.parametrize("model_format", FORMATS)
def test_the_spec_inside_says_how_the_file_was_made(model_format: ModelFormat) -> None:
    _, out = from_checkpoint()
    spec = read_artifact(out / f"small_int8.{model_format}").spec
    parent = small_exports().specs[model_format]
    assert spec.precision == "int8"
    assert spec.parent_sha256 == sha256_of(small_checkpoint())
    assert spec.calibration is not None
    assert (spec.calibration.method, spec.calibration.samples) == ("minmax", 12)
    ranges = spec.calibration.ranges
    assert len(ranges) > 60
    assert list(ranges.values()).count((-LOGIT_BOUND, LOGIT_BOUND)) == 2  # and before its reshape
    assert next(iter(ranges.values())) == (0.0, 255.0)
    assert len(spec.to_json()) < 16_000
    assert spec.threshold == parent.threshold
    assert spec.training == parent.training
    assert {"torch", "ai-edge-quantizer" if model_format == "tflite" else "onnxruntime"} <= {
        *spec.tools
    }
    for output in spec.outputs:
        assert output.scale is not None
        assert output.scale > 0
        assert output.zero_point is not None
    if model_format == "tflite":
        with zipfile.ZipFile(out / "small_int8.tflite") as archive:
            assert archive.namelist() == [SPEC_FILE, SEAL_FILE]


KEEP = {"tflite": "fp32:Decoder_decoder/Conv_reduce*", "onnx": "fp32:decoder.reduce*"}


@pytest.mark.parametrize("model_format", FORMATS)
def test_input_type_and_kept_layers_are_in_the_spec_and_in_the_report(
    model_format: ModelFormat, tmp_path: Path
) -> None:
    source = small_model(model_format)
    recipe = Recipe(input_type="int8", keep=(Keep.parse(KEEP[model_format]),))
    report = convert_small(source, tmp_path, recipe, calibration=photographs(8))
    (model,) = report.models
    assert report.passed, report.to_dict()
    spec = read_artifact(tmp_path / f"small_int8.{model_format}").spec
    assert (spec.input.dtype, spec.input.zero_point) == ("int8", -128)
    (override,) = spec.overrides
    assert model.kept == spec.overrides
    assert (override.precision, override.pattern) == ("fp32", KEEP[model_format][5:])
    assert len(override.layers) == 3
    assert all("reduce" in name for name in override.layers)
    # Each is added to something or made larger.
    assert len(override.followers) == 3
    convolution = "CONV_2D" if model_format == "tflite" else "Conv"
    assert model.kept_operators[convolution] == 3
    assert (model.misplaced, model.kept_in_vain) == ((), ())
    assert report.to_dict()["models"][0]["kept"][0]["layers"] == list(override.layers)
    with edgedf.Detector(tmp_path / f"small_int8.{model_format}", threads=1) as detector:
        assert detector.detect(next(crops())).defocus_map.shape == (SMALL // 4,) * 2


def test_a_kept_layer_that_is_int8_nevertheless_fails_the_proof() -> None:
    report, _ = from_checkpoint()
    broken = replace(report.models[0], kept_in_vain=("CONV_2D",))
    failing = replace(report, models=(broken,))
    assert not failing.passed
    with pytest.raises(ParityError, match="computes in int8 although kept: CONV_2D"):
        failing.raise_if_failed()


def test_the_audit_of_good_images_finds_nothing_that_stops_anyone() -> None:
    report, _ = from_checkpoint()
    assert report.audit is not None
    assert report.audit.images == 12
    assert {finding.severity for finding in report.audit.findings} <= {"note", "warning"}
    assert report.audit.coverage.keys() == {"tflite", "onnx"}


@pytest.mark.parametrize("model_format", FORMATS)
def test_a_method_makes_another_file_and_is_in_its_spec(
    model_format: ModelFormat, tmp_path: Path
) -> None:
    report = convert_small(small_model(model_format), tmp_path, Recipe(method="percentile"))
    report.raise_if_failed()
    assert report.calibration is not None
    assert report.calibration.method == "percentile"
    (path,) = tmp_path.iterdir()
    made = read_artifact(path).spec.calibration
    plain = read_artifact(from_checkpoint()[1] / f"small_int8.{model_format}").spec.calibration
    assert made is not None
    assert plain is not None
    assert made.method == "percentile"
    assert list(made.ranges) == list(plain.ranges)
    assert made.ranges != plain.ranges
    assert path.read_bytes() != (from_checkpoint()[1] / path.name).read_bytes()


# Of the float file's size, at most.
SHARES: dict[PrecisionName, float] = {
    "fp32": 1.0,
    "fp16": 0.6,
    "int8": 0.4,
    "int8-weights": 0.37,
    "int8-dynamic": 0.37,
    "int8-a16": 0.43,
}


@pytest.mark.parametrize(
    ("model_format", "precision", "share"),
    [
        (model_format, precision, share)
        for model_format in FORMATS
        for precision, share in SHARES.items()
        if (model_format, precision) != ("onnx", "int8-dynamic")
    ],
)
def test_a_float_model_becomes_each_precision(
    model_format: ModelFormat, precision: PrecisionName, share: float, tmp_path: Path
) -> None:
    report = convert_small(small_model(model_format), tmp_path, Recipe(precision))
    assert report.passed
    (model,) = report.models
    assert model.path == tmp_path / f"small_{precision}.{model_format}"
    assert model.bytes <= share * model.source_bytes * 1.001
    assert read_artifact(model.path).spec.precision == precision
    assert (report.calibration is None) == (precision not in ("int8", "int8-a16"))
    assert model.float_operators == () or precision == "int8"


def test_the_same_conversion_gives_the_same_bytes(tmp_path: Path) -> None:
    for model_format in FORMATS:
        convert_small(small_model(model_format), tmp_path)
        once = small_int8_file(model_format)
        assert (tmp_path / once.name).read_bytes() == once.read_bytes()
    convert_small(small_model("onnx"), tmp_path / "other", calibration=photographs(seed=5))
    assert files_in(tmp_path / "other")[once.name] != once.read_bytes()


def test_the_report_is_plain_json() -> None:
    report, _ = from_checkpoint()
    data = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert data["passed"] is True
    assert data["models"][0]["delegate_partitions"] == 1
    assert data["models"][0]["boundary_operators"][0] == "CAST uint8 → float32"
    assert data["comparisons"][0]["outputs"][0]["output"] == "fake_logit"
    stages = {
        "load",
        "images",
        "make tflite",
        "make onnx",
        "prove",
        "audit",
        "count operators",
        "time",
        "total",
    }
    assert data["seconds"].keys() == stages


def test_every_long_step_says_how_far_it_is(tmp_path: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    convert_small(small_model("onnx"), tmp_path, progress=lambda *step: steps.append(step))
    ended = {step for step, done, total in steps if done == total}
    assert ended >= {
        "read images",
        "calibrate onnx",
        "quantize onnx",
        "run original, calibration",
        "run onnx int8, held out",
    }


# Proofs that fail


@cache
def sabotaged() -> Path:
    """The small ONNX student saying the same in float, with one channel 10,000 times too large.

    What reads that channel divides by 10,000. No int8 tensor can hold it beside the others.
    """
    proto = onnx.load_model_from_string(small_exports().models["onnx"])
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}

    def scale(name: str, factor: float, *, channel_of_input: bool) -> None:
        values = onnx.numpy_helper.to_array(tensors[name]).copy()
        part = values[:, 3] if channel_of_input else values[3:4]
        part *= factor
        tensors[name].CopyFrom(onnx.numpy_helper.from_array(values, name))

    writer = "network.student.encoder.stages.0.0.project."
    scale(f"{writer}weight", 1e4, channel_of_input=False)
    scale(f"{writer}bias", 1e4, channel_of_input=False)
    reader = "network.student.encoder.stages.1.0.expand."
    scale(f"{reader}weight", 1e-4, channel_of_input=True)
    path = scratch() / "sabotaged.onnx"
    path.write_bytes(embed_onnx(proto.SerializeToString(), small_exports().specs["onnx"]))
    return path


def test_the_sabotaged_student_is_as_good_as_the_other_in_float(tmp_path: Path) -> None:
    assert convert_small(sabotaged(), tmp_path, Recipe("fp32")).passed
    image = next(crops(128))
    with (
        edgedf.Detector(sabotaged()) as worse,
        edgedf.Detector(small_model("onnx")) as good,
    ):
        assert worse.detect(image).score == pytest.approx(good.detect(image).score, abs=1e-3)


def test_a_proof_that_fails_writes_nothing_and_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "sabotaged_int8.onnx").write_bytes(b"from yesterday")
    report = convert_small(sabotaged(), tmp_path)
    assert not report.passed
    assert files_in(tmp_path) == {"sabotaged_int8.onnx": b"from yesterday"}
    assert not report.models[0].written
    with pytest.raises(ParityError) as caught:
        report.raise_if_failed()
    assert "onnx int8 against onnx fp32" in caught.value.message
    assert "wanted: " in caught.value.message or "does not vary" in caught.value.message
    assert "nothing was written" in caught.value.next_step


def test_failing_files_can_be_kept_to_look_at_them(tmp_path: Path) -> None:
    report = convert_small(sabotaged(), tmp_path, keep_failing=True)
    assert not report.passed
    assert report.models[0].written
    assert read_artifact(tmp_path / "sabotaged_int8.onnx").spec.precision == "int8"
    with pytest.raises(ParityError, match="do not ship"):
        try:
            report.raise_if_failed()
        except ParityError as error:
            raise ParityError(str(error)) from error


def test_ranges_from_dark_images_do_not_fit_others_and_that_is_found(tmp_path: Path) -> None:
    folder, out = tmp_path / "images", tmp_path / "out"
    folder.mkdir()
    for index, picture in enumerate(crops(64)):
        cv2.imwrite(str(folder / f"dark{index}.png"), (picture // 12)[..., ::-1])
        if index < 6:
            stark = picture // 128 * 255
            cv2.imwrite(str(folder / f"stark{index}.png"), stark[..., ::-1])
    seed = next(seed for seed in range(1000) if all_dark(folder, seed))
    images = CalibrationImages(folder, samples=8, seed=seed)
    report = convert_small(small_model("tflite"), out, calibration=images)
    calibration, held_out = report.comparisons
    assert not held_out.passed
    assert calibration.passed
    assert not held_out.outputs[1].passed
    assert held_out.outputs[1].mean_abs > 1.5 * calibration.outputs[1].mean_abs
    assert files_in(out) == {}


def all_dark(folder: Path, seed: int) -> bool:
    images = choose_images(candidates_in_folder(folder), samples=8, size=SMALL, seed=seed)
    return all(image.mean() < 30 for image in images.calibration)


def test_outputs_that_are_no_numbers_fail_the_proof(tmp_path: Path) -> None:
    """Weights beyond 65,504 are infinite in float16; the network then gives NaN."""
    proto = onnx.load_model_from_string(small_exports().models["onnx"])
    for tensor in proto.graph.initializer:
        if tensor.name.startswith(("network.by_mean.", "network.by_spread.")):
            values = onnx.numpy_helper.to_array(tensor) * np.float32(1e9)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    loud = embed_onnx(proto.SerializeToString(), small_exports().specs["onnx"])
    (tmp_path / "loud.onnx").write_bytes(loud)
    report = convert_small(tmp_path / "loud.onnx", tmp_path / "out", Recipe("fp16"))
    assert not report.passed
    with pytest.raises(ParityError, match="fake_logit is not a finite number"):
        report.raise_if_failed()
    json.dumps(report.to_dict(), allow_nan=False)
    assert files_in(tmp_path / "out") == {}


# Outputs that cannot be written


def test_a_source_is_never_overwritten(tmp_path: Path) -> None:
    source = tmp_path / "own_fp32.onnx"
    source.write_bytes(small_model("onnx").read_bytes())
    with pytest.raises(ConfigError, match="would replace the file it is made from"):
        convert_small(source, tmp_path, Recipe("fp32"))
    assert source.read_bytes() == small_model("onnx").read_bytes()


def test_a_folder_below_a_file_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    steps: list[str] = []
    with pytest.raises(OutputError, match="Cannot write") as caught:
        convert_small(
            small_model("onnx"),
            tmp_path / "file" / "build",
            progress=lambda step, *_: steps.append(step),
        )
    assert "another output folder" in caught.value.next_step
    assert (tmp_path / "file").read_text() == "kept"
    assert steps == []


def test_a_folder_in_the_way_of_a_file_is_named_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "small_int8.onnx").mkdir()
    steps: list[str] = []
    with pytest.raises(OutputError, match=r"small_int8\.onnx: is a folder"):
        convert_small(small_model("onnx"), tmp_path, progress=lambda step, *_: steps.append(step))
    assert steps == []


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A small file system in memory, where this user may mount one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount a file system")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_up_keeps_the_old_file_and_no_part_of_the_new(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with mounted(disk, "size=1m"):
        (disk / "small_int8.onnx").write_bytes(b"from yesterday")
        (disk / "ballast").write_bytes(bytes(600_000))
        with pytest.raises(OutputError, match="No space left") as caught:
            convert_small(small_model("onnx"), disk)
        assert "free some space" in caught.value.next_step
        assert sorted(files_in(disk)) == ["ballast", "small_int8.onnx"]
        assert (disk / "small_int8.onnx").read_bytes() == b"from yesterday"


def test_a_disk_that_is_full_is_noticed_before_the_work(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with mounted(disk, "size=64k"):
        with contextlib.suppress(OSError):
            (disk / "ballast").write_bytes(bytes(100_000))
        with pytest.raises(OutputError, match="No space left"):
            convert_small(tmp_path / "not looked at.safetensors", disk)


def test_a_folder_that_may_not_be_written_is_refused(tmp_path: Path) -> None:
    if os.geteuid():
        (tmp_path / "locked").mkdir(mode=0o500)
        with pytest.raises(OutputError, match="Permission denied"):
            convert_small(small_model("onnx"), tmp_path / "locked")
        return
    with (  # permissions do not stop root, a read-only disk does
        mounted(tmp_path / "locked", "ro"),
        pytest.raises(OutputError, match="Read-only file system"),
    ):
        convert_small(small_model("onnx"), tmp_path / "locked")


def test_when_the_second_file_cannot_be_written_the_first_is_not_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Real disks fill up at a place of their own choosing; this one at the second file.
    synced: list[int] = []

    def full_at_the_second(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    for name in FORMATS:
        (tmp_path / f"student_fp32.{name}").write_bytes(b"from yesterday")
    monkeypatch.setattr(os, "fsync", full_at_the_second)
    with pytest.raises(OutputError, match=r"student_fp32\.onnx: No space left"):
        convert(None, Recipe("fp32"), out=tmp_path, calibration=photographs())
    assert files_in(tmp_path) == {f"student_fp32.{name}": b"from yesterday" for name in FORMATS}


_KILLED = """
import os, signal, sys
from pathlib import Path
from edgedf import CalibrationImages, convert
from edgedf.spec import LOGIT_BOUND

def kill_during(step, done, total):
    if step == sys.argv[4]:
        os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[4] == "write":  # the new file is there in full, its final name is still the old one's
    os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
images = CalibrationImages(sys.argv[2], samples=12)
convert(sys.argv[1], calibration=images, out=sys.argv[3], progress=kill_during)
"""


@pytest.mark.parametrize("moment", ["calibrate onnx", "write"])
def test_a_conversion_that_is_killed_leaves_the_old_file_as_it_was(
    moment: str, tmp_path: Path
) -> None:
    old = tmp_path / "small_int8.onnx"
    old.write_bytes(b"from yesterday")
    arguments = map(str, (small_model("onnx"), photograph_folder(), tmp_path, moment))
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, *arguments], capture_output=True, timeout=120, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert old.read_bytes() == b"from yesterday"
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == [old.name]


# Options


@pytest.mark.parametrize(
    ("options", "said", "expected"),
    [
        ({"formats": ["tflite", "onxn"]}, "no format 'onxn'", "one of tflite, onnx"),
        ({"formats": []}, "No format", "one of tflite, onnx, or both"),
        ({"calibration": CalibrationImages(split="train")}, "has no splits", "a manifest"),
    ],
)
def test_what_does_not_exist_is_refused_before_anything_is_made(
    options: dict[str, Any], said: str, expected: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        convert_small(tmp_path / "not looked at.safetensors", tmp_path / "out", **options)
    assert expected in caught.value.expected
    assert not (tmp_path / "out").exists()


def test_a_model_without_a_proof_of_its_own_spec_is_not_embedded_twice(tmp_path: Path) -> None:
    """Converting a float file again replaces its spec."""
    once = convert_small(small_model("onnx"), tmp_path / "a", Recipe("fp32")).models[0].path
    twice = convert_small(once, tmp_path / "b", Recipe("fp32")).models[0].path
    assert twice.name == "small_fp32.onnx"
    assert [e.key for e in onnx.load(str(twice)).metadata_props] == [SPEC_KEY, SEAL_KEY]
    assert embed_onnx(twice.read_bytes(), read_artifact(twice).spec) == twice.read_bytes()
