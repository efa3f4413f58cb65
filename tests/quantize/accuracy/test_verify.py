import doctest
import json
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest

import edgedf.sample
from edgedf import Detector, typed_json
from edgedf.errors import (
    ArtifactUnreadable,
    CheckpointError,
    ConfigError,
    DataError,
    ImageNotFound,
    ParityError,
)
from edgedf.evaluation import Picture
from edgedf.formats.onnx.container import embed as embed_onnx
from edgedf.metrics import auc_with_interval, logit
from edgedf.quantize.accuracy import verify as module
from edgedf.quantize.accuracy.limits import Limits
from edgedf.quantize.accuracy.verify import Gate, Verification, examples, verify, verify_pair
from edgedf.quantize.models.pair import open_pair
from edgedf.result import Threshold, sigmoid
from edgedf.runtime.models import shipped_model
from tests.quantize.students import dark_int8, shipped_int8
from tests.runtime.pictures import noise, write
from tests.runtime.tiny import bare_onnx, expected, tiny_spec, write_tiny

SAMPLE = tuple(
    Picture(str(image.path), "sample", image.kind, image.group, image.label)
    for image in edgedf.sample.images()
)
FILES = [picture.file for picture in SAMPLE]


@cache
def of_int8() -> Verification:
    return verify(shipped_int8("tflite"), Gate(SAMPLE, data="the sample"), threads=1)


def tiny_pictures(folder: Path, count: int) -> list[Picture]:
    """Pictures of which the tiny model knows something: fakes have more red."""
    made = []
    for index in range(count):
        red = (0.3, 0.9)[index % 2] + (index * 7 % 10) / 40
        path = write(folder / f"{index}.png", noise(40, 44, index, red=min(red, 1.0)))
        label = ("real", "fake")[index % 2]
        made.append(Picture(str(path), "tiny", "", str(index), label))  # type: ignore[arg-type]
    return made


# The shipped student


def test_int8_keeps_every_figure_but_the_sample_is_too_small_to_prove_it() -> None:
    found = of_int8()
    verdicts = {row.name: row.verdict for row in found.rows}
    assert found.verdict == "cannot tell"
    assert "fail" not in verdicts.values()
    assert verdicts["flips"] == "cannot tell"
    assert [verdicts[name] for name in ("map_error", "logit_correlation", "map_correlation")] == [
        "pass"
    ] * 3
    assert found.images_needed is not None
    assert 101 < found.images_needed < 5000
    assert (found.real, found.fake, found.measurements.groups) == (60, 41, 60)
    assert found.same_checkpoint
    assert found.measurements.flipped == 0
    assert found.measurements.auc is not None
    assert abs(found.measurements.auc.drop.value) < 0.01
    assert found.measurements.map_error.value < 0.03


def test_the_figures_are_those_of_the_two_detectors() -> None:
    found = of_int8()
    with (
        Detector(shipped_int8("tflite"), threads=1) as small,
        Detector(shipped_model("tflite"), threads=1) as full,
    ):
        pairs = [(full.detect(file), small.detect(file)) for file in FILES]
    labels = np.array([float(picture.label == "fake") for picture in SAMPLE])
    groups = [picture.group for picture in SAMPLE]
    seen = found.measurements
    assert seen.auc is not None
    for at, figure in enumerate((seen.auc.first, seen.auc.second)):
        logits = np.array([logit(pair[at].score) for pair in pairs])
        assert figure == auc_with_interval(labels, logits, groups)
    maps = [np.stack([pair[at].defocus_map for pair in pairs]) for at in (0, 1)]
    errors = np.abs(maps[1].astype(float) - maps[0]).mean(axis=(1, 2))
    assert seen.map_error.value == pytest.approx(errors.mean())
    assert seen.map_range == pytest.approx(maps[0].max() - maps[0].min())
    assert seen.map_mean == pytest.approx(maps[0].mean())
    assert seen.map.correlation == pytest.approx(
        np.corrcoef(maps[0].ravel(), maps[1].ravel())[0, 1]
    )
    first = found.worst[0]
    full_score, small_score = (item.score for item in pairs[FILES.index(first.file)])
    assert first.parent_score == pytest.approx(full_score)
    assert first.artifact_score == pytest.approx(small_score)
    assert first.map_error == pytest.approx(errors[FILES.index(first.file)])
    changes = [max(abs(w.artifact_score - w.parent_score), w.map_error) for w in found.worst]
    assert len(found.worst) == 8
    assert all(change > 0 for change in changes)


def test_a_broken_artifact_fails() -> None:
    found = verify(dark_int8(), Gate(SAMPLE[:40]), threads=1)
    assert found.verdict == "fail"
    assert not found.passed
    assert found.images_needed is None
    failed = {row.name for row in found.rows if row.verdict == "fail"}
    assert "map_error" in failed
    assert "map_correlation" in failed


