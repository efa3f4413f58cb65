import json
import math
from dataclasses import replace

import numpy as np
import pytest

import edgedf.sample
from edgedf import typed_json
from edgedf.artifact import read_artifact
from edgedf.errors import ArtifactUnreadable
from edgedf.formats import open_backend
from edgedf.imaging import RGBImage, preprocess
from edgedf.quantize.accuracy.diagnosis import DIAGNOSED, Diagnosis, diagnose, next_step, sentence
from edgedf.quantize.accuracy.limits import Limits
from edgedf.quantize.accuracy.verify import Gate, verify, verify_pair
from edgedf.quantize.accuracy.wording import remarks
from edgedf.quantize.models.pair import Answer, open_pair, reference_of
from edgedf.runtime.models import shipped_model
from tests.quantize.students import dark_int8, shipped_int8

FILES = [str(image.path) for image in edgedf.sample.images()]
PICTURES = [np.full((4, 4, 3), grey, np.uint8) for grey in range(0, 200, 10)]


def answering(logit_error: float, map_error: float = 0.0) -> Answer:
    """Off by that much, up for bright pictures and down for dark ones."""

    def answer(picture: RGBImage) -> tuple[float, np.ndarray]:
        grey = int(picture[0, 0, 0])
        sign = 1 if grey // 10 % 2 else -1
        return grey / 50 + sign * logit_error, np.full((2, 2), 1 + sign * map_error, np.float32)

    return answer


def failing(picture: RGBImage) -> tuple[float, np.ndarray]:
    raise ArtifactUnreadable("not finite")


@pytest.mark.parametrize(
    ("kernels", "reference", "cause"),
    [
        (answering(0.5), answering(0.1), "processor"),
        (answering(0.1, 0.4), answering(0.1, 0.1), "processor"),
        (failing, answering(0.1), "processor"),
        (answering(0.12), answering(0.1), "model"),
        (answering(0.5), answering(0.5), "model"),
        (failing, failing, "model"),
        (answering(0.5), failing, "model"),
    ],
)
def test_what_the_reference_does_not_share_is_the_processors(
    kernels: Answer, reference: Answer, cause: str
) -> None:
    found = diagnose(answering(0.0), kernels, reference, PICTURES)
    assert found.cause == cause
    assert found.pictures == DIAGNOSED


def test_errors_are_root_mean_squares() -> None:
    found = diagnose(answering(0), answering(0.5, 0.2), answering(0.25, 0.1), PICTURES[:3])
    assert found == Diagnosis(
        "model",
        3,
        pytest.approx(0.5),
        pytest.approx(0.25),
        pytest.approx(0.2, rel=1e-6),
        pytest.approx(0.1, rel=1e-6),
    )
    dead = diagnose(answering(0), failing, answering(0.25), PICTURES[:1])
    assert dead.logit_kernels == math.inf


def test_the_cause_is_said_with_its_figures_and_what_to_do() -> None:
    processor = Diagnosis("processor", 12, 0.493, 0.081, 0.151, 0.05)
    assert sentence(processor).startswith(
        "This processor's int8 kernels are to blame, not the model"
    )
    for figure in ("12 pictures", "0.493", "0.081", "0.151 px", "0.050 px"):
        assert figure in sentence(processor)
    assert "upgrade onnxruntime" in str(next_step(processor, "onnx"))
    assert "ai-edge-litert" in str(next_step(processor, "tflite"))
    model = Diagnosis("model", 12, 0.5, 0.5, 0.1, 0.1)
    assert sentence(model).startswith("The model is to blame")
    assert next_step(model, "onnx") is None


def test_a_float_model_has_no_reference() -> None:
    artifact = read_artifact(shipped_model("tflite"))
    assert reference_of(artifact.model, artifact.format, artifact.spec) is None


@pytest.mark.parametrize("model_format", ["tflite", "onnx"])
def test_the_reference_says_what_the_kernels_say(model_format: str) -> None:
    artifact = read_artifact(shipped_int8(model_format))  # type: ignore[arg-type]
    picture = preprocess(FILES[0], artifact.spec.input.height)
    answers = [
        open_backend(artifact.model, artifact.format, reference=reference).run(picture)
        for reference in (False, True)
    ]
    assert answers[0][0] == pytest.approx(answers[1][0], abs=0.15)
    assert np.abs(answers[0][1] - answers[1][1]).mean() < 0.02


def test_a_model_that_is_bad_is_to_blame_itself() -> None:
    found = verify(dark_int8(), Gate(FILES[:24], limits=Limits(logit_correlation=0.99)))
    assert found.verdict == "fail"
    assert found.diagnosis is not None and found.diagnosis.cause == "model"
    assert any("The model is to blame" in said for said in remarks(found))
    assert json.loads(json.dumps(typed_json.encode(found)))["diagnosis"]["cause"] == "model"


def test_kernels_that_are_wrong_are_to_blame_where_the_file_is_right() -> None:
    with open_pair(shipped_int8("onnx"), threads=1) as pair:
        right = pair.artifact.answer

        def wrong(picture: RGBImage) -> tuple[float, np.ndarray]:
            logit, defocus = right(picture)
            return logit + 1.5 * (picture.mean() > 110), defocus

        pair = replace(pair, artifact=replace(pair.artifact, answer=wrong))
        found = verify_pair(pair, Gate(FILES[:24]))
    assert found.verdict == "fail"
    assert found.diagnosis is not None and found.diagnosis.cause == "processor"
    assert any("This processor's int8 kernels are to blame" in said for said in remarks(found))
