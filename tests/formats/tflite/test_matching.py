from hypothesis import given
from hypothesis import strategies as st

from edgedf.formats.tflite.matching import match_operators

TAGS = {
    "CONV_2D": "Convolution (NHWC, QC8) IGEMM",
    "ADD": "Add (ND)",
    "RESIZE_BILINEAR": "Resize Bilinear (NHWC)",
    "FULLY_CONNECTED": "Fully Connected (NC, QS8) GEMM",
}


@given(st.lists(st.sampled_from(sorted(TAGS))))
def test_one_to_one_is_found(kinds: list[str]) -> None:
    tags = [TAGS[kind] for kind in kinds]
    assert match_operators(kinds, tags) == tuple(range(len(kinds)))


@given(st.lists(st.sampled_from(sorted(TAGS)), min_size=1), st.data())
def test_what_is_missing_is_not_guessed(kinds: list[str], data: st.DataObject) -> None:
    tags = [TAGS[kind] for kind in kinds]
    del tags[data.draw(st.integers(0, len(tags) - 1))]
    assert match_operators(kinds, tags) is None


def test_what_does_nothing_may_be_left_out_and_a_type_change_put_in() -> None:
    kinds = ["RESHAPE", "FULLY_CONNECTED", "ADD", "RESHAPE"]
    tags = ["Convert (NC, F32, QD8)", TAGS["FULLY_CONNECTED"], TAGS["ADD"]]
    assert match_operators(kinds, tags) == (None, 1, 2)


def test_another_operator_is_no_match() -> None:
    assert match_operators(["CONV_2D", "ADD"], [TAGS["CONV_2D"], TAGS["RESIZE_BILINEAR"]]) is None
