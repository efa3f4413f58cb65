"""A student whose channels are of one size, which in float says the same.

A channel much larger than the others takes the levels that they share. Where no relu6 lies between
two convolutions, what one divides a channel by the next can multiply it with (Nagel et al.,
"Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019). In the encoder
that is what a stage's blocks give: their projections are linear, and added up they share channels.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import cast

import torch
from torch import Tensor

from edgedf.distill.networks.backbones import Block
from edgedf.distill.networks.layers import Conv
from edgedf.distill.networks.student import Student

__all__ = ["equalized"]

# A channel is changed by a factor of this at most.
_MOST = 1e3


def equalized(student: Student) -> Student:
    """A copy with equalized channels between blocks.

    With r the largest sum of a channel's weights where it is computed, and q its largest weight
    where it is read, it is divided by sqrt(r / q) there and multiplied by it here. The factors'
    geometric mean is 1.

    Args:
        student: Not changed.

    Returns:
        A student of the same architecture that says the same but for rounded weights, where its
        configuration rounds them.
    """
    student = copy.deepcopy(student)
    with torch.no_grad():
        for makers, readers in _linear_tensors(student):
            size = _largest([_effective(conv).abs().sum(dim=(1, 2, 3)) for conv in makers])
            use = _largest([_effective(conv).abs().amax(dim=(0, 2, 3)) for conv in readers])
            factor = (size.clamp_min(1e-12) / use.clamp_min(1e-12)).sqrt()
            factor = factor / factor.log().mean().exp()
            factor = factor.clamp(1 / _MOST, _MOST)
            for conv in makers:
                conv.weight.div_(factor.reshape(-1, 1, 1, 1))
                conv.bias.div_(factor)
            for conv in readers:
                conv.weight.mul_(factor.reshape(1, -1, 1, 1))
    return student


def _linear_tensors(student: Student) -> Iterator[tuple[list[Conv], list[Conv]]]:
    """What makes the tensors at a stage's end, and what reads them."""
    stages = [list(cast(Sequence[Block], stage)) for stage in student.encoder.stages]
    decoder = student.decoder
    reduces = {1: decoder.reduce4, 2: decoder.reduce8, 4: decoder.reduce16}
    for index, blocks in enumerate(stages):
        following = [*blocks[1:], *(stages[index + 1][:1] if index + 1 < len(stages) else [])]
        readers = [block.expand for block in following if block.expand is not None]
        readers += [reduces[index]] if index in reduces else []
        if readers:
            yield [block.project for block in blocks], readers


def _effective(conv: Conv) -> Tensor:
    return conv.weight * conv.gain.reshape(-1, 1, 1, 1)


def _largest(parts: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(parts)).amax(dim=0)
