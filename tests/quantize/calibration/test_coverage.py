from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgedf.quantize.calibration.coverage import coverage
from tests.quantize.students import small_images

IMAGE = small_images()[0]


class Shown:
    """Activations that are made up."""

    moved: Mapping[str, str] = MappingProxyType({"moved": "first"})

    def __init__(self, first: np.ndarray) -> None:
        self.names = ("first", "moved", "fixed")
        self._values = dict.fromkeys(self.names, first)

    def values(self, image: Any) -> dict[str, np.ndarray]:
        return self._values


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.float32, st.integers(1, 50), elements=st.floats(-100, 100, width=32)),
    st.floats(-50, 0),
    st.floats(0.1, 50),
)
def test_the_figures_are_those_of_numpy(values: np.ndarray, low: float, high: float) -> None:
    (entry,) = coverage(Shown(values), {"first": (low, high)}, [IMAGE, IMAGE])
    over = np.abs(values - np.clip(values, low, high)).astype(np.float64)
    far = over > (high - low) / 510
    assert entry.outside == pytest.approx(far.mean(), abs=0.021)  # rounding of a value at the limit
    power = np.sum(values.astype(np.float64) ** 2)
    if power > 1e-6:
        assert entry.lost == pytest.approx(np.sum(over[far] ** 2) / power, rel=1e-2, abs=1e-4)
    assert entry.seen_low == min(values.min(), 0.0)
    assert entry.seen_high == max(values.max(), 0.0)
    assert 0.0 <= entry.used <= 1.0


def test_all_inside_is_no_loss_and_fixed_and_moved_tensors_are_passed_over() -> None:
    values = np.linspace(-1, 3, 100, dtype=np.float32)
    spans = dict.fromkeys(("first", "moved", "fixed"), (-2.0, 6.0))
    (entry,) = coverage(Shown(values), spans, [IMAGE], fixed={"fixed"})
    assert (entry.tensor, entry.outside, entry.lost) == ("first", 0.0, 0.0)
    assert entry.used == pytest.approx(0.5)
