import dataclasses
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgedf
from edgedf import Detector
from edgedf.artifact import ModelFormat
from edgedf.errors import (
    ArtifactError,
    ArtifactUnreadable,
    ConfigError,
    ImageNotFound,
    ImageTooLarge,
    ImageUnreadable,
    SpecMismatch,
    SpecMissing,
    SpecUnsupported,
)
from edgedf.formats.onnx.container import embed as embed_onnx
from edgedf.formats.tflite.container import embed as embed_tflite
from edgedf.imaging import preprocess
from edgedf.result import Detection, Threshold, sigmoid
from edgedf.runtime.folder import Failure
from edgedf.runtime.models import shipped_model
from tests.contract.specs import make_spec
from tests.formats.test_backend import poisoned
from tests.runtime.pictures import (
    BROKEN,
    encoded,
    noise,
    photographs,
    write,
    write_broken,
)
from tests.runtime.tiny import (
    MAP_SIZE,
    SIZE,
    bare_onnx,
    bare_tflite,
    expected,
    tiny_spec,
    write_tiny,
)

FORMATS: tuple[ModelFormat, ...] = ("tflite", "onnx")


@pytest.fixture(params=FORMATS)
def model(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    return write_tiny(tmp_path, request.param)


def assert_right(detection: Detection, picture: np.ndarray) -> None:
    logit, dense = expected(preprocess(picture, SIZE))
    assert detection.score == pytest.approx(sigmoid(logit), abs=1e-4)
    np.testing.assert_allclose(detection.defocus_map, dense, atol=1e-4)
    assert detection.label == Threshold(0.6, 0.4).label(detection.score)


def test_path_bytes_and_array_get_the_same_right_answer(model: Path, tmp_path: Path) -> None:
    with Detector(model) as detector:
        for index, photograph in enumerate(photographs()):
            path = write(tmp_path / f"{index}.png", photograph)
            sources = (path, str(path), path.read_bytes(), photograph)
            detections = [detector.detect(source) for source in sources]
            for detection in detections:
                assert_right(detection, photograph)
                assert (detection.defocus_map == detections[0].defocus_map).all()
            assert [d.source for d in detections] == [str(path), str(path), "", ""]


def test_a_detection_says_who_judged_it_and_how_long_it_took(model: Path) -> None:
    detector = Detector(model, threads=2)
    detection = detector.detect(photographs()[0])
    assert detection.model == f"test-student 0.0.1 fp32 {model.suffix[1:]}"
    assert detection.threshold == tiny_spec().threshold
    assert set(detection.timings) == {"decode", "preprocess", "inference"}
    assert all(value >= 0 for value in detection.timings.values())
    assert detector.threads == 2
    assert detector.runtime.split()[0] in ("ai-edge-litert", "onnxruntime")
    assert repr(detector) == f"Detector({str(model)!r}, {detection.model}, {detector.runtime})"


def test_all_three_labels_occur_and_follow_the_thresholds(model: Path) -> None:
    red, blue = np.zeros((2, 40, 40, 3), np.uint8)
    red[:, :, 0], blue[:, :, 2] = 255, 255
    labels = [d.label for d in Detector(model).detect_batch([red, blue])]
    unsure = write_tiny(model.parent, model.suffix[1:], threshold=Threshold(0.7, 0.3))
    labels.append(Detector(unsure).detect(np.full((40, 40, 3), 90, np.uint8)).label)
    assert labels == ["fake", "real", "unsure"]


def test_the_shipped_student_takes_its_own_size_and_gives_a_bounded_map() -> None:
    detectors = [Detector(shipped_model(model_format), threads=1) for model_format in FORMATS]
    for photograph in photographs():
        first, second = (detector.detect(photograph) for detector in detectors)
        assert first.score == pytest.approx(second.score, abs=1e-3)
        np.testing.assert_allclose(first.defocus_map, second.defocus_map, atol=0.01)
        bounds = detectors[0].spec.output("defocus_map")
        assert bounds.minimum is not None
        assert bounds.maximum is not None
        assert bounds.minimum <= first.defocus_map.min()
        assert first.defocus_map.max() <= bounds.maximum
        assert first.defocus_map.std() > 0


# Many images


def test_a_batch_comes_back_in_order(model: Path) -> None:
    # Large and small ones mixed, so that the decoding threads finish out of order.
    pictures = [noise(*((600, 500) if i % 3 else (40, 50)), i, red=i / 30) for i in range(30)]
    sources = [encoded(picture) if i % 2 else picture for i, picture in enumerate(pictures)]
    detections = Detector(model).detect_batch(iter(sources))
    assert len(detections) == len(pictures)
    for detection, picture in zip(detections, pictures, strict=True):
        assert_right(detection, picture)


def test_a_batch_of_none_and_a_stacked_array(model: Path) -> None:
    detector = Detector(model)
    assert detector.detect_batch([]) == []
    stack = np.stack([noise(40, 40, seed) for seed in range(3)])
    for detection, picture in zip(detector.detect_batch(stack), stack, strict=True):
        assert_right(detection, picture)


@pytest.mark.parametrize("single", ["photo.jpg", b"bytes", Path("photo.jpg")])
def test_a_single_image_is_no_batch(model: Path, single: Any) -> None:
    with pytest.raises(ConfigError, match="single image") as caught:
        Detector(model).detect_batch(single)
    assert "detect_folder" in caught.value.next_step


def test_nothing_is_skipped_silently_in_a_batch(model: Path) -> None:
    with pytest.raises(TypeError):  # a None in the list is a bug in the caller, not the end
        Detector(model).detect_batch([noise(40, 40), None, noise(40, 40)])  # type: ignore[list-item]


def test_a_batch_stops_at_the_first_bad_image(model: Path) -> None:
    detector = Detector(model)
    with pytest.raises(ImageUnreadable, match="empty"):
        detector.detect_batch([noise(40, 40), b"", noise(40, 40)])
    assert_right(detector.detect(noise(40, 40)), noise(40, 40))


def test_a_folder_with_broken_files_is_judged_to_its_end(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    write_broken(folder)
    good = {f"{i:02}.png": noise(48, 64, i, red=i / 12) for i in range(12)}
    for name, picture in good.items():
        write(folder / name, picture)
    results = list(Detector(model).detect_folder(folder))
    assert [Path(result.source).name for result in results] == sorted({*good, *BROKEN})
    for result in results:
        name = Path(result.source).name
        if isinstance(result, Failure):
            assert BROKEN[name][1] in result.error.message
            assert result.error.expected
        else:
            assert_right(result, good[name])


def test_a_folder_is_judged_as_it_is_asked_for(model: Path, tmp_path: Path) -> None:
    for index in range(200):
        write(tmp_path / "photos" / f"{index:03}.png", noise(40, 40, index))
    threads = threading.active_count()
    results = Detector(model).detect_folder([tmp_path / "photos"])
    assert next(results).source.endswith("000.png")
    (tmp_path / "photos" / "150.png").unlink()  # not opened before its turn comes
    rest = list(results)
    (failure,) = (result for result in rest if isinstance(result, Failure))
    assert failure.source.endswith("150.png")
    assert len(rest) == 199
    started = Detector(model).detect_folder(tmp_path / "photos")
    next(started)
    started.close()  # type: ignore[attr-defined]
    for thread in threading.enumerate():
        if thread.name.startswith("edgedf-ahead"):
            thread.join(timeout=30)
    assert threading.active_count() <= threads


def test_places_without_images_are_failures(model: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    results = list(Detector(model).detect_folder([tmp_path / "empty", tmp_path / "no.jpg"]))
    assert all(isinstance(result, Failure) for result in results)
    assert [str(result.error) for result in results if isinstance(result, Failure)] != []
    assert len(results) == 2


def test_one_detector_serves_many_threads(model: Path) -> None:
    pictures = [noise(60, 50, seed, red=seed / 40) for seed in range(40)]
    with Detector(model) as detector, ThreadPoolExecutor(8) as pool:
        for detection, picture in zip(
            pool.map(detector.detect, pictures * 3), pictures * 3, strict=True
        ):
            assert_right(detection, picture)


# Misuse


def test_a_closed_detector_says_so(model: Path) -> None:
    with Detector(model) as detector:
        folder = detector.detect_folder(model.parent)
    detector.close()
    with pytest.raises(ConfigError, match="closed"):
        detector.detect(noise(40, 40))
    with pytest.raises(ConfigError, match="closed"):
        detector.detect_batch([noise(40, 40)])
    write(model.parent / "photo.png", noise(40, 40))
    with pytest.raises(ConfigError, match="closed"):
        list(folder)


@pytest.mark.parametrize("threads", [0, -1, 257, 1.5, "2"])
def test_numbers_of_threads_that_make_no_sense(model: Path, threads: Any) -> None:
    with pytest.raises(ConfigError, match="threads") as caught:
        Detector(model, threads=threads)
    assert caught.value.expected == "a number from 1 to 256"


@pytest.mark.parametrize(
    ("source", "error", "said"),
    [
        ("not-there.jpg", ImageNotFound, "No such file"),
        (b"", ImageUnreadable, "empty"),
        (np.zeros((40, 40), np.uint8), ImageUnreadable, r"uint8 of shape \(40, 40\)"),
        (np.zeros((40, 40, 3), np.float32), ImageUnreadable, "float32"),
        (np.zeros((10, 40, 3), np.uint8), ImageUnreadable, "40 x 10 pixels"),
        (BROKEN["bomb.png"][0](), ImageTooLarge, "claims 100000 x 100000"),
    ],
)
def test_images_that_cannot_be_used(model: Path, source: Any, error: Any, said: str) -> None:
    with pytest.raises(error, match=said):
        Detector(model).detect(source)


# Models that cannot be used


def embedded(model_format: ModelFormat, spec: edgedf.ModelSpec) -> bytes:
    if model_format == "tflite":
        return embed_tflite(bare_tflite(), spec)
    return embed_onnx(bare_onnx(), spec)


def with_spec_text(model_format: ModelFormat, old: str, new: str) -> bytes:
    """The tiny model with its spec's JSON edited, as another version might have written it."""

    class Edited:
        def to_json(self) -> str:
            text = tiny_spec().to_json()
            assert text.count(old) == 1
            return text.replace(old, new)

    return embedded(model_format, Edited())  # type: ignore[arg-type]


def refusal(path: Path, data: bytes) -> ArtifactError:
    path.write_bytes(data)
    with pytest.raises(ArtifactError) as caught:
        Detector(path)
    error = caught.value
    assert str(path) in error.message
    assert error.expected
    assert error.next_step
    return error


@pytest.mark.parametrize("model_format", FORMATS)
def test_a_model_without_a_spec(tmp_path: Path, model_format: ModelFormat) -> None:
    data = bare_tflite() if model_format == "tflite" else bare_onnx()
    error = refusal(tmp_path / "model", data)
    assert isinstance(error, SpecMissing)


@pytest.mark.parametrize("model_format", FORMATS)
def test_a_model_with_a_spec_from_the_future(tmp_path: Path, model_format: ModelFormat) -> None:
    data = with_spec_text(model_format, '"schema_version": 1', '"schema_version": 2')
    error = refusal(tmp_path / "model", data)
    assert isinstance(error, SpecUnsupported)
    assert "upgrade edgedf" in error.next_step


@pytest.mark.parametrize("model_format", FORMATS)
def test_a_preprocessing_step_nobody_knows(tmp_path: Path, model_format: ModelFormat) -> None:
    data = with_spec_text(model_format, '"center_square_crop"', '"face_crop"')
    error = refusal(tmp_path / "model", data)
    assert isinstance(error, SpecUnsupported)
    assert "face_crop" in error.message


@pytest.mark.parametrize("model_format", FORMATS)
def test_known_preprocessing_in_another_order(tmp_path: Path, model_format: ModelFormat) -> None:
    steps = tiny_spec().preprocessing
    for other in (steps[::-1], steps[1:], (*steps, steps[0])):
        error = refusal(
            tmp_path / "model", embedded(model_format, tiny_spec(preprocessing=tuple(other)))
        )
        assert isinstance(error, SpecUnsupported)
        assert "preprocessing" in error.message


def _spec_with_map(**changes: Any) -> edgedf.ModelSpec:
    logit, dense = tiny_spec().outputs
    return tiny_spec(outputs=(logit, dataclasses.replace(dense, **changes)))


@pytest.mark.parametrize(
    ("spec", "side"),
    [
        (make_spec(SIZE * 2, precision="fp32", calibration=None), "inputs"),
        (tiny_spec(input=dataclasses.replace(tiny_spec().input, name="picture")), "inputs"),
        (_spec_with_map(shape=(1, MAP_SIZE, MAP_SIZE, 2)), "outputs"),
        (_spec_with_map(shape=(1, 1, MAP_SIZE, MAP_SIZE)), "outputs"),
    ],
)
@pytest.mark.parametrize("model_format", FORMATS)
def test_tensors_that_are_not_those_of_the_spec(
    tmp_path: Path, model_format: ModelFormat, spec: edgedf.ModelSpec, side: str
) -> None:
    error = refusal(tmp_path / "model", embedded(model_format, spec))
    assert isinstance(error, SpecMismatch)
    assert f"The model's {side} are" in error.message


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(FORMATS), st.floats(0, 1, exclude_max=True))
def test_a_model_cut_off_anywhere_is_refused(
    tmp_path_factory: pytest.TempPathFactory, model_format: ModelFormat, share: float
) -> None:
    data = embedded(model_format, tiny_spec())
    refusal(tmp_path_factory.mktemp("cut") / "model", data[: int(share * len(data))])


def test_a_whole_spec_behind_a_damaged_model_is_refused_by_the_runtime(tmp_path: Path) -> None:
    onnx = bare_onnx().replace(b"GlobalAveragePool", b"GlobalAveragePoo!")
    for data in (embed_tflite(bare_tflite()[:600], tiny_spec()), embed_onnx(onnx, tiny_spec())):
        error = refusal(tmp_path / "model", data)
        assert isinstance(error, ArtifactUnreadable)
        assert "refuses" in error.message


@pytest.mark.parametrize("place", ["folder", "none", "picture", "empty"])
def test_what_is_no_model_at_all(tmp_path: Path, place: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").touch()
    (tmp_path / "picture").write_bytes(encoded(noise(40, 40)))
    with pytest.raises(ArtifactUnreadable) as caught:
        Detector(tmp_path / place)
    assert str(tmp_path / place) in caught.value.message
    assert caught.value.next_step


@pytest.mark.parametrize("model_format", FORMATS)
def test_a_model_that_answers_nonsense_stops_with_an_error(
    tmp_path: Path, model_format: ModelFormat
) -> None:
    data = poisoned(model_format, np.nan)
    embed = embed_tflite if model_format == "tflite" else embed_onnx
    path = tmp_path / "model"
    path.write_bytes(embed(data, tiny_spec()))
    with pytest.raises(ArtifactUnreadable, match="not finite"):
        Detector(path).detect(noise(40, 40))


def test_results_are_plain_json(model: Path) -> None:
    detection = Detector(model).detect(photographs()[0])
    data = json.loads(json.dumps(detection.to_dict(with_map=True), allow_nan=False))
    assert np.shape(data["defocus_map"]) == (MAP_SIZE, MAP_SIZE)
    assert data["score"] == pytest.approx(detection.score, abs=1e-6)