def test_a_model_passes_against_itself() -> None:
    model = shipped_model("tflite")
    found = verify(
        model, Gate(SAMPLE[:40], limits=Limits(flips_bound=0.2)), against=model, threads=1, worst=3
    )
    assert found.verdict == "pass"
    assert found.passed
    seen = found.measurements
    assert seen.auc is not None and seen.tpr_at_1_percent_fpr is not None
    for drop in (seen.auc.drop, seen.tpr_at_1_percent_fpr.drop, seen.map_error, seen.flips):
        assert (drop.value, drop.low, drop.high) == (0.0, 0.0, 0.0)
    assert seen.logit.correlation == pytest.approx(1.0)
    assert len(found.worst) == 3


def test_a_handful_of_pictures_cannot_tell_and_says_how_many_it_would_take() -> None:
    found = verify(shipped_int8("tflite"), Gate(FILES[::13]), threads=1)
    assert found.verdict == "cannot tell"
    assert found.measurements.auc is None
    assert found.images_needed == 150  # 3 / 2 %
    assert {row.name for row in found.rows if row.verdict == "cannot tell"} == {"flips"}


def test_a_checkpoint_can_be_the_parent() -> None:
    checkpoint = shipped_model("tflite").with_suffix(".safetensors")
    found = verify(shipped_model("onnx"), Gate(FILES[:6]), against=checkpoint, threads=1)
    assert found.same_checkpoint
    assert found.parent.endswith("torch)")
    assert found.measurements.map_error.value < 1e-4
    assert found.measurements.logit.max_abs < 1e-3


def test_the_docstrings_example_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    results = doctest.testmod(module)
    assert (results.attempted > 0, results.failed) == (True, 0)


# Models that NumPy can follow


def test_enough_pictures_prove_that_a_model_equals_itself(tmp_path: Path) -> None:
    model = write_tiny(tmp_path, "onnx")
    pictures = tiny_pictures(tmp_path, 160)
    assert verify(model, Gate(pictures), against=model).verdict == "pass"
    assert verify(model, Gate(pictures[:20]), against=model).images_needed == 150


@pytest.mark.parametrize("model_format", ["tflite", "onnx"])
def test_each_model_is_judged_by_its_own_thresholds(model_format: str, tmp_path: Path) -> None:
    parent = write_tiny(tmp_path, model_format).rename(tmp_path / f"parent.{model_format}")
    strict = Threshold(0.99, 0.98, "stricter")
    artifact = write_tiny(tmp_path, model_format, threshold=strict)
    pictures = tiny_pictures(tmp_path, 12)
    found = verify(artifact, Gate(pictures), against=parent, worst=12)
    flipped = changed = 0
    for entry in found.worst:
        assert entry.parent_score == entry.artifact_score
        labels = {Threshold(0.6, 0.4).label(entry.parent_score), strict.label(entry.parent_score)}
        flipped += labels == {"real", "fake"}
        changed += len(labels) == 2 and "unsure" in labels
    assert (found.measurements.flipped, found.measurements.changed) == (flipped, changed)
    assert flipped > 0 and changed > 0
    states = [(entry.flipped, entry.changed) for entry in found.worst]
    assert states == sorted(states, reverse=True)  # flips first, then other changes
    assert found.measurements.auc is not None
    assert found.measurements.auc.drop.value == 0.0


def test_different_checkpoints_are_noticed(tmp_path: Path) -> None:
    parent = write_tiny(tmp_path, "onnx").rename(tmp_path / "parent.onnx")
    artifact = write_tiny(tmp_path, "onnx", parent_sha256="f" * 64)
    assert not verify(artifact, Gate(tiny_pictures(tmp_path, 4)), against=parent).same_checkpoint


def test_pictures_of_one_class_have_no_auc(tmp_path: Path) -> None:
    model = write_tiny(tmp_path, "onnx")
    found = verify(model, Gate(tiny_pictures(tmp_path, 8)[::2]), against=model)
    assert (found.real, found.fake) == (4, 0)
    assert found.measurements.auc is None


def test_one_picture_shows_nothing(tmp_path: Path) -> None:
    model = write_tiny(tmp_path, "onnx")
    found = verify(model, Gate(tiny_pictures(tmp_path, 1)), against=model)
    assert found.verdict == "cannot tell"
    assert found.images_needed is None
    assert "shows nothing" in {row.name: row for row in found.rows}["logit_correlation"].reason


