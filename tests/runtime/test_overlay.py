import dataclasses

import cv2
import numpy as np
import pytest

from edgedf.result import Detection, Threshold
from edgedf.runtime.overlay import SCALE_MAXIMUM, encode_jpeg, render
from tests.runtime.pictures import noise, photographs

# Where things stand, told from the documented layout: two panels of 512 below a caption, the
# scale to their right, the verdict beneath.
PHOTOGRAPH = (slice(58, 570), slice(24, 536))
MAP = (slice(58, 570), slice(560, 1072))
SCALE = (slice(58, 570), slice(1086, 1106))
BOX = (slice(592, 687), slice(24, 215))
AXIS_ROW = 637  # the middle of the score axis
AXIS_LEFT, AXIS_RIGHT = 246, 1072

DARKEST, BRIGHTEST = (68, 1, 84), (253, 231, 36)  # the ends of viridis


def detection(
    values: float | np.ndarray = 1.0, *, score: float = 0.5, model: str = "student 0.1 int8"
) -> Detection:
    dense = np.broadcast_to(np.asarray(values, np.float32), (64, 64))
    limits = Threshold(fake_at=0.7, real_at=0.3)
    return Detection(score, limits.label(score), limits, dense.copy(), model)


def viridis(value: float, maximum: float = SCALE_MAXIMUM) -> np.ndarray:
    level = np.rint(np.clip(value / maximum, 0, 1) * 255).astype(np.uint8)
    bgr = cv2.applyColorMap(np.array([[level]]), cv2.COLORMAP_VIRIDIS)
    return bgr[0, 0, ::-1]


def test_the_colors_are_viridis_in_rgb() -> None:
    np.testing.assert_allclose(viridis(0), DARKEST, atol=2)
    np.testing.assert_allclose(viridis(6), BRIGHTEST, atol=2)


@pytest.mark.parametrize("shape", [(32, 32), (33, 700), (700, 33), (512, 512), (3000, 4000)])
def test_pictures_of_any_size_fill_their_panel(shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), (200, 100, 50), np.uint8)
    before = image.copy()
    canvas = render(image, detection())
    assert (canvas.shape, canvas.dtype) == ((710, 1170, 3), np.uint8)
    assert (canvas[PHOTOGRAPH] == (200, 100, 50)).all()
    assert (image == before).all()


def test_the_photograph_is_its_centre_square_upright_and_in_rgb() -> None:
    photograph = photographs()[1]  # 300 x 451
    shown = render(photograph, detection())[PHOTOGRAPH].astype(float)
    square = photograph[:, 75:375].astype(float)
    back = cv2.resize(shown, (300, 300), interpolation=cv2.INTER_AREA)
    assert np.abs(back - square).mean() < 3
    assert np.abs(back - square[:, :, ::-1]).mean() > 10


@pytest.mark.parametrize("value", [0.0, 0.7, 1.5, 2.9, SCALE_MAXIMUM])
def test_a_flat_map_has_the_color_of_its_value(value: float) -> None:
    panel = render(noise(64, 64), detection(value))[MAP]
    assert (panel == panel[0, 0]).all()
    # A value may lie between two of the 256 colors.
    assert np.abs(panel[0, 0].astype(int) - viridis(value)).max() <= 4


def test_values_beyond_the_scale_have_the_color_of_its_end() -> None:
    assert (render(noise(64, 64), detection(9.0))[MAP] == viridis(6)).all()
    assert (render(noise(64, 64), detection(-1.0))[MAP] == viridis(0)).all()
    assert (render(noise(64, 64), detection(1.0), maximum=2.0)[MAP] == viridis(1, 2)).all()


def test_the_map_is_drawn_upright() -> None:
    values = np.zeros((64, 64), np.float32)
    values[:16, 48:] = 6.0
    panel = render(noise(64, 64), detection(values))[MAP]
    assert (panel[:120, 392:] == viridis(6)).all()
    assert (panel[136:] == viridis(0)).all()
    assert (panel[:, :376] == viridis(0)).all()


