from itertools import cycle, islice
from pathlib import Path

import pytest

import edgedf.sample
from edgedf.errors import ImageUnreadable
from edgedf.imaging import load_image
from edgedf.runtime.detector import Detector
from edgedf.runtime.profile.pipeline import time_pipeline
from tests.runtime.tiny import write_tiny


@pytest.mark.parametrize("model_format", ["tflite", "onnx"])
def test_every_picture_has_a_time_for_each_step(tmp_path: Path, model_format: str) -> None:
    pictures = [image.path.read_bytes() for image in edgedf.sample.images()[:3]]
    with Detector(write_tiny(tmp_path, model_format), threads=1) as detector:
        times = time_pipeline(4, detector, pictures, 7)
    assert times.configuration == 4
    for step in (
        times.decode_ms,
        times.preprocess_ms,
        times.inference_ms,
        times.postprocess_ms,
    ):
        assert len(step) == 7
        assert min(step) > 0
    sizes = [image.shape[0] * image.shape[1] / 1e6 for image in map(load_image, pictures)]
    assert list(times.megapixels) == list(islice(cycle(sizes), 7))


def test_what_is_no_picture_is_told_before_anything_runs(tmp_path: Path) -> None:
    with (
        Detector(write_tiny(tmp_path, "tflite"), threads=1) as detector,
        pytest.raises(ImageUnreadable),
    ):
        time_pipeline(0, detector, [b"no picture"], 3)
