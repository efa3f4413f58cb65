import doctest
from pathlib import Path

import numpy as np
import pytest

from edgedf.errors import DataError, ImageTooLarge
from edgedf.evaluation import ALL, Picture
from edgedf.imaging import RGBImage, prepare
from edgedf.result import sigmoid
from edgedf.runtime import evaluate as module
from edgedf.runtime.detector import Detector
from edgedf.runtime.evaluate import Scores, evaluate, scores
from edgedf.runtime.folder import Failure
from tests.runtime.pictures import noise, write
from tests.runtime.tiny import SIZE, expected, write_tiny


@pytest.fixture(params=["tflite", "onnx"])
def detector(request: pytest.FixtureRequest, tmp_path: Path) -> Detector:
    return Detector(write_tiny(tmp_path, request.param), threads=1)


class Swap:
    """Swaps red and blue, which the tiny model notices."""

    name = "swap"
    definition = "red for blue"

    @staticmethod
    def change(image: RGBImage) -> RGBImage:
        return np.ascontiguousarray(image[:, :, ::-1])


class Shrink:
    name = "shrink"
    definition = "to fewer pixels than a detector takes"

    @staticmethod
    def change(image: RGBImage) -> RGBImage:
        return np.ascontiguousarray(image[:8, :8])


def labelled(folder: Path, number: int = 40) -> list[Picture]:
    """Real pictures with little red in them, fakes with much."""
    pictures = []
    for index in range(number):
        fake = index % 2 == 1
        path = write(folder / f"{index}.png", noise(40, 50, index, red=0.9 if fake else 0.3))
        label = "fake" if fake else "real"
        pictures.append(Picture(str(path), "noise", "numpy", str(index), label))  # type: ignore[arg-type]
    return pictures


def logit_of(picture: RGBImage) -> float:
    return expected(prepare(picture, SIZE))[0]


def test_scores_are_those_of_the_detector_in_the_order_of_the_files(
    detector: Detector, tmp_path: Path
) -> None:
    files = [write(tmp_path / f"{index}.png", noise(40, 50, index)) for index in range(70)]
    files.append(files[3])  # a file may come twice
    told: list[tuple[str, int, int]] = []
    found = list(scores(detector, files, progress=lambda *step: told.append(step)))
    assert found == [Scores((detector.detect(path).score,), False) for path in files]
    assert told == [("pictures", done, 71) for done in range(1, 72)]


def test_changes_are_applied_to_the_picture_before_it_is_prepared(
    detector: Detector, tmp_path: Path
) -> None:
    picture = noise(40, 50, red=0.4)
    file = write(tmp_path / "a.png", picture)
    (found,) = scores(detector, [file], changes=[Swap.change, Shrink.change])
    assert not isinstance(found, Failure)
    wanted = [picture, picture[:, :, ::-1], picture[:8, :8]]
    assert found.scores == pytest.approx([sigmoid(logit_of(pixels)) for pixels in wanted], abs=1e-5)


def test_figures_are_those_of_what_the_model_said(detector: Detector, tmp_path: Path) -> None:
    pictures = labelled(tmp_path)
    report, judgements = evaluate(detector, pictures, data="noise", split="test", changes=[Swap()])
    assert [entry.picture for entry in judgements] == pictures
    assert [entry.logit for entry in judgements] == pytest.approx(
        [logit_of(noise(40, 50, i, red=0.9 if i % 2 else 0.3)) for i in range(40)], abs=1e-5
    )
    whole = report.rows[0].metrics
    assert whole.auc is not None and whole.auc.value == 1.0
    assert report.threshold == detector.spec.threshold
    assert detector.spec.model_id in report.model
    found = {(row.change, row.name): row.auc.value for row in report.robustness}
    # Swapped, the redder picture is the bluer one.
    assert found == {
        ("unchanged", ALL): 1.0,
        ("unchanged", "noise"): 1.0,
        ("swap", ALL): 0.0,
        ("swap", "noise"): 0.0,
    }


def test_a_picture_that_cannot_be_read_or_changed_is_left_out_and_listed(
    detector: Detector, tmp_path: Path
) -> None:
    pictures = labelled(tmp_path)
    Path(pictures[5].file).write_bytes(b"no picture")

    class Refuse(Swap):
        @staticmethod
        def change(image: RGBImage) -> RGBImage:
            if np.array_equal(image, noise(40, 50, 8, red=0.3)):
                raise ImageTooLarge("Too wide.")
            return image

    report, judgements = evaluate(detector, pictures, data="noise", changes=[Refuse()])
    assert [entry.file for entry in report.skipped] == [pictures[5].file, pictures[8].file]
    assert [entry.reason for entry in report.skipped][1] == "Too wide."
    assert "not an image" in report.skipped[0].reason
    assert report.pictures == len(judgements) == 38
    assert {row.auc.n for row in report.robustness} == {38}


def test_it_stops_at_the_picture_that_makes_too_many(detector: Detector, tmp_path: Path) -> None:
    pictures = labelled(tmp_path)
    for picture in pictures[:10]:
        Path(picture.file).unlink()
    told: list[tuple[str, int]] = []
    with pytest.raises(DataError, match="3 of 40 pictures cannot be read"):
        evaluate(detector, pictures, data="noise", progress=lambda *step: told.append(step[:2]))
    assert told[-1] == ("pictures", 3)


def test_the_examples_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    results = doctest.testmod(module)
    assert results.attempted > 0
    assert results.failed == 0