def test_the_scale_says_which_color_is_which_value() -> None:
    scale = render(noise(64, 64), detection())[SCALE]
    for value in np.linspace(0, SCALE_MAXIMUM, 7):
        row = round(511 * (1 - value / SCALE_MAXIMUM))
        assert np.abs(scale[row, 3].astype(int) - viridis(value)).max() <= 4
    assert (scale == scale[:, :1]).all()


def test_the_scale_is_labelled_with_its_end() -> None:
    usual = render(noise(64, 64), detection())
    other = render(noise(64, 64), detection(), maximum=6.0)
    labels = (slice(40, 600), slice(1112, 1170))
    assert (usual[labels] < 128).any()
    assert (usual[labels] != other[labels]).any()


@pytest.mark.parametrize(
    ("score", "color"), [(0.1, (25, 115, 70)), (0.5, (168, 108, 0)), (0.9, (190, 38, 38))]
)
def test_the_verdict_has_its_own_color_and_white_letters(
    score: float, color: tuple[int, int, int]
) -> None:
    box = render(noise(64, 64), detection(score=score))[BOX]
    own = (box == color).all(axis=2)
    white = (box == 255).all(axis=2)
    assert own.mean() > 0.6
    assert 0.02 < white.mean() < 0.35
    rows, columns = np.nonzero(white)
    assert rows.min() > 20  # centred, nothing cut off
    assert rows.max() < 75
    assert 10 < columns.min() < columns.max() < 181


def test_the_three_verdicts_read_differently() -> None:
    words = [
        (render(noise(64, 64), detection(score=score))[BOX] == 255).all(axis=2)
        for score in (0.1, 0.5, 0.9)
    ]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert (words[first] != words[second]).sum() > 300


@pytest.mark.parametrize("score", [0.0, 0.05, 0.31, 0.5, 0.77, 1.0])
def test_the_mark_on_the_axis_stands_at_the_score(score: float) -> None:
    result = detection(score=score)
    row = render(noise(64, 64), result)[AXIS_ROW]
    strong = {"real": (25, 115, 70), "unsure": (168, 108, 0), "fake": (190, 38, 38)}
    marked = np.flatnonzero((row[AXIS_LEFT - 8 :] == strong[result.label]).all(axis=1))
    middle = AXIS_LEFT - 8 + marked.mean()
    assert middle == pytest.approx(AXIS_LEFT + score * (AXIS_RIGHT - AXIS_LEFT), abs=1.5)


def test_thresholds_at_the_ends_and_equal_ones_can_be_drawn() -> None:
    for limits in (Threshold(0.5, 0.5), Threshold(1.0, 0.0), Threshold(0.0, 0.0)):
        result = dataclasses.replace(detection(), threshold=limits)
        assert render(noise(64, 64), result).shape == (710, 1170, 3)


@pytest.mark.parametrize("model", ["", "modèle 模型 0.1 int8", "x" * 5000, "a\nb\0c", "\udcff"])
def test_model_names_of_any_kind_stay_in_their_corner(model: str) -> None:
    plain = render(noise(64, 64), detection(model=""))
    canvas = render(noise(64, 64), detection(model=model))
    changed = np.argwhere((plain != canvas).any(axis=2))
    assert canvas.shape == (710, 1170, 3)
    if model:
        assert changed[:, 0].min() > 650
        assert changed[:, 1].min() > 460  # right of the thresholds
        assert changed[:, 1].max() <= AXIS_RIGHT + 2


def test_a_jpeg_of_the_picture_keeps_its_colors() -> None:
    canvas = render(photographs()[0], detection())
    data = encode_jpeg(canvas)
    assert data[:3] == b"\xff\xd8\xff"
    back = np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))[:, :, ::-1]
    assert np.abs(back.astype(int) - canvas).mean() < 2
