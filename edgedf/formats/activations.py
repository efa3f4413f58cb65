"""Every float activation of a float model, picture by picture; and the range each one takes.

:mod:`~edgedf.formats.tflite.activations` and :mod:`~edgedf.formats.onnx.activations` run the
models.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from edgedf.errors import ConfigError
from edgedf.imaging import RGBImage
from edgedf.progress import Progress, silent

if TYPE_CHECKING:
    from edgedf.formats.base import ModelGraph

__all__ = [
    "Activations",
    "Range",
    "check_ranges",
    "measured_ranges",
    "merged_ranges",
    "never_empty",
    "used_ranges",
]

_NOTHING = 1e-6

Range = tuple[float, float]
"""Lowest and highest value, in the tensor's own units; both are float32 numbers."""


class Activations(Protocol):
    """A float model that shows what each of its operators makes.

    Attributes:
        names: Float tensors that operators make, in order of execution.
        moved: Tensors whose values are those of another one, moved, repeated, left out or averaged,
            with the name of that other: both are quantized with the same scale.
        cut: Tensors that are left out, with the name of the only one that is made of each: the
            range of that one counts.
    """

    names: tuple[str, ...]
    moved: Mapping[str, str]
    cut: Mapping[str, str]

    def values(self, image: RGBImage) -> Mapping[str, NDArray[np.float32]]:
        """Run the model.

        Args:
            image: uint8 RGB of the model's size.

        Returns:
            The values of all tensors, valid until the next call.
        """
        ...


def measured_ranges(
    activations: Activations,
    images: Sequence[RGBImage],
    *,
    names: Iterable[str] | None = None,
    step: str = "calibrate",
    progress: Progress = silent,
) -> dict[str, Range]:
    """The smallest and largest value that each activation takes on images.

    Args:
        activations: The float model.
        images: uint8 RGB of the model's size, at least one.
        names: Tensors to measure; None for all.
        step: What this is called where progress is told.
        progress: Told about each image.

    Returns:
        A range for each tensor, as measured: 0 need not be in it. Values that are not finite are
        left out; a tensor that has no others gets (0, 0).
    """
    wanted = activations.names if names is None else tuple(names)
    found = dict.fromkeys(wanted, (math.inf, -math.inf))
    for done, image in enumerate(images, 1):
        values = activations.values(image)
        for name, (low, high) in found.items():
            # fmin and fmax pass over what is not a number.
            array = values[name]
            lowest, highest = np.fmin.reduce(array, None), np.fmax.reduce(array, None)
            if not (np.isfinite(lowest) and np.isfinite(highest)):
                # Around the input of a maximum the padding is infinite: no scale holds that.
                finite = array[np.isfinite(array)]
                if finite.size == 0:
                    continue
                lowest, highest = finite.min(), finite.max()
            found[name] = (min(low, float(lowest)), max(high, float(highest)))
        progress(step, done, len(images))
    return {name: span if span[0] <= span[1] else (0.0, 0.0) for name, span in found.items()}


def check_ranges(activations: Activations, given: Mapping[str, Range]) -> None:
    """Refuse ranges that do not fit a model.

    Args:
        activations: The float model.
        given: Ranges by the names of tensors.

    Raises:
        ConfigError: One is of a tensor that the model does not have, or is no range.
    """
    unknown = sorted(set(given) - set(activations.names))
    if unknown:
        raise ConfigError(
            f"A range is given for {unknown[0]}, which the model does not have.",
            expected=f"one of its {len(activations.names)} float activations",
            next_step="measure ranges with the model that is converted",
        )
    for name, (low, high) in given.items():
        if not -math.inf < low <= high < math.inf:
            raise ConfigError(
                f"The range of {name} is {low} to {high}.",
                expected="two finite numbers, the lower one first",
                next_step="measure ranges again",
            )


def never_empty(ranges: Mapping[str, Range]) -> dict[str, Range]:
    """Ranges with a width: what is always 0, up to rounding, gets 0 to 1, which holds it as well.

    A scale of next to nothing is no use to anyone, and XNNPACK refuses a whole model for a
    convolution of which the scales differ by more than 2**8.

    Args:
        ranges: By the names of tensors.

    Example:
        >>> never_empty({"dead": (0.0, 0.0), "alive": (0.0, 0.5)})
        {'dead': (0.0, 1.0), 'alive': (0.0, 0.5)}
    """
    return {
        name: (0.0, 1.0) if max(abs(low), abs(high)) < _NOTHING else (low, high)
        for name, (low, high) in ranges.items()
    }


def merged_ranges(
    activations: Activations,
    images: Sequence[RGBImage],
    *,
    given: Mapping[str, Range],
    fixed: Mapping[str, Range],
    step: str,
    progress: Progress = silent,
) -> dict[str, Range]:
    """Measured ranges, given ones in their place, and fixed ones in place of either.

    Args:
        activations: The float model.
        images: uint8 RGB of the model's size; none are needed where all ranges are given.
        given: Ranges by the names of tensors.
        fixed: Likewise; what is moved from one of these tensors has its range.
        step: What measuring is called where progress is told.
        progress: Told about each image.

    Returns:
        A range for each tensor, in order of execution.
    """
    fixed = dict(fixed)
    for name in activations.names:
        source = activations.moved.get(name)
        if source in fixed:
            fixed.setdefault(name, fixed[source])
    missing = [name for name in activations.names if name not in given and name not in fixed]
    measured: dict[str, Range] = {}
    if missing:
        measured = measured_ranges(activations, images, names=missing, step=step, progress=progress)
    together = measured | {name: (float(a), float(b)) for name, (a, b) in given.items()}
    together |= fixed
    return {name: together[name] for name in activations.names}


def used_ranges(
    graph: ModelGraph,
    images: Sequence[RGBImage],
    *,
    ranges: Mapping[str, Range] | None = None,
    progress: Progress = silent,
) -> dict[str, Range]:
    """The range of every activation that a model is quantized with.

    Args:
        graph: A float model.
        images: Calibration images, each uint8 RGB (N, N, 3).
        ranges: Of float tensors by their names, which win over what would be measured.
        progress: Told about each image.

    Returns:
        Measured ranges, those given in their place, and the fixed ones in place of either, in
        order of execution; none of what is cut.

    Raises:
        ArtifactUnreadable: The model is damaged.
        ConfigError: A range is given for a tensor that the model does not have, or is none.
    """
    shown = graph.activations()
    given = {name: span for name, span in (ranges or {}).items() if name not in shown.cut}
    check_ranges(shown, given)
    step, fixed = f"calibrate {graph.format.name}", graph.fixed_ranges()
    return merged_ranges(shown, images, given=given, fixed=fixed, step=step, progress=progress)
