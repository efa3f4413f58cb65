import subprocess
import sys
from dataclasses import fields, is_dataclass

import pytest

from edgedf.distill import settings
from edgedf.distill.settings import (
    LoopSettings,
    PictureSettings,
    QatLoopSettings,
    QatSettings,
    StudentConfig,
    TeacherConfig,
    TeachSettings,
    TrainSettings,
)
from edgedf.errors import ConfigError

OUTSIDE: dict[type, list[dict[str, object]]] = {
    StudentConfig: [
        {"input_size": 0},
        {"input_size": 48},
        {"input_size": 4096},
        {"blocks": 10},
        {"blocks": 17},
        {"judged_blocks": 0},
        {"judged_blocks": 13},
        {"decoder_channels": 0},
        {"decoder_channels": 4096},
        {"local_blocks": -1},
        {"local_blocks": 65},
    ],
    TeacherConfig: [
        {"backbone": "lite9"},
        {"first_block": -1},
        {"last_block": 16},
        {"first_block": 8, "last_block": 7},
        {"map_channels": -1},
        {"map_channels": 10**9},
        {"map_blocks": -1},
        {"map_blocks": 10**9},
    ],
    PictureSettings: [{"crops": -1}, {"renderings": -1}, {"self_blends": -1}, {"portraits": -1}],
    LoopSettings: [
        {"steps": 0},
        {"batch": 0},
        {"average": 1.0},
        {"average": float("nan")},
        {"clip": 0.0},
        {"clip": float("inf")},
        {"patience": -1},
        {"seed": -1},
        {"save_every": -1.0},
        {"device": "tpu"},
        {"amp": "int8"},
    ],
    TrainSettings: [
        {"crops": -1},
        {"rate": -1.0},
        {"encoder_rate": -1.0},
        {"features": -1.0},
        {"penalty": 0.0},
        {"views": 0},
        {"distilled": 1.5},
        {"distilled": -0.5},
    ],
    TeachSettings: [{"crops": -1}, {"penalty": 0.0}, {"rate": 0.0}, {"input_size": 33}],
    QatSettings: [
        {"ranges": "minmax"},
        {"rate": -1.0},
        {"logit": 0.0, "map": 0.0},
        {"observed": 0},
    ],
}


@pytest.mark.parametrize(
    ("cls", "change"), [(cls, change) for cls, changes in OUTSIDE.items() for change in changes]
)
def test_a_value_outside_its_range_is_refused_and_named(
    cls: type, change: dict[str, object]
) -> None:
    with pytest.raises(ConfigError, match="is outside its range") as caught:
        cls(**change)
    name = caught.value.message.split(" ")[0]
    assert name in change
    assert caught.value.expected is not None and caught.value.expected.startswith(name)
    # The next step is a value that works.
    assert caught.value.next_step is not None
    key, _, rest = caught.value.next_step.partition("=")
    assert (key, rest.split(",")[0]) == (name, str(getattr(cls, name)))


@pytest.mark.parametrize("cls", OUTSIDE)
def test_the_defaults_are_in_their_ranges(cls: type) -> None:
    assert is_dataclass(cls)
    assert fields(cls())


@pytest.mark.parametrize(
    "modalities", [("rgb", "sound"), ("rgb", "rgb"), (), ("defocus", "rgb", "frequency", "rgb")]
)
def test_modalities_that_are_unknown_or_there_twice_are_refused(
    modalities: tuple[str, ...],
) -> None:
    with pytest.raises(ConfigError, match="No teacher can be built from the modalities") as caught:
        TeacherConfig(modalities)
    assert "rgb, frequency, defocus" in caught.value.expected
    assert all(name in caught.value.message for name in modalities)


def test_training_for_int8_has_no_half_precision() -> None:
    with pytest.raises(ConfigError, match="coarser than the steps of int8"):
        QatLoopSettings(amp="auto")


def test_the_help_can_import_them_quickly() -> None:
    code = "import sys, edgedf.distill.settings; print({'torch', 'numpy', 'cv2'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "set()\n"
    assert set(settings.__all__) <= set(vars(settings))
