"""Layers that int8 does not make fast, and a few pictures to find them with."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import edgedf.sample
from edgedf.imaging import preprocess

__all__ = ["OTHERWISE", "PICTURES", "LintLayer", "Problem", "picture", "without_advice"]

Problem = Literal["stays float", "left to the interpreter", "float and left to the interpreter"]

OTHERWISE = "use the operators of the table on edgedf convert's page"
"""The remedy for an operator of which nothing else is known."""

PICTURES = 4
"""How many pictures ranges are measured on where it does not matter what they are."""


@dataclass(frozen=True)
class LintLayer:
    """A layer that int8 does not make fast.

    Args:
        name: Name of the tensor that it makes (TFLite), or of the node (ONNX).
        operator: Such as ``HARD_SWISH``.
        problem: What becomes of it.
        why: What it is about it, where its operator alone is no problem; else empty.
        remedy: What to do instead.
        tolerated: Whether int8 is worth it all the same.
        keep: Its name for ``--keep``, by which it can stay float; empty where it has none.
    """

    name: str
    operator: str
    problem: Problem
    why: str
    remedy: str
    tolerated: bool = False
    keep: str = ""


def picture(number: int, shape: Sequence[int], dtype: np.dtype[Any]) -> NDArray[Any]:
    """A photograph for an input like that of our models; else noise.

    Both quantizers choose by the graph what they make integers, and the runtimes' kernels do not
    ask for ranges, with one exception: XNNPACK adds or subtracts two tensors only where neither is
    a thousand times as wide as the result.

    Args:
        number: Which one, from 0 to :data:`PICTURES` - 1.
        shape: Of the input.
        dtype: Of the input. Noise is grey levels for bytes, [0, 1) for floats, 0 and 1 for what may
            be an index.
    """
    random = np.random.default_rng(number)
    if dtype == np.uint8 and len(shape) == 4 and tuple(shape) == (1, shape[1], shape[1], 3):
        return preprocess(edgedf.sample.images()[number].path, int(shape[1]))[np.newaxis]
    if dtype.kind == "f":
        return random.random(shape).astype(dtype)
    return random.integers(0, 256 if dtype == np.uint8 else 2, shape).astype(dtype)


@contextlib.contextmanager
def without_advice() -> Iterator[None]:
    """Drop a quantizer's warnings, of which none is about what it makes integers."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
