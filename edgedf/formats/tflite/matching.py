"""Which operator of a file a delegate's operator is.

XNNPACK makes a graph of its own of what it takes over and numbers the operators of that. Most are
one operator of the file each, in the same order. It may leave one out that does nothing, and put
one in that changes a type or a layout; where the two lists do not agree up to that, nothing is
guessed.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["match_operators"]

# How XNNPACK's names for what an operator of a file becomes begin.
_XNNPACK: dict[str, tuple[str, ...]] = {
    "ADD": ("Add", "Binary Elementwise"),
    "AVERAGE_POOL_2D": ("Average Pooling", "Global Average Pooling"),
    "CONCATENATION": ("Concatenate", "Copy"),
    "CONV_2D": ("Convolution", "Fully Connected"),
    "DEPTHWISE_CONV_2D": ("Convolution",),
    "DEQUANTIZE": ("Convert",),
    "FULLY_CONNECTED": ("Fully Connected", "Dynamic Fully Connected"),
    "HARD_SWISH": ("HardSwish", "Hardswish"),
    "LOGISTIC": ("Sigmoid",),
    "MAX_POOL_2D": ("Max Pooling",),
    "MEAN": ("Mean", "Global Average Pooling"),
    "MUL": ("Multiply", "Binary Elementwise"),
    "PAD": ("Constant Pad",),
    "QUANTIZE": ("Convert",),
    "RESHAPE": ("Static Reshape", "Copy"),
    "RESIZE_BILINEAR": ("Resize Bilinear",),
    "SOFTMAX": ("Softmax",),
    "SUB": ("Subtract", "Binary Elementwise"),
    "TRANSPOSE": ("Transpose",),
    "TRANSPOSE_CONV": ("Deconvolution",),
}
_LEFT_OUT = frozenset({"RESHAPE", "QUANTIZE", "DEQUANTIZE", "PAD", "RELU", "RELU6"})
_PUT_IN = ("Convert", "Copy", "Pack", "Transpose", "Static Reshape")


def match_operators(kinds: Sequence[str], tags: Sequence[str]) -> tuple[int | None, ...] | None:
    """Find the operator of the file that each of a delegate's operators is.

    Args:
        kinds: Of the operators of the file that the delegate took over, in order.
        tags: XNNPACK's names of what it executes, in order.

    Returns:
        For each tag an index into ``kinds``, or None for one that the delegate has put in; None
        where the two cannot be brought together.
    """
    found: list[int | None] = []
    at = 0
    for tag in tags:
        ahead = at
        while ahead < len(kinds) and not _may_be(kinds[ahead], tag):
            if kinds[ahead] not in _LEFT_OUT:
                ahead = len(kinds)
                break
            ahead += 1
        if ahead < len(kinds):
            found.append(ahead)
            at = ahead + 1
        elif tag.startswith(_PUT_IN):
            found.append(None)
        else:
            return None
    return tuple(found) if all(kind in _LEFT_OUT for kind in kinds[at:]) else None


def _may_be(kind: str, tag: str) -> bool:
    return kind not in _XNNPACK or tag.startswith(_XNNPACK[kind])
