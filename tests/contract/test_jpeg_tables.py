import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from edgedf.jpeg_tables import ijg_quality, quantisation_tables, tables_name
from tests.distill.datasets.trees import picture


def encoded(colour: str = "RGB", **options: object) -> tuple[bytes, list[list[int]]]:
    """A JPEG, and its tables as Pillow reads them."""
    stream = io.BytesIO()
    Image.fromarray(picture(1)).convert(colour).save(stream, "JPEG", **options)
    data = stream.getvalue()
    tables = Image.open(io.BytesIO(data)).quantization  # type: ignore[attr-defined]
    return data, [list(tables[number]) for number in sorted(tables)]


@pytest.mark.parametrize("quality", [1, 49, 50, 75, 90, 92, 100])
@pytest.mark.parametrize("colour", ["RGB", "L"])
def test_quality_and_tables_are_those_of_the_encoder(quality: int, colour: str) -> None:
    data, expected = encoded(colour, quality=quality)
    tables = quantisation_tables(data)
    assert [list(table) for table in tables] == expected
    assert len(tables) == (2 if colour == "RGB" else 1)
    assert ijg_quality(tables) == quality
    assert tables_name(tables) == f"IJG quality {quality}"


def test_other_tables_have_a_name_of_their_own() -> None:
    data, expected = encoded(qtables=[list(range(1, 65)), list(range(2, 66))])
    tables = quantisation_tables(data)
    assert [list(table) for table in tables] == expected
    assert ijg_quality(tables) is None
    assert tables_name(tables).startswith("tables ")
    assert tables_name(tables) != tables_name(tables[:1])


def test_other_formats_have_none() -> None:
    stream = io.BytesIO()
    Image.fromarray(picture(1)).save(stream, "PNG")
    assert quantisation_tables(stream.getvalue()) == ()
    assert tables_name(()) == ""


@given(cut=st.integers(0, 700), place=st.integers(0, 700), byte=st.integers(0, 255))
def test_damage_gives_no_error(cut: int, place: int, byte: int) -> None:
    data = np.frombuffer(encoded(quality=80)[0], np.uint8).copy()
    data[min(place, len(data) - 1)] = byte
    for broken in (data.tobytes(), data.tobytes()[:cut]):
        assert all(len(table) == 64 for table in quantisation_tables(broken))