def test_examples_have_the_picture_and_both_maps(tmp_path: Path) -> None:
    model = write_tiny(tmp_path, "onnx")
    pictures = tiny_pictures(tmp_path, 4)
    steps = []
    with open_pair(model, model) as pair:
        found = verify_pair(pair, Gate(pictures), worst=2)
        shown = list(examples(pair, found.worst, progress=lambda *step: steps.append(step)))
    assert [example.compared for example in shown] == list(found.worst)
    assert steps[-1] == ("worst pictures", 2, 2)
    for example in shown:
        assert example.picture.shape == (40, 40, 3)
        assert example.parent_map.shape == (8, 8)
        np.testing.assert_array_equal(example.parent_map, example.artifact_map)
    Path(found.worst[0].file).unlink()
    with open_pair(model, model) as pair, pytest.raises(ImageNotFound):
        list(examples(pair, found.worst))


def test_the_scores_are_those_that_numpy_computes(tmp_path: Path) -> None:
    model = write_tiny(tmp_path, "tflite")
    path = write(tmp_path / "one.png", noise(32, 32, 5))
    (entry,) = verify(model, Gate([str(path)]), against=model).worst
    wanted = sigmoid(expected(noise(32, 32, 5))[0])
    assert entry.parent_score == pytest.approx(wanted, abs=1e-5)
    assert entry.label == "unknown"


def test_unreadable_pictures_are_left_out_until_they_are_too_many(tmp_path: Path) -> None:
    model = write_tiny(tmp_path, "onnx")
    pictures = tiny_pictures(tmp_path, 40)
    Path(pictures[7].file).write_bytes(b"no picture")
    steps: list[tuple[str, int, int]] = []
    found = verify(model, Gate(pictures), against=model, progress=lambda *step: steps.append(step))
    assert [entry.file for entry in found.skipped] == [pictures[7].file]
    assert found.measurements.pictures == 39
    assert (found.real, found.fake) == (20, 19)
    assert ("pictures", 40, 40) in steps
    for picture in pictures[:3]:
        Path(picture.file).write_bytes(b"")
    with pytest.raises(DataError, match="3 of 40 pictures cannot be read"):
        verify(model, Gate(pictures), against=model)


def test_no_picture_is_an_error(tmp_path: Path) -> None:
    model = write_tiny(tmp_path, "onnx")
    with pytest.raises(DataError, match="no picture to compare on in nothing"):
        verify(model, Gate([], data="nothing"), against=model)


def test_everything_survives_json(tmp_path: Path) -> None:
    text = json.dumps(typed_json.encode(of_int8()), allow_nan=False)
    assert typed_json.decode(Verification, json.loads(text)) == of_int8()


# What cannot be compared


def test_an_artifact_that_gives_no_numbers_fails_and_such_a_parent_is_an_error(
    tmp_path: Path,
) -> None:
    proto = onnx.load_model_from_string(bare_onnx())
    (weight,) = (entry for entry in proto.graph.initializer if entry.name == "contrast")
    broken = np.full_like(onnx.numpy_helper.to_array(weight), np.inf)
    weight.CopyFrom(onnx.numpy_helper.from_array(broken, "contrast"))
    path = tmp_path / "broken.onnx"
    path.write_bytes(embed_onnx(proto.SerializeToString(), tiny_spec()))
    good = write_tiny(tmp_path, "onnx")
    picture = tiny_pictures(tmp_path, 1)
    with pytest.raises(ParityError, match=r"broken\.onnx .* fails on .*0\.png"):
        verify(path, Gate(picture), against=good)
    with pytest.raises(ArtifactUnreadable, match="not finite"):
        verify(good, Gate(picture), against=path)


def test_without_a_parent_only_the_shipped_student_has_one(tmp_path: Path) -> None:
    path = write_tiny(tmp_path, "onnx")
    with pytest.raises(
        ConfigError, match="not made from the student that edgedf carries"
    ) as caught:
        verify(path, Gate(FILES[:1]))
    assert "--against" in caught.value.next_step


def test_models_of_other_sizes_cannot_be_compared(tmp_path: Path) -> None:
    path = write_tiny(tmp_path, "onnx")
    with pytest.raises(ConfigError, match=r"takes 32 x 32 pixels and gives a map of 8 x 8; .* 256"):
        verify(path, Gate(FILES[:1]), against=shipped_model("onnx"))


def test_a_parent_that_is_no_model_is_refused(tmp_path: Path) -> None:
    model = write_tiny(tmp_path, "onnx")
    (tmp_path / "text.tflite").write_text("this is no model")
    with pytest.raises(ArtifactUnreadable, match=r"text\.tflite"):
        verify(model, Gate(FILES[:1]), against=tmp_path / "text.tflite")
    with pytest.raises(CheckpointError, match=r"none\.safetensors"):
        verify(model, Gate(FILES[:1]), against=tmp_path / "none.safetensors")
