"""``--precision auto`` from end to end: a student that int8 ruins, and what becomes of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from edgedf.artifact import ModelFormat, read_artifact
from edgedf.errors import ConfigError, ParityError
from edgedf.progress import Progress
from edgedf.quantize.accuracy.limits import Limits
from edgedf.quantize.accuracy.verify import Gate
from edgedf.quantize.auto import candidate, search
from edgedf.quantize.auto.candidate import distance
from edgedf.quantize.auto.per_format import Search, checkpoint_of
from edgedf.quantize.conversion.convert import convert
from edgedf.quantize.conversion.report import ConversionReport
from edgedf.quantize.models.run import Outputs, as_outputs
from edgedf.quantize.recipe import Recipe
from tests.quantize.students import (
    export_the_small_one_no_more,
    hostile,
    photograph_folder,
    photographs,
    small_checkpoint,
    small_model,
)

# Of two dozen photographs, on which no flip tells little.
LIMITS = Limits(flips=0.2, flips_bound=1.0, map_error=0.02, map_error_bound=0.03)
NOTHING = Limits(flips=0.0, flips_bound=0.0, map_error=0.0, map_error_bound=0.0)


def gate(limits: Limits = LIMITS) -> Gate:
    files = sorted(str(path) for path in photograph_folder().rglob("*.png"))[::2]
    return Gate(files, limits, "photographs")


@pytest.fixture(autouse=True)
def a_short_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MOST_KEPT", 1)
    monkeypatch.setattr(candidate, "MOST_KEPT", 2)
    monkeypatch.setattr(candidate, "_ROUNDS", 2)


def searched(source: Path, out: Path, limits: Limits = LIMITS) -> ConversionReport:
    return convert(source, calibration=photographs(), gate=gate(limits), search=Search(), out=out)


@pytest.mark.parametrize("model_format", ["tflite", "onnx"])
def test_an_outlier_channel_is_repaired_and_the_file_says_how(
    model_format: ModelFormat, tmp_path: Path
) -> None:
    broken, parent = hostile(model_format)
    report = searched(parent, tmp_path)
    report.raise_if_failed()
    (result,) = report.searches
    passed = result.passed
    assert passed is not None
    assert passed.recipe is not None
    assert not result.stages[0].passed  # plain int8 is not good enough
    assert len(result.stages) > 1
    spec = read_artifact(report.models[0].path).spec
    assert spec.calibration is not None
    assert spec.calibration.method == passed.recipe.method
    assert spec.calibration.equalized == passed.recipe.equalize
    assert {entry.pattern for entry in spec.overrides} == {k.pattern for k in passed.recipe.keep}
    assert report.models[0].path.name == f"hostile_int8.{model_format}"
    assert passed.bytes == report.models[0].path.stat().st_size
    assert report.to_dict()["searches"][0]["stages"][0]["name"] == "int8"
    assert broken.exists()


def test_a_model_that_int8_does_not_hurt_takes_the_first_stage(tmp_path: Path) -> None:
    report = searched(small_model("onnx"), tmp_path)
    report.raise_if_failed()
    assert [stage.name for stage in report.searches[0].stages] == ["int8"]
    assert [verification.passed for verification in report.gate] == [True]


def test_nothing_is_written_where_no_stage_passes(tmp_path: Path) -> None:
    report = searched(small_model("onnx"), tmp_path, NOTHING)
    assert not report.passed
    assert report.searches[0].passed is None
    assert [stage.name for stage in report.searches[0].stages][-1] == "trained"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ParityError, match=r"no stage of the search passes for \.onnx"):
        report.raise_if_failed()


def test_training_is_the_last_resort_and_done_once_on_pictures_that_prove_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_the_small_one_no_more(monkeypatch)
    asked: list[tuple[Path, int]] = []

    def train(checkpoint: Path, pictures: Sequence[Path], folder: Path, progress: Progress) -> Path:
        asked.append((checkpoint, len(pictures)))
        return checkpoint

    report = convert(
        small_checkpoint(),
        formats=["onnx"],
        calibration=photographs(),
        gate=gate(NOTHING),
        search=Search(train),
        out=tmp_path,
    )
    total = len(list(photograph_folder().rglob("*.png")))
    assert asked == [(small_checkpoint(), total - report.held_out)] or report.held_out == 0
    assert report.searches[0].stages[-1].name == "trained"
    assert report.searches[0].stages[-1].verification is not None


def test_auto_needs_a_gate_and_chooses_for_itself(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="good enough"):
        convert(search=Search(), out=tmp_path)
    with pytest.raises(ConfigError, match="--equalize is chosen by --precision auto"):
        convert(None, Recipe(equalize=True), search=Search(), gate=gate(), out=tmp_path)


def test_training_says_why_it_cannot_be() -> None:
    assert "--qat-minutes" in Search().refusal(None)
    assert "checkpoint" in Search(lambda *_: Path()).refusal(None)
    assert checkpoint_of("model.onnx") is None
    assert checkpoint_of(small_checkpoint()) == small_checkpoint()
    shipped = checkpoint_of(None)
    assert shipped is not None
    assert shipped.is_file()


def outputs(logit: float, value: float) -> Outputs:
    return as_outputs(logit, np.full((2, 2), value, np.float32))


def test_the_distance_is_in_standard_deviations_of_what_is_wanted() -> None:
    wanted = [outputs(-1.0, 1.0), outputs(1.0, 3.0)]
    assert distance(wanted, wanted) == 0.0
    assert distance(wanted, [outputs(-0.5, 1.0), outputs(1.5, 3.0)]) == pytest.approx(0.5)
    assert distance(wanted, [outputs(-1.0, 1.0), outputs(1.0, 3.5)]) == pytest.approx(0.125**0.5)
    assert distance(wanted, [outputs(float("nan"), 1.0), outputs(1.0, 3.0)]) == float("inf")
    assert distance([outputs(2.0, 1.0)], [outputs(2.5, 1.0)]) == pytest.approx(0.5)
