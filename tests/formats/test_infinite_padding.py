"""What surrounds the input of a maximum is minus infinity, which no scale holds."""

import numpy as np

from edgedf.formats.activations import measured_ranges


class Padded:
    """A model of one tensor that is padded, and one that is nothing but padding."""

    names = ("padded", "padding")
    moved: dict[str, str] = {}  # noqa: RUF012

    def values(self, image: np.ndarray) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
        inside = np.float32([-np.inf, -1.0, float(image.max()), -np.inf])
        return {"padded": inside, "padding": np.full(3, -np.inf, np.float32)}


def test_values_that_are_not_finite_have_no_part_in_a_range() -> None:
    images = [np.full((2, 2, 3), value, np.uint8) for value in (3, 7)]
    assert measured_ranges(Padded(), images) == {"padded": (-1.0, 7.0), "padding": (0.0, 0.0)}
