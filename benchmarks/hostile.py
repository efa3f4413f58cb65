"""Students that int8 ruins, made from the shipped one, and what the search makes of them.

outliers   every fifth channel in front of a convolution without activation is up to 60 times as
           large, and the weights that take it as much smaller: in float nothing changes
mixed      the verdict is the difference of two numbers around 1500, where it was the sum of two
           around 0: in float nothing changes
hard-swish the last blocks have hard-swish and squeeze-and-excitation, and were trained for a while
           to say what the shipped student says

    python benchmarks/hostile.py --data DIR --out hostile/      # DIR holds manifest.csv
    edgedf convert hostile/outliers.tflite --precision auto --gate DIR --out repaired/

Writes ``NAME.tflite`` and ``NAME.onnx``, float models that ``edgedf convert`` takes. The pictures
are for the training of hard-swish, of the split train; without them it is left out.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgedf.artifact import ModelFormat, embed, read_artifact
from edgedf.cli._console import StepProgress, quiet_natives
from edgedf.distill.datasets import open_dataset
from edgedf.distill.networks.backbones import Block
from edgedf.distill.networks.checkpoints import load_checkpoint
from edgedf.distill.networks.deployable import Deployable
from edgedf.distill.networks.layers import Conv
from edgedf.errors import EdgedfError, ImageError
from edgedf.formats import REGISTRY as FORMATS
from edgedf.formats import open_graph
from edgedf.formats.weights import Parameters, WeightGraph
from edgedf.imaging import RGBImage, load_image, prepare
from edgedf.progress import Progress
from edgedf.quantize.repair.equalization import channel_groups
from edgedf.quantize.sources.export import export_network
from edgedf.runtime.models import shipped_model
from edgedf.spec import ModelSpec

OUTLIER, EVERY = 60.0, 5
OFFSET = 1500.0
GATED_BLOCKS = 3
BATCH = 8


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("hostile"), help="default: hostile")
    parser.add_argument("--data", type=Path, help="a data set, to train hard-swish on")
    parser.add_argument("--steps", type=int, default=300, help="of that training (default: 300)")
    options = parser.parse_args(argv)
    try:
        with quiet_natives(), StepProgress() as progress:
            options.out.mkdir(parents=True, exist_ok=True)
            for path in write_all(options.out, options.data, options.steps, progress):
                print(path)
    except EdgedfError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    return 0


def write_all(out: Path, data: Path | None, steps: int, progress: Progress) -> Iterator[Path]:
    """Make all of them, and say which files."""
    for model_format in FORMATS:
        shipped = read_artifact(shipped_model(model_format))
        for name, change in (("outliers", with_outliers), ("mixed", with_offsets)):
            graph = open_graph(shipped.model, model_format).weights()
            changed = graph.changed(change(graph)).file
            yield _write(out, name, model_format, changed, shipped.spec)
    if data is None:
        return
    network = gated_student(data, steps, progress)
    for model_format in FORMATS:
        spec = read_artifact(shipped_model(model_format)).spec
        model = export_network(network, spec.input.height, model_format)
        yield _write(out, "hard-swish", model_format, model, spec)


def with_outliers(graph: WeightGraph) -> dict[str, Parameters]:
    """Channels of very different size, wherever that changes nothing in float."""
    changed = {made: conv.parameters for made, conv in graph.convolutions.items()}
    for group in channel_groups(graph):
        makers = [conv for conv in graph.convolutions.values() if conv.made in group]
        takers = [conv for conv in graph.convolutions.values() if conv.taken in group]
        channels = len(makers[0].parameters.bias) if makers and takers else 0
        factors = np.ones(channels, np.float32)
        factors[::EVERY] = np.geomspace(OUTLIER / 4, OUTLIER, len(factors[::EVERY]))
        for conv in makers if takers else ():
            weights, bias = changed[conv.made]
            changed[conv.made] = Parameters(weights * factors[:, None, None, None], bias * factors)
        for conv in takers if makers else ():
            shape = (-1, 1, 1, 1) if conv.depthwise else (1, -1, 1, 1)
            weights, bias = changed[conv.made]
            changed[conv.made] = Parameters(weights / factors.reshape(shape), bias)
    return changed


def with_offsets(graph: WeightGraph) -> dict[str, Parameters]:
    """The two parts of the verdict far from 0, on opposite sides."""
    changed = {}
    for step in graph.steps:
        parts = [graph.convolutions.get(name) for name in step.taken]
        if step.kind != "each" or len(parts) != 2 or None in parts:
            continue
        for conv, offset in zip(parts, (OFFSET, -OFFSET), strict=True):
            if conv is not None and len(conv.parameters.bias) == 1:
                weights, bias = conv.parameters
                changed[conv.made] = Parameters(weights, bias + np.float32(offset))
    return changed


class Gated(nn.Module):
    """A convolution, hard-swish, and squeeze-and-excitation (Howard et al., ICCV 2019)."""

    def __init__(self, conv: Conv) -> None:
        super().__init__()
        channels = len(conv.bias)
        conv.relu = False
        self.conv, self.groups = conv, conv.groups
        self.squeeze = nn.Conv2d(channels, channels // 4, 1)
        self.excite = nn.Conv2d(channels // 4, channels, 1)
        with torch.no_grad():
            self.excite.weight.mul_(0.1)
            self.excite.bias.fill_(2.0)  # nearly open to begin with

    def forward(self, x: Tensor) -> Tensor:
        """Run it."""
        x = F.hardswish(self.conv(x))
        gate = self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1))))
        return x * F.hardsigmoid(gate)


def gated_student(data: Path, steps: int, progress: Progress) -> Deployable:
    """The shipped student with other blocks, trained to say the same.

    Args:
        data: A data set; its split train is used, and no label.
        steps: How long.
        progress: Told about steps.
    """
    shipped = load_checkpoint(shipped_model("tflite").with_suffix(".safetensors"))[0]
    teacher, network = Deployable(shipped), Deployable(shipped)
    torch.manual_seed(0)
    for block in list(network.student.encoder.blocks())[-GATED_BLOCKS:]:
        inner = cast(Block, block)
        inner.depthwise = Gated(inner.depthwise)  # type: ignore[assignment]
    images = _pictures(data, shipped.config.input_size, 600, progress)
    blocks = [list(net.student.encoder.blocks())[-GATED_BLOCKS:] for net in (teacher, network)]
    features: list[list[Tensor]] = [[], []]
    for found, of_network in zip(features, blocks, strict=True):
        for block in of_network:
            block.register_forward_hook(lambda _, inputs, made, found=found: found.append(made))
    # Everything else stays: weights that take grey levels are small, and soon gone astray.
    heads = nn.ModuleList([network.by_mean, network.by_spread, network.student.spreads])
    groups = [(nn.ModuleList(blocks[1]), 5e-4), (heads, 2e-5)]
    optimiser = torch.optim.Adam(
        {"params": list(module.requires_grad_(True).parameters()), "lr": rate, "first": rate}
        for module, rate in groups
    )
    order = np.random.default_rng(0)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = group["first"] * min(1.0, 2 * (1 - step / steps))
        picked = order.choice(len(images), BATCH, replace=False)
        batch = torch.from_numpy(np.stack([images[i] for i in picked])).permute(0, 3, 1, 2).float()
        with torch.no_grad():
            wanted_logit, wanted_map = teacher(batch)
        logit, dense = network(batch)
        loss = F.mse_loss(logit, wanted_logit) + F.mse_loss(dense, wanted_map)
        for wanted, made in zip(*features, strict=True):
            loss = loss + F.mse_loss(made, wanted) / wanted.var()
        for found in features:
            found.clear()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        progress(f"train hard-swish, loss {loss.item():.2f}", step + 1, steps)
    return network.requires_grad_(False).eval()


def _pictures(data: Path, side: int, count: int, progress: Progress) -> list[RGBImage]:
    everything = open_dataset(data, "auto", progress=progress).select()
    samples = [sample for sample in everything if sample.split == "train"]
    random.Random(0).shuffle(samples)
    found: list[RGBImage] = []
    for sample in samples[:count]:
        try:
            found.append(prepare(load_image(sample.path), side))
        except ImageError:
            continue
        progress("pictures", len(found), min(count, len(samples)))
    return found


def _write(out: Path, name: str, model_format: ModelFormat, model: bytes, spec: ModelSpec) -> Path:
    described = spec.with_changes(name=f"hostile-{name}", accuracy=())
    path = out / f"{name}.{model_format}"
    path.write_bytes(embed(model, model_format, described))
    return path


if __name__ == "__main__":
    sys.exit(main())
