from pathlib import Path

import numpy as np
import pytest

from edgedf.errors import DeviceError
from edgedf.runtime.models import shipped_model
from edgedf.runtime.profile.cold_start import cold_start
from tests.runtime.pictures import noise
from tests.runtime.tiny import SIZE, write_tiny


@pytest.mark.parametrize("model_format", ["tflite", "onnx"])
def test_a_fresh_process_loads_and_runs_a_model(model_format: str) -> None:
    path = shipped_model(model_format)  # type: ignore[arg-type]
    found = cold_start(3, path, 2, noise(256, 256))
    assert found.configuration == 3
    assert found.load_ms > 0
    assert found.first_run_ms > 0
    # Of the 3 MB of weights at least; the runtime's buffers come on top.
    assert found.peak_kib - found.idle_kib > 2048
    assert found.idle_kib > 1024


def test_a_model_that_cannot_be_loaded_is_said_in_words(tmp_path: Path) -> None:
    path = write_tiny(tmp_path, "onnx")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DeviceError, match=r"loads the model anew failed: .*tiny\.onnx"):
        cold_start(0, path, 1, np.zeros((SIZE, SIZE, 3), np.uint8))
