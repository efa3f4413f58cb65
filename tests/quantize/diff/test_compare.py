import doctest
import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

import edgedf.sample
from edgedf import typed_json
from edgedf.artifact import read_artifact
from edgedf.errors import ArtifactUnreadable, ConfigError, SpecMissing
from edgedf.evaluation import Picture
from edgedf.files import sha256_of
from edgedf.formats.tflite.container import embed as embed_tflite
from edgedf.quantize.accuracy.limits import DiffLimits, Limits
from edgedf.quantize.accuracy.verify import Gate, verify
from edgedf.quantize.diff import compare as module
from edgedf.quantize.diff.compare import diff
from edgedf.quantize.diff.difference import Difference
from edgedf.result import Threshold
from edgedf.runtime.models import shipped_model
from tests.contract.specs import make_spec
from tests.quantize.accuracy.test_verify import tiny_pictures
from tests.quantize.students import shipped_int8
from tests.runtime.tiny import bare_onnx, bare_tflite, write_tiny

SAMPLE = tuple(
    Picture(str(image.path), "sample", image.kind, image.group, image.label)
    for image in edgedf.sample.images()
)


@cache
def of_int8() -> Difference:
    return diff(
        shipped_model("tflite"), shipped_int8("tflite"), pictures=SAMPLE[:16], data="some", rounds=4
    )


# The shipped student


def test_int8_against_float() -> None:
    found = of_int8()
    assert not found.identical
    assert found.same_format
    assert found.first.model_id.endswith("fp32") and found.second.model_id.endswith("int8")
    paths = shipped_model("tflite"), shipped_int8("tflite")
    for side, path in zip((found.first, found.second), paths, strict=True):
        assert (side.bytes, side.sha256) == (path.stat().st_size, sha256_of(path))
    assert (found.first.pieces, found.second.pieces) == (1, 1)
    assert {layer.first for layer in found.layers} == {"float32"}
    assert {layer.second for layer in found.layers} == {"int8"}
    assert len(found.layers) == found.matched == sum(found.first.layers.values())
    assert [(c.name, c.first, c.second) for c in found.operators] == [
        ("DEQUANTIZE", 0, 2),
        ("QUANTIZE", 0, 1),
    ]
    fields = {change.field for change in found.spec}
    assert {"precision", "calibration.samples", "outputs.fake_logit.scale"} <= fields
    assert "parent_sha256" not in fields


def test_what_is_lost_on_pictures_is_what_verify_measures() -> None:
    found = of_int8().verification
    assert found is not None
    small, full = shipped_int8("tflite"), shipped_model("tflite")
    wanted = verify(small, Gate(SAMPLE[:16], data="some"), against=full, worst=0, threads=1)
    assert found.measurements == wanted.measurements
    assert found.rows == wanted.rows
    assert of_int8().verdict == wanted.verdict
    assert type(found.limits) is Limits


def test_latency_is_measured_by_turns_and_named_with_its_circumstances() -> None:
    found = of_int8().latency
    assert found is not None
    assert found.measured.rounds == 4
    assert 0.0 < found.measured.low <= found.measured.ratio <= found.measured.high
    assert found.first_runtime == found.second_runtime
    assert found.first_runtime.startswith("ai-edge-litert ")
    assert found.threads == 1
    assert found.host.cpu
    size, latency = of_int8().ratios
    assert size.value == of_int8().second.bytes / of_int8().first.bytes
    assert (latency.value, latency.low) == (found.measured.ratio, found.measured.low)


def test_everything_survives_json() -> None:
    text = json.dumps(typed_json.encode(of_int8()), allow_nan=False)
    assert typed_json.decode(Difference, json.loads(text)) == of_int8()


def test_the_docstrings_example_works() -> None:
    results = doctest.testmod(module)
    assert (results.attempted > 0, results.failed) == (True, 0)


# Tiny models


def test_the_same_bytes_are_identical_and_are_not_run(tmp_path: Path) -> None:
    model = write_tiny(tmp_path, "onnx")
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(model.read_bytes())
    limits = DiffLimits(max_size_ratio=1.0, max_latency_ratio=1.0)
    found = diff(model, copy, pictures=["none.jpg"], limits=limits)
    assert found.identical
    assert found.verdict == "pass"
    assert (found.verification, found.latency) == (None, None)
    assert (found.spec, found.operators, found.layers) == ((), (), ())
    assert [ratio.value for ratio in found.ratios] == [1.0, 1.0]
    stricter = diff(model, copy, limits=DiffLimits(max_size_ratio=0.5))
    assert stricter.verdict == "fail"


