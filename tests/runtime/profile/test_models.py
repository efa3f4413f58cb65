import doctest
from pathlib import Path

import pytest

from edgedf.errors import SpecMissing
from edgedf.files import sha256_of
from edgedf.runtime.profile import models
from edgedf.runtime.profile.models import describe_model
from edgedf.spec import Accuracy
from tests.runtime.tiny import bare_tflite, write_tiny


def test_a_file_says_what_it_is(tmp_path: Path) -> None:
    figures = (
        Accuracy("few", "AUC", 0.9, 0.8, 0.95, 10),
        Accuracy("many", "AUC", 0.7, 0.6, 0.8, 100),
        Accuracy("many", "EER", 0.3, 0.2, 0.4, 1000),
    )
    for model_format in ("tflite", "onnx"):
        path = write_tiny(tmp_path, model_format, accuracy=figures)
        found = describe_model(path)
        assert (found.file, found.format, found.precision) == (path.name, model_format, "fp32")
        assert found.size_bytes == path.stat().st_size
        assert found.sha256 == sha256_of(path)
        assert (found.auc, found.auc_low, found.auc_high, found.auc_n) == (0.7, 0.6, 0.8, 100)
        assert found.auc_dataset == "many"


def test_a_quantized_file_says_whose_accuracy_it_states(tmp_path: Path) -> None:
    found = describe_model(write_tiny(tmp_path, "tflite", precision="int8"))
    assert found.auc_dataset == "test, measured on the fp32 model"
    assert describe_model(write_tiny(tmp_path, "onnx", accuracy=())).auc is None


def test_a_model_without_a_spec_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bare.tflite"
    path.write_bytes(bare_tflite())
    with pytest.raises(SpecMissing):
        describe_model(path)


def test_the_example_runs() -> None:
    assert doctest.testmod(models).failed == 0
