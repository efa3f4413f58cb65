import shutil
from pathlib import Path

import pytest

import edgedf.sample
from edgedf.artifact import read_artifact
from edgedf.errors import ArtifactUnreadable, ConfigError
from edgedf.evaluation import Picture
from edgedf.formats.tflite.container import embed as embed_tflite
from edgedf.quantize.accuracy.standing import files_of_one_student, on_pictures, on_record
from edgedf.quantize.accuracy.verify import Gate
from edgedf.runtime.models import shipped_model
from edgedf.spec import Accuracy
from tests.quantize.students import dark_int8, shipped_int8
from tests.runtime.pictures import noise, write
from tests.runtime.tiny import write_tiny

FLOAT = shipped_model("tflite")
SAMPLE = [
    Picture(str(image.path), "sample", image.kind, image.group, image.label)
    for image in edgedf.sample.images()
]


def with_accuracy(folder: Path, name: str, precision: str, *figures: Accuracy) -> Path:
    """A tiny file whose spec says so; what computes in it does not matter here."""
    made = write_tiny(folder, "tflite")
    artifact = read_artifact(made)
    spec = artifact.spec.with_changes(precision=precision, accuracy=figures)
    path = folder / name
    path.write_bytes(embed_tflite(made.read_bytes(), spec))
    made.unlink()
    return path


def auc(value: float, model: str, *, n: int = 500, dataset: str = "test") -> Accuracy:
    return Accuracy(dataset, "AUC", value, value - 0.02, value + 0.02, n, model)


def test_shipped_files_have_the_float_models_accuracy_alone_on_record() -> None:
    files = files_of_one_student([FLOAT, shipped_int8("tflite")])
    first, second = on_record(files)
    assert first.standing == "within"
    assert "AUC 0.764 (0.730 to 0.796) on 949 pictures" in first.reason
    assert second.standing == "unknown"
    assert second.reason == "its spec states no AUC of the int8 model"
    assert "--data" in second.next_step


@pytest.mark.parametrize(
    ("value", "standing"), [(0.897, "within"), (0.9, "within"), (0.88, "over")]
)
def test_what_is_on_record_is_held_against_the_float_model_on_the_same_pictures(
    tmp_path: Path, value: float, standing: str
) -> None:
    others = auc(0.5, "int8", n=900, dataset="pictures on which float was not measured")
    figures = auc(0.9, "fp32"), auc(value, "int8"), others
    file = with_accuracy(tmp_path, "a.tflite", "int8", *figures)
    (found,) = on_record([read_artifact(file)])
    assert found.standing == standing
    assert f"AUC {value:.3f}" in found.reason
    assert f"a drop of {0.9 - value:.4f}" in found.reason
    assert ("over the limit of 0.005" in found.reason) == (standing == "over")


def test_a_float_file_without_figures_is_still_what_others_are_held_against(
    tmp_path: Path,
) -> None:
    file = with_accuracy(tmp_path, "a.tflite", "fp32")
    (found,) = on_record([read_artifact(file)])
    assert found.standing == "within"


def test_broken_int8_is_over_and_good_int8_needs_more_pictures_than_the_sample() -> None:
    files = files_of_one_student([FLOAT, shipped_int8("tflite"), dark_int8()])
    whole, good, dark = on_pictures(files, Gate(SAMPLE, data="the sample"))
    assert whole.standing == "within"
    assert good.standing == "unknown"
    assert "AUC 0.5" in good.reason and "flipped verdicts" in good.reason
    assert "pictures of the same kind" in good.next_step
    assert dark.standing == "over"
    assert "logit correlation" in dark.reason


def test_int8_that_pictures_prove_good_is_within(tmp_path: Path) -> None:
    # The tiny model in both places answers alike, so 160 pictures prove it.
    pictures = []
    for index in range(160):
        label = ("real", "fake")[index % 2]
        path = write(tmp_path / f"{index}.png", noise(40, 44, index, red=(0.3, 0.9)[index % 2]))
        pictures.append(Picture(str(path), "tiny", "", str(index), label))  # type: ignore[arg-type]
    files = [
        with_accuracy(tmp_path, "float.tflite", "fp32"),
        with_accuracy(tmp_path, "int8.tflite", "int8"),
    ]
    _, found = on_pictures(files_of_one_student(files), Gate(pictures, data="tiny"))
    assert found.standing == "within"
    assert "a drop of 0.0000 (0.0000 to 0.0000)" in found.reason
    reals = [picture for picture in pictures if picture.label == "real"]
    _, one_class = on_pictures(files_of_one_student(files), Gate(reals, data="tiny"))
    assert (one_class.standing, "no AUC" in one_class.reason) == ("unknown", True)


def test_without_a_float_file_the_shipped_one_is_the_reference(tmp_path: Path) -> None:
    twin = shutil.copy(shipped_int8("tflite"), tmp_path / "twin.tflite")
    files = files_of_one_student([shipped_int8("tflite"), Path(twin)])
    first, second = on_pictures(files, Gate(SAMPLE[:12], data="few"))
    assert first == second
    own = [with_accuracy(tmp_path, f"{name}.tflite", "int8") for name in ("one", "two")]
    with pytest.raises(ConfigError, match="was not made from the student") as raised:
        on_pictures(files_of_one_student(own), Gate(SAMPLE[:12], data="few"))
    assert raised.value.next_step == "name it as well"


def test_files_that_cannot_be_chosen_among_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to choose among"):
        files_of_one_student([FLOAT])
    with pytest.raises(ArtifactUnreadable, match=r"gone\.tflite"):
        files_of_one_student([FLOAT, tmp_path / "gone.tflite"])
    with pytest.raises(ConfigError, match="different checkpoints"):
        files_of_one_student([FLOAT, write_tiny(tmp_path, "tflite")])