def test_a_spec_alone_may_differ_and_flip_verdicts(tmp_path: Path) -> None:
    first = write_tiny(tmp_path, "tflite").rename(tmp_path / "first.tflite")
    second = write_tiny(tmp_path, "tflite", threshold=Threshold(0.99, 0.98, "stricter"))
    found = diff(first, second, pictures=tiny_pictures(tmp_path, 40), rounds=None)
    assert found.verdict == "fail"
    assert found.latency is None
    assert {change.field for change in found.spec} == {
        "threshold.fake_at",
        "threshold.real_at",
        "threshold.how",
    }
    assert (found.operators, found.layers, found.matched) == ((), (), 4)
    assert found.verification is not None
    assert found.verification.measurements.flipped > 0
    turned = diff(second, first, rounds=None)
    assert turned.verdict == "pass"
    assert turned.spec[0].first == found.spec[0].second


def test_formats_may_differ(tmp_path: Path) -> None:
    first, second = write_tiny(tmp_path, "tflite"), write_tiny(tmp_path, "onnx")
    found = diff(first, second, pictures=tiny_pictures(tmp_path, 160), rounds=2, threads=2)
    assert found.verdict == "pass"
    assert not found.same_format
    assert (found.layers, found.matched, found.spec) == ((), 0, ())
    assert found.latency is not None
    assert found.latency.first_runtime.startswith("ai-edge-litert")
    assert found.latency.second_runtime.startswith("onnxruntime")
    assert found.latency.threads == 2
    assert {"CONV_2D", "Conv"} <= {count.name for count in found.operators}


def test_limits_of_size_and_latency(tmp_path: Path) -> None:
    first, second = write_tiny(tmp_path, "tflite"), write_tiny(tmp_path, "onnx")
    size = second.stat().st_size / first.stat().st_size
    loose = DiffLimits(max_size_ratio=size, max_latency_ratio=1e6)
    assert diff(first, second, limits=loose, rounds=2).verdict == "pass"
    smaller = diff(first, second, limits=replace(loose, max_size_ratio=0.9 * size), rounds=2)
    assert [ratio.verdict for ratio in smaller.ratios] == ["fail", "pass"]
    assert smaller.verdict == "fail"
    faster = diff(first, second, limits=replace(loose, max_latency_ratio=1e-6), rounds=2)
    assert [ratio.verdict for ratio in faster.ratios] == ["pass", "fail"]


def test_int8_that_is_slower_than_float_is_remarked(tmp_path: Path) -> None:
    # A float model that takes microseconds; the int8 one takes milliseconds.
    quick, slow = write_tiny(tmp_path, "tflite"), shipped_int8("tflite")
    for first, second in ((quick, slow), (slow, quick)):
        found = diff(first, second, rounds=4).latency
        assert found is not None
        assert found.remark.startswith("int8 takes ")
        assert "times as long as float on this processor" in found.remark
    # Of two formats the runtimes may be the reason, and nothing is slower than itself.
    for other in (write_tiny(tmp_path, "onnx"), shipped_model("tflite")):
        found = diff(quick, other, rounds=4).latency
        assert found is not None and found.remark == ""


def test_layers_that_only_one_file_has(tmp_path: Path) -> None:
    path = write_tiny(tmp_path, "tflite")
    bare = bare_tflite()
    assert bare.count(b"pooled") == 1
    renamed = tmp_path / "renamed.tflite"
    renamed.write_bytes(embed_tflite(bare.replace(b"pooled", b"mooled"), read_artifact(path).spec))
    found = diff(path, renamed, rounds=None)
    assert [(layer.tensor, layer.first, layer.second) for layer in found.layers] == [
        ("pooled", "float32", None),
        ("mooled", None, "float32"),
    ]
    assert found.matched == 3


# What cannot be compared


def test_models_of_other_sizes_are_compared_without_pictures(tmp_path: Path) -> None:
    first, second = write_tiny(tmp_path, "onnx"), shipped_model("onnx")
    with pytest.raises(ConfigError, match=r"takes 32 x 32 pixels and .* 256 x 256") as caught:
        diff(first, second, pictures=SAMPLE[:1])
    assert "--no-pictures" in caught.value.next_step
    found = diff(first, second, rounds=2)
    assert ("input.height", "32", "256") in [(c.field, c.first, c.second) for c in found.spec]
    assert found.latency is not None


def test_a_damaged_model_is_refused_by_name(tmp_path: Path) -> None:
    good = write_tiny(tmp_path, "tflite")
    bad = tmp_path / "bad.tflite"
    bad.write_bytes(embed_tflite(bare_tflite()[:600], make_spec(32)))
    with pytest.raises(ArtifactUnreadable, match=r"bad\.tflite"):
        diff(good, bad)
    (tmp_path / "bare.onnx").write_bytes(bare_onnx())
    with pytest.raises(SpecMissing, match=r"bare\.onnx"):
        diff(tmp_path / "bare.onnx", good)
    with pytest.raises(ArtifactUnreadable, match=r"none\.onnx"):
        diff(good, tmp_path / "none.onnx")


def test_one_round_is_too_few(tmp_path: Path) -> None:
    first, second = write_tiny(tmp_path, "tflite"), write_tiny(tmp_path, "onnx")
    with pytest.raises(ConfigError, match="in 1 rounds"):
        diff(first, second, rounds=1)
