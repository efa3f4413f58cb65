"""What the recipes of ``experiments.ablation`` cost: parameters, multiply-adds, time, in torch.

    python benchmarks/recipes.py
    python benchmarks/recipes.py --json

A picture of 256 x 256, one thread, float32. Recipes that look at the defocus map pay for it.
Recipes take turns, so that a machine that slows down slows all of them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from edgedf.distill.networks.student import Student
from edgedf.distill.networks.teacher import Teacher
from edgedf.distill.optics.maps import defocus_map
from edgedf.distill.records.making import at_stride
from edgedf.distill.settings import MODALITIES, TeacherConfig
from edgedf.imaging import RGBImage, load_image, prepare
from edgedf.machine import this_host
from edgedf.sample import images
from edgedf.spec import MAP_STRIDE

sys.path.insert(0, str(Path(__file__).parents[1]))

from experiments.baselines import FineTuned, MapXception

SIDE = 256


@dataclass(frozen=True)
class Cost:
    """Of one recipe. The map is counted in time alone: it has no weights."""

    recipe: str
    parameters: int
    multiply_adds: int
    median_ms: float


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--rounds", type=int, default=15, help="timed calls a recipe")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with threadpool_limits(1):
        costs = measure(options.rounds)
    if options.json:
        print(
            json.dumps(
                {"host": asdict(this_host()), "costs": [asdict(cost) for cost in costs]}, indent=1
            )
        )
        return 0
    for name, value in asdict(this_host()).items():
        print(f"{name:>13}  {value}")
    print("\n| recipe | parameters | GMAC | ms a picture |\n|---|---|---|---|")
    for cost in costs:
        size, work = f"{cost.parameters / 1e6:.2f} M", f"{cost.multiply_adds / 1e9:.2f}"
        print(f"| {cost.recipe} | {size} | {work} | {cost.median_ms:.0f} |")
    return 0


def measure(rounds: int) -> list[Cost]:
    """All recipes, on a photograph of the sample."""
    picture = prepare(load_image(images()[0].path), SIDE)
    pixels = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
    pixels = pixels.contiguous(memory_format=torch.channels_last)
    dense = physical(picture)
    recipes = list(networks())
    for _, _, network in recipes:
        network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    calls: list[Callable[[], object]] = [
        (lambda n=network: n(pixels, physical(picture)))
        if takes_map
        else (lambda n=network: n(pixels, dense))
        for _, takes_map, network in recipes
    ]
    seconds: list[list[float]] = [[] for _ in recipes]
    with torch.inference_mode():
        for call in calls:
            call()
        for _ in range(rounds):
            for taken, call in zip(seconds, calls, strict=True):
                start = time.perf_counter()
                call()
                taken.append(time.perf_counter() - start)
        work = [multiply_adds(network, pixels, dense) for _, _, network in recipes]
    return [
        Cost(name, parameters(network), macs, round(1000 * statistics.median(taken), 2))
        for (name, _, network), macs, taken in zip(recipes, work, seconds, strict=True)
    ]


def networks() -> list[tuple[str, bool, nn.Module]]:
    """Name, whether it looks at the defocus map, and the network of each recipe."""
    found: list[tuple[str, bool, nn.Module]] = [
        ("xception", True, MapXception()),
        ("fine-tune", False, FineTuned()),
    ]
    for name in MODALITIES:
        config = TeacherConfig(modalities=(name,), map_channels=0)
        found.append((name, name == "defocus", Teacher(config)))
    found.append(("teacher", True, Teacher()))
    return [*found, ("student", False, _Alone(Student()))]


class _Alone(nn.Module):
    """A network that takes the picture and no map."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor, defocus: Tensor) -> object:
        return self.network(image)


def physical(picture: RGBImage) -> Tensor:
    """The physical map as the networks take it."""
    found = at_stride(defocus_map(picture, "physical"), MAP_STRIDE)
    return torch.from_numpy(found.astype(np.float32))[None, None]


def parameters(network: nn.Module) -> int:
    """Weights, the verdict's included where it is found in closed form."""
    buffers = (value for name, value in network.named_buffers() if name.endswith(".weight"))
    weights = (*network.parameters(), *buffers)
    return sum(int(np.prod(value.shape)) for value in weights)


def multiply_adds(network: nn.Module, pixels: Tensor, dense: Tensor) -> int:
    """Of one picture, in convolutions and matrix products."""
    with FlopCounterMode(display=False) as counter:
        network(pixels, dense)
    return int(counter.get_total_flops()) // 2


if __name__ == "__main__":
    sys.exit(main())
