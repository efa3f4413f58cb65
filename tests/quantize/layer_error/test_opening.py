from pathlib import Path

import pytest

from edgedf.artifact import read_artifact
from edgedf.errors import ConfigError, DataError
from edgedf.formats.tflite.container import embed as embed_tflite
from edgedf.formats.tflite.container import strip as strip_tflite
from edgedf.quantize.layer_error.opening import MAX_PICTURES, choose_pictures, open_layers
from edgedf.runtime.models import shipped_model
from tests.quantize.students import hostile, shipped_int8, small_model
from tests.runtime.pictures import noise, write
from tests.runtime.tiny import write_tiny


def test_the_choice_of_pictures_is_seeded_and_bounded(tmp_path: Path) -> None:
    files = [str(write(tmp_path / f"{n}.png", noise(40, 44, n))) for n in range(40)]
    (tmp_path / "0.png").write_bytes(b"no picture")
    steps: list[tuple[str, int, int]] = []
    chosen = choose_pictures(files, 32, progress=lambda *step: steps.append(step))
    assert len(chosen) == MAX_PICTURES
    assert chosen[0].shape == (32, 32, 3)
    assert steps[-1] == ("pictures for layers", MAX_PICTURES, MAX_PICTURES)
    again = choose_pictures(files[::-1], 32)
    assert all((one == other).all() for one, other in zip(chosen, again, strict=True))
    other = choose_pictures(files, 32, seed=1)
    assert any((one != two).any() for one, two in zip(chosen, other, strict=True))
    assert len(choose_pictures(files[:3], 32)) == 2
    with pytest.raises(DataError, match="no picture to compare layers on"):
        choose_pictures(files[:1], 32)


def test_what_is_not_quantized_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is fp32: nothing in it is quantized"):
        open_layers(shipped_model("tflite"))
    halves = write_tiny(tmp_path, "onnx", precision="fp16")
    with pytest.raises(ConfigError, match="is fp16: its weights are float16"):
        open_layers(halves, halves)


@pytest.mark.parametrize(
    ("parent", "said"),
    [
        (shipped_model("tflite").with_suffix(".safetensors"), "is a checkpoint"),
        (shipped_model("onnx"), r"is \.onnx and .* is \.tflite: their tensors differ"),
        ("itself", "is int8, not a float model"),
        (small_model, "takes 256 x 256 pixels, .* 64 x 64"),
        ("tiny", "takes 256 x 256 pixels, .* 32 x 32"),
    ],
)
def test_the_parent_has_to_be_the_float_file_of_the_same_format(
    parent: object, said: str, tmp_path: Path
) -> None:
    artifact = shipped_int8("tflite")
    path: object = {"itself": artifact}.get(parent, parent) if isinstance(parent, str) else parent
    if path == "tiny":
        path = write_tiny(tmp_path, "tflite")
    if callable(path):
        path = path("tflite")
    with pytest.raises(ConfigError, match=said) as caught:
        open_layers(artifact, path)  # type: ignore[arg-type]
    assert "fp32 .tflite" in caught.value.expected
    assert "--precision fp32 --to tflite" in caught.value.next_step


def test_a_parent_with_other_tensors_is_refused(tmp_path: Path) -> None:
    small, full = hostile("tflite")
    write_tiny(tmp_path, "tflite")
    path = tmp_path / "other.tflite"
    model = strip_tflite((tmp_path / "tiny.tflite").read_bytes())
    path.write_bytes(embed_tflite(model, read_artifact(full).spec))
    with pytest.raises(ConfigError, match="has the name of one in"):
        open_layers(small, path)
