from pathlib import Path

import pytest
import torch

from edgedf.artifact import ModelFormat
from edgedf.errors import ConfigError
from edgedf.quantize.lint import HOSTILE, check_int8_friendly
from edgedf.quantize.source import FORMATS
from edgedf.runtime.models import shipped_model


class Hostile(torch.nn.Module):
    """A convolution, hard-swish, a squeeze-and-excitation gate and a pixel shuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(3, 8, 3, padding=1)
        self.gate = torch.nn.Conv2d(8, 8, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.nn.functional.hardswish(self.first(image))
        x = x * torch.sigmoid(self.gate(x.mean(dim=(2, 3), keepdim=True)))
        return torch.nn.functional.pixel_shuffle(x, 2)


def exported(model_format: ModelFormat, folder: Path) -> bytes:
    sample = (torch.zeros(1, 3, 16, 16),)
    network = Hostile().eval()
    if model_format == "tflite":
        import litert_torch

        return bytes(litert_torch.convert(network, sample).model_content())
    torch.onnx.export(network, sample, str(folder / "a.onnx"), dynamo=True, external_data=False)
    return (folder / "a.onnx").read_bytes()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("model_format", FORMATS)
def test_operators_that_break_int8_are_refused_with_their_remedies(
    model_format: ModelFormat, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="break int8") as caught:
        check_int8_friendly(exported(model_format, tmp_path), model_format)
    curve = {"tflite": "HARD_SWISH", "onnx": "HardSwish"}[model_format]
    gate = {"tflite": "LOGISTIC", "onnx": "Sigmoid"}[model_format]
    assert f"1 {curve}" in caught.value.message
    assert f"1 {gate}" in caught.value.message
    assert f"instead of {curve}: use relu or relu6" in caught.value.next_step
    assert "--precision fp16" in caught.value.next_step


@pytest.mark.parametrize("model_format", FORMATS)
def test_the_shipped_student_is_accepted(model_format: ModelFormat) -> None:
    check_int8_friendly(shipped_model(model_format).read_bytes(), model_format)


def test_every_hostile_name_is_an_operator() -> None:
    import onnx
    from ai_edge_litert import schema_py_generated as schema

    for name in HOSTILE["tflite"]:
        assert hasattr(schema.BuiltinOperator, name), name
    known = {definition.name for definition in onnx.defs.get_all_schemas()}
    assert set(HOSTILE["onnx"]) <= known
