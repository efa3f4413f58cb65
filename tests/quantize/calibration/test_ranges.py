from typing import Any

import numpy as np
import pytest

from edgedf.artifact import ModelFormat
from edgedf.errors import ConfigError
from edgedf.formats.activations import Range
from edgedf.quantize.calibration.ranges import recorded_ranges, search_ranges
from edgedf.quantize.calibration.settings import METHODS, method_named
from tests.formats.stages import onnx, tflite
from tests.quantize.students import small_exports, small_images

STAGES: dict[ModelFormat, Any] = {"tflite": tflite, "onnx": onnx}


def searched(model_format: ModelFormat, method: str) -> dict[str, Range]:
    stage, model = STAGES[model_format], small_exports().models[model_format]
    return search_ranges(
        stage.activations(model),
        small_images()[:6],
        method_named(method),
        fixed=stage.fixed_ranges(model),
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("model_format", ["tflite", "onnx"])
def test_ranges_are_within_those_of_minmax_and_fixed_ones_stay(
    model_format: ModelFormat, method: str
) -> None:
    stage, model = STAGES[model_format], small_exports().models[model_format]
    widest, found = searched(model_format, "minmax"), searched(model_format, method)
    assert list(found) == list(widest)
    for name, span in stage.fixed_ranges(model).items():
        assert found[name] == span
    shown = stage.activations(model)
    for name, (low, high) in found.items():
        source = shown.moved.get(name, name)
        assert min(widest[source][0], 0.0) - 1e-4 <= low
        assert high <= max(widest[source][1], 0.0) + 1e-4
        assert low == np.float32(low)
        if method != "minmax" and name in shown.moved:
            assert found[name] == found[source]


@pytest.mark.parametrize("method", ["percentile", "mse", "entropy"])
def test_a_method_finds_other_ranges_and_the_same_twice(method: str) -> None:
    found = searched("tflite", method)
    assert found == searched("tflite", method)
    assert found != searched("tflite", "minmax")


def test_a_mistyped_method_is_refused_with_the_list() -> None:
    with pytest.raises(ConfigError, match="'mean'") as caught:
        method_named("mean")
    assert caught.value.expected == "one of minmax, percentile, mse, entropy"


def test_what_is_recorded_has_short_names_and_gives_the_same_numbers() -> None:
    ranges = {
        "a.B_outer/c.Conv_first/d.E_last;1": (0.0, float(np.float32(0.1))),
        "x.B_other/c.Conv_first/d.E_last;1": (float(np.float32(-1 / 3)), 2.0),
        "relu6_3": (0.0, 6.0),
    }
    recorded = recorded_ranges(ranges)
    assert list(recorded) == ["Conv_first/E_last;1", "Conv_first/E_last;1 #2", "relu6_3"]
    for (low, high), (wanted_low, wanted_high) in zip(
        recorded.values(), ranges.values(), strict=True
    ):
        assert np.float32(low) == np.float32(wanted_low)
        assert np.float32(high) == np.float32(wanted_high)
    assert len(repr(recorded["Conv_first/E_last;1"])) < 12
