"""Students that were never trained, whose outputs vary as a trained one's do; and photographs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

# Colour photographs that scikit-image bundles, larger than 256 on each side.
_SOURCES = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "motorcycle_left.png",
    "rocket.jpg",
    "retina.jpg",
    "ihc.png",
    "hubble_deep_field.jpg",
)

METADATA: dict[str, Any] = {
    "name": "edgedf-student",
    "version": "0.0.0",
    "licence": "Apache-2.0; never trained, for tests only",
    "threshold": {"fake_at": 0.6, "real_at": 0.4, "how": "by hand, never calibrated"},
    "training": {"data": "ImageNet encoder, random heads", "data_sha256": "0" * 64, "steps": 0},
    "accuracy": [],
}


def crops(side: int = 256) -> Iterator[NDArray[np.uint8]]:
    """Different photographs, uint8 RGB (side, side, 3), one picture after the other."""
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    pictures = [cv2.imread(str(folder / name), cv2.IMREAD_COLOR_RGB) for name in _SOURCES]
    for index in range(3):
        for picture in pictures:
            height, width = picture.shape[:2]
            top = (height - side) * index // 2
            left = (width - side) * ((index * 2) % 3) // 2
            yield np.ascontiguousarray(picture[top : top + side, left : left + side])


def write_student(
    path: Path, images: Sequence[NDArray[np.uint8]], *, size: int, seed: int = 0
) -> Path:
    """Write a checkpoint whose logit and map vary over ``images``.

    Args:
        path: Where to.
        images: uint8 RGB (size, size, 3) each, to scale the two outputs by.
        size: Side of the input.
        seed: Of the random heads.
    """
    import torch
    from edgedf.distill.student import (
        Student,
        StudentConfig,
        load_imagenet_weights,
        save_checkpoint,
    )

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = Student(StudentConfig(input_size=size)).eval()
    load_imagenet_weights(student)
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()
    seen: dict[str, torch.Tensor] = {}
    hooks = [
        module.register_forward_pre_hook(
            lambda _, inputs, name=name: seen.update({name: inputs[0]})
        )
        for name, module in (("fake", student.fake), ("blur", student.blur))
    ]
    reducers = (student.decoder.reduce16, student.decoder.reduce8, student.decoder.reduce4)
    with torch.no_grad():
        for layer in (*reducers, *student.textures):
            layer.weight.mul_(0.05)  # else half of what they give is cut off at 0 or 6
        student(batch)
        # Along its principal direction a layer's input says most and rounding says least.
        patches = torch.nn.functional.unfold(seen["blur"], 3, padding=1)
        weight, bias = _principal(patches.transpose(1, 2).flatten(0, 1), 1.2, 2.0)
        student.blur.weight.copy_(weight.reshape(student.blur.weight.shape))
        student.blur.bias.fill_(bias)
        weight, bias = _principal(seen["fake"], 2.5, 0.0)
        student.fake.weight.copy_(weight.reshape(1, -1))
        student.fake.bias.fill_(bias)
    for hook in hooks:
        hook.remove()
    return save_checkpoint(path, student, METADATA)


def _principal(rows: Any, spread: float, middle: float) -> tuple[Any, float]:
    """Weights and bias of a linear output with that standard deviation and mean over the rows."""
    import torch

    centred = rows - rows.mean(dim=0)
    _, directions = torch.linalg.eigh(centred.T @ centred)
    weight = directions[:, -1] * directions[:, -1].sum().sign()
    weight = weight * (spread / (centred @ weight).std())
    return weight, middle - float(rows.mean(dim=0) @ weight)
