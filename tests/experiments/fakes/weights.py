"""Random weights in the layout of TAEF2's files: float16, keys of a flat sequence, any width."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

# Indices of the flat sequences, as the published files have them.
ENCODER_BLOCKS, ENCODER_GATED = (1, 3, 4, 5, 7, 8, 9, 11, 12, 13), (11, 12, 13)
ENCODER_STRIDED = (2, 6, 10)
DECODER_BLOCKS, DECODER_GATED = (3, 4, 5, 8, 9, 10, 13, 14, 15, 18), (3, 4, 5)
DECODER_DOUBLED = (7, 12, 17)

State = dict[str, Tensor]


def encoder_state(width: int = 8, seed: int = 0) -> State:
    make = _Maker(seed)
    make.conv("0", 3, width)
    for index in ENCODER_BLOCKS:
        make.block(index, width, gated=index in ENCODER_GATED)
    for index in ENCODER_STRIDED:
        make.conv(str(index), width, width, bias=False)
    make.conv("14", width, 32)
    return make.state


def decoder_state(width: int = 8, seed: int = 1) -> State:
    make = _Maker(seed)
    make.conv("1", 32, width)
    for index in DECODER_BLOCKS:
        make.block(index, width, gated=index in DECODER_GATED)
    for index in DECODER_DOUBLED:
        make.conv(str(index), width, width, bias=False)
    make.conv("19", width, 3)
    make.state["19.bias"] += 0.5
    return make.state


def write(folder: Path, width: int = 8) -> tuple[Path, Path]:
    paths = folder / "encoder.safetensors", folder / "decoder.safetensors"
    save_file(encoder_state(width), paths[0])
    save_file(decoder_state(width), paths[1])
    return paths


class _Maker:
    def __init__(self, seed: int) -> None:
        self.state: State = {}
        self._generator = torch.Generator().manual_seed(seed)

    def conv(
        self, name: str, inputs: int, outputs: int, *, kernel: int = 3, bias: bool = True
    ) -> None:
        scale = (inputs * kernel * kernel) ** -0.5
        self.state[f"{name}.weight"] = self._random(outputs, inputs, kernel, kernel) * scale
        if bias:
            self.state[f"{name}.bias"] = self._random(outputs) * 0.1

    def block(self, index: int, width: int, *, gated: bool) -> None:
        for layer in (0, 2, 4):
            self.conv(f"{index}.conv.{layer}", width, width)
        if gated:
            self.conv(f"{index}.pool.0", width, 4 * width, kernel=1, bias=False)
            self.state[f"{index}.pool.1.weight"] = 1 + 0.1 * self._random(4 * width)
            self.state[f"{index}.pool.1.bias"] = 0.1 * self._random(4 * width)
            self.conv(f"{index}.pool.3", 4 * width, width, kernel=1, bias=False)

    def _random(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self._generator).half()
