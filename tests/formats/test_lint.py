import logging
import warnings

import numpy as np
import pytest

from edgedf.formats.lint import PICTURES, picture, without_advice


@pytest.mark.parametrize("number", range(PICTURES))
def test_an_input_like_ours_gets_photographs(number: int) -> None:
    image = picture(number, (1, 32, 32, 3), np.dtype(np.uint8))
    assert image.shape == (1, 32, 32, 3)
    # Neighbours in a photograph are alike, as they are not in noise.
    assert np.abs(np.diff(image.astype(int), axis=2)).mean() < 40


def test_another_input_gets_noise_that_it_can_take() -> None:
    floats = picture(0, (1, 3, 8, 8), np.dtype(np.float32))
    assert floats.dtype == np.float32
    assert 0 <= floats.min() < floats.max() < 1
    assert set(picture(0, (64,), np.dtype(np.int64)).tolist()) == {0, 1}
    assert picture(0, (64,), np.dtype(np.uint8)).max() > 1


def test_advice_is_dropped_and_logging_is_as_before(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with without_advice():
        warnings.warn("advice", stacklevel=1)
        logging.getLogger().warning("advice")
    assert not caplog.records
    assert capsys.readouterr().err == ""
    logging.getLogger().warning("heard")
    assert len(caplog.records) == 1
