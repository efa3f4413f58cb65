import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgedf.errors import ConfigError
from edgedf.result import Detection, Threshold, sigmoid


@given(st.floats(allow_nan=False))
def test_sigmoid_never_overflows_and_is_symmetric(logit: float) -> None:
    assert 0.0 <= sigmoid(logit) <= 1.0
    assert math.isclose(sigmoid(logit) + sigmoid(-logit), 1.0)


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_every_score_has_one_label(a: float, b: float, score: float) -> None:
    threshold = Threshold(fake_at=max(a, b), real_at=min(a, b))
    label = threshold.label(score)
    assert (label == "fake") == (score >= threshold.fake_at)
    if label == "unsure":
        assert threshold.real_at < score < threshold.fake_at


@pytest.mark.parametrize(("fake_at", "real_at"), [(0.2, 0.4), (1.1, 0.5), (0.5, -0.1)])
def test_senseless_thresholds_are_refused(fake_at: float, real_at: float) -> None:
    with pytest.raises(ConfigError, match="real_at"):
        Threshold(fake_at=fake_at, real_at=real_at)


def test_detection_is_plain_data_for_json() -> None:
    defocus = np.array([[0.5, 1.5]], np.float32)
    found = Detection.from_outputs(
        2.0, defocus, Threshold(0.7, 0.3), "m", timings={"inference": 1.23456}, source="a.jpg"
    )
    assert found.label == "fake"
    data = json.loads(json.dumps(found.to_dict(with_map=True)))
    assert data["score"] == pytest.approx(0.880797, abs=1e-6)
    assert data["timings_ms"] == {"inference": 1.235}
    assert data["defocus_sigma_px"] == {"min": 0.5, "mean": 1.0, "max": 1.5}
    assert data["defocus_map"] == [[0.5, 1.5]]
    assert "defocus_map" not in found.to_dict()
