import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import edgedf.sample
from edgedf.imaging import preprocess
from edgedf.machine import this_processor
from edgedf.runtime.int8_speed import (
    Int8Speed,
    measured_speed,
    sentence,
    slower_than_float,
)
from edgedf.runtime.interleaved import LatencyRatio, Speed
from edgedf.runtime.models import shipped_model
from tests.runtime.pictures import noise
from tests.runtime.tiny import SIZE, write_tiny

SLOWER = ("int8", "fp32"), 1 / 1.35, 1 / 1.36, 1 / 1.34


def speed(ratio: float, *, has: bool | None = True, width: float = 0.01) -> Int8Speed:
    one = Speed(10.0, 11.0, 9.0)
    found = LatencyRatio(one, one, ratio, ratio - width, ratio + width, 20)
    return Int8Speed("int8", "A processor", has, found)


@pytest.mark.parametrize(
    ("has", "said"),
    [
        (False, ", which has no dot-product instructions for int8. Processors with dot-product"),
        (None, "(1.34 to 1.36). Processors with dot-product instructions"),
        (True, "although it has dot-product instructions for int8. edgedf convert --lint"),
    ],
)
def test_slower_int8_is_said_with_what_to_make_of_it(has: bool | None, said: str) -> None:
    line = slower_than_float(("fp32", "int8"), 1.35, 1.34, 1.36, has)
    assert line.startswith(
        "int8 takes 1.35 times as long as float on this processor (1.34 to 1.36)"
    )
    assert said in line
    # The other way round it is the same.
    assert slower_than_float(*SLOWER, has) == line
    assert "on ssh:pi (1.34" in slower_than_float(*SLOWER, has, "ssh:pi")


PRECISIONS = st.sampled_from(["fp32", "fp16", "int8", "int8-dynamic", "int8-weights", "int8-a16"])


@settings(max_examples=50, deadline=None)
@given(PRECISIONS, PRECISIONS, st.floats(0.1, 10.0), st.floats(0.0, 0.5))
def test_it_is_said_of_float_and_int8_alone_and_only_where_the_interval_says_so(
    first: str, second: str, ratio: float, width: float
) -> None:
    low, high = ratio * (1 - width), ratio * (1 + width)
    said = slower_than_float((first, second), ratio, low, high, None)
    integers = {"int8", "int8-dynamic"}
    slower = (first == "fp32" and second in integers and low > 1) or (
        second == "fp32" and first in integers and high < 1
    )
    assert bool(said) == slower


def test_a_finding_in_a_sentence() -> None:
    assert sentence(speed(0.51)) == (
        "int8 takes 0.51 times as long as float on this processor (0.50 to 0.52, 20 turns, one "
        "thread)."
    )
    assert "which has no dot-product" in sentence(speed(1.35, has=False))
    assert "may be slower than float" in sentence(Int8Speed("int8", "A processor", False, None))
    assert sentence(Int8Speed("int8", "A processor", True, None)) == ""


def test_the_shipped_student_is_timed_in_a_moment() -> None:
    images = [preprocess(image.path, 256) for image in edgedf.sample.images()[:3]]
    model = shipped_model("tflite").read_bytes()
    begun = time.perf_counter()
    found = measured_speed(model, model, "tflite", "int8", images)
    assert time.perf_counter() - begun < 5  # a second, but for other work on this machine
    processor = this_processor()
    assert (found.processor, found.int8_dot_product) == (processor.name, processor.int8_dot_product)
    if found.measured is not None:  # a busy machine may be too slow for it
        assert found.measured.low <= found.measured.ratio <= found.measured.high


@pytest.mark.parametrize("model_format", ["tflite", "onnx"])
def test_what_is_quick_is_measured(tmp_path: Path, model_format: str) -> None:
    model = write_tiny(tmp_path, model_format).read_bytes()
    found = measured_speed(model, model, model_format, "int8", [noise(SIZE, SIZE)])  # type: ignore[arg-type]
    assert found.measured is not None
    assert found.measured.rounds == 20
    assert 0.2 < found.measured.ratio < 5
