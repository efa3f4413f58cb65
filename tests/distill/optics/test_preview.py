import cv2
import numpy as np
import pytest

from edgedf.distill.optics.preview import draw_preview
from tests.distill.optics.photographs import photograph


def decoded(data: bytes) -> np.ndarray:
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR))[:, :, ::-1]


@pytest.mark.parametrize(("height", "width"), [(40, 40), (40, 900), (900, 40)])
def test_photograph_and_map_stand_side_by_side(height: int, width: int) -> None:
    image = np.full((height, width, 3), (250, 20, 20), np.uint8)
    picture = decoded(draw_preview(image, np.zeros((height, width), np.float32)))
    assert picture.shape[0] == 320
    shown = max(16, round(320 * width / height))
    assert picture.shape[1] == 2 * shown + 12 + 12 + 16 + 52
    assert picture[160, shown // 2] == pytest.approx([250, 20, 20], abs=12)  # RGB, not BGR
    assert picture[160, shown + 12 + shown // 2] == pytest.approx([68, 1, 84], abs=20)  # viridis 0


def test_colours_mean_the_same_in_every_preview() -> None:
    image = photograph("rocket", 64)
    half = decoded(draw_preview(image, np.full((64, 64), 2.5, np.float32)))
    assert half[160, 320 + 12 + 160] == pytest.approx([33, 145, 140], abs=20)  # viridis 0.5
    full = decoded(draw_preview(image, np.full((64, 64), 9.0, np.float32)))
    assert full[160, 320 + 12 + 160] == pytest.approx([253, 231, 37], abs=20)  # viridis 1


def test_a_map_of_another_size_is_stretched_over_the_image() -> None:
    defocus = np.zeros((299, 299), np.float32)
    defocus[:, 150:] = 5
    picture = decoded(draw_preview(photograph("rocket", 64), defocus))
    assert picture[160, 332 + 40, 1] < 40
    assert picture[160, 332 + 280, 1] > 200
