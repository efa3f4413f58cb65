"""Whether int8 is faster than float on a processor: measured in a moment, and in a sentence.

Dot-product instructions decide: with them int8 takes about half of float's time, and on x86-64
processors with AVX2 alone more than float; docs/processors.md has the figures.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from edgedf.artifact import ModelFormat
from edgedf.formats import open_backend
from edgedf.imaging import RGBImage
from edgedf.machine import this_processor
from edgedf.precision import PRECISIONS, PrecisionName
from edgedf.runtime.interleaved import LatencyRatio, Turn, over, take_turns

__all__ = ["Int8Speed", "measured_speed", "sentence", "slower_than_float", "turns_of"]

_INT8 = frozenset(record.name for record in PRECISIONS.values() if record.wants_dot_product)
_BUDGET_S = 0.4
_MOST_ROUNDS, _LEAST_ROUNDS = 20, 6
_FASTER_THERE = (
    "Processors with dot-product instructions (x86-64 with VNNI, Arm v8.2 and later) run int8 "
    "faster: profile on the device that it is for."
)


@dataclass(frozen=True)
class Int8Speed:
    """How fast an int8 model is beside its float model, on one thread of this machine.

    Args:
        precision: Of the int8 model.
        processor: Name of the processor.
        int8_dot_product: Whether it has dot-product instructions for int8; None where unknown.
        measured: Float first, int8 second; None where one inference takes so long that a few turns
            would not be over in a moment.
    """

    precision: PrecisionName
    processor: str
    int8_dot_product: bool | None
    measured: LatencyRatio | None


def measured_speed(
    float_model: bytes,
    int8_model: bytes,
    model_format: ModelFormat,
    precision: PrecisionName,
    images: Sequence[RGBImage],
) -> Int8Speed:
    """Time both by turns, for half a second at most beside loading them.

    Args:
        float_model: A ``.tflite`` or ``.onnx`` file.
        int8_model: The file that was made of it.
        model_format: Of both.
        precision: Of the second.
        images: Of the models' size, at least one.

    Raises:
        ArtifactUnreadable: One of them does not run.
        MissingExtra: The runtime is not installed.
    """
    first, second = turns_of((float_model, int8_model), model_format, images)
    first(0), second(0)
    begun = time.perf_counter()
    first(1), second(1)
    rounds = min(_MOST_ROUNDS, int(_BUDGET_S / (time.perf_counter() - begun)))
    measured = None
    if rounds >= _LEAST_ROUNDS:
        measured = take_turns(first, second, rounds=rounds, warm_up=1)
    processor = this_processor()
    return Int8Speed(precision, processor.name, processor.int8_dot_product, measured)


def turns_of(
    models: Sequence[bytes], model_format: ModelFormat, images: Sequence[RGBImage]
) -> list[Turn]:
    """Models to be timed by turns, each on one thread and on the same images.

    Args:
        models: ``.tflite`` or ``.onnx`` files.
        model_format: Of all of them.
        images: Of the models' size, at least one.

    Raises:
        ArtifactUnreadable: The runtime refuses one of them.
        MissingExtra: The runtime is not installed.
    """
    return [over(images, open_backend(model, model_format, threads=1).run) for model in models]


def sentence(speed: Int8Speed) -> str:
    """What was measured; or what the processor's instructions let expect.

    Args:
        speed: The finding.
    """
    found, precision = speed.measured, speed.precision
    if found is not None:
        slower = slower_than_float(
            ("fp32", precision), found.ratio, found.low, found.high, speed.int8_dot_product
        )
        interval = f"{found.low:.2f} to {found.high:.2f}, {found.rounds} turns, one thread"
        return slower or (
            f"{precision} takes {found.ratio:.2f} times as long as float on this processor "
            f"({interval})."
        )
    if speed.int8_dot_product is False:
        return (
            f"This processor has no dot-product instructions for int8, so {precision} may be "
            f"slower than float. {_FASTER_THERE}"
        )
    return ""


def slower_than_float(
    precisions: tuple[str, str],
    ratio: float,
    low: float,
    high: float,
    int8_dot_product: bool | None,
    where: str = "this processor",
) -> str:
    """That int8 is slower than float, and what to make of that.

    Args:
        precisions: Of two models of one format.
        ratio: Latency of the second divided by that of the first.
        low: Lower end of the interval of the ratio.
        high: Upper end.
        int8_dot_product: Whether the processor has dot-product instructions for int8.
        where: What it was measured on.

    Returns:
        Empty where they are not float and int8, in whichever order, or where the interval does not
        say that int8 is slower.
    """
    if precisions[0] in _INT8:
        precisions, (ratio, low, high) = precisions[::-1], (1 / ratio, 1 / high, 1 / low)
    if precisions[0] != "fp32" or precisions[1] not in _INT8 or not low > 1:
        return ""
    interval = f"{low:.2f} to {high:.2f}"
    claim = f"{precisions[1]} takes {ratio:.2f} times as long as float on {where} ({interval})"
    if int8_dot_product:
        return (
            f"{claim}, although it has dot-product instructions for int8. edgedf convert --lint "
            "names what in a model keeps int8 from being fast; docs/processors.md has processors "
            "whose kernels do."
        )
    known = "" if int8_dot_product is None else ", which has no dot-product instructions for int8"
    return f"{claim}{known}. {_FASTER_THERE}"
