"""An artifact and its float parent, opened to be compared layer by layer; and pictures for that."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgedf.artifact import Artifact, read_artifact
from edgedf.errors import ConfigError, DataError, ImageError
from edgedf.evaluation import Picture
from edgedf.formats import ModelGraph, open_graph
from edgedf.formats.layers import Answer, Graphs
from edgedf.imaging import RGBImage, load_image, prepare
from edgedf.machine import available_cores
from edgedf.precision import PRECISIONS
from edgedf.progress import Progress, silent
from edgedf.quantize.models.pair import shipped_parent

__all__ = ["MAX_PICTURES", "Opened", "choose_pictures", "open_layers", "opened_layers"]

MAX_PICTURES = 32

_MAX_THREADS = 4
_FLOAT_PARENT = "edgedf convert CHECKPOINT --precision fp32 --to {0} makes one"


@dataclass(frozen=True, eq=False)
class Opened:
    """An artifact and its float parent, ready to be compared layer by layer.

    Args:
        graphs: The two, tensor by tensor.
        artifact: Runs the artifact as it is.
        side: Side of their input in pixels.
    """

    graphs: Graphs
    artifact: Answer
    side: int


def opened_layers(
    artifact: ModelGraph, parent: ModelGraph, side: int, *, threads: int = 1
) -> Opened:
    """Match the tensors of two models that are no files.

    Args:
        artifact: A quantized model of ours.
        parent: The float model that it was made from, of the same format.
        side: Side of their input in pixels.
        threads: For each runtime.

    Raises:
        MissingExtra: What reads the graphs is not installed.
    """
    backend = artifact.format.open_backend(artifact.file, threads=threads)
    return Opened(artifact.against(parent, threads=threads), backend.run, side)


def open_layers(
    artifact: str | Path, against: str | Path | None = None, *, threads: int | None = None
) -> Opened:
    """Open an artifact and its parent, and match their tensors.

    Args:
        artifact: A quantized ``.tflite`` or ``.onnx`` file of ours.
        against: The fp32 file of the same format that it was made from; None for the float export
            that edgedf carries.
        threads: For each runtime; None for one a core, at most four.

    Raises:
        ArtifactError: One of the files cannot be used.
        ConfigError: Nothing is quantized in the artifact, or the parent is none of that kind.
        MissingExtra: What reads the graphs is not installed.
    """
    tested = read_artifact(artifact)
    if why := PRECISIONS[tested.spec.precision].without_ranges:
        raise ConfigError(
            f"{artifact} is {tested.spec.precision}: {why}.",
            expected="an int8 artifact",
            next_step="leave --layers out, or name an artifact of precision int8 or int8-a16",
        )
    parent = _parent(tested, shipped_parent(tested) if against is None else Path(against))
    count = threads or min(_MAX_THREADS, available_cores())
    side = tested.spec.input.height
    first, second = (open_graph(file.model, file.format) for file in (tested, parent))
    opened = opened_layers(first, second, side, threads=count)
    if not any(layer.quantized for layer in opened.graphs.layers):
        raise ConfigError(
            f"No quantized tensor of {artifact} has the name of one in {parent.path}.",
            expected="the float model that it was made from",
            next_step="name its parent with --against",
        )
    return opened


def choose_pictures(
    pictures: Sequence[Picture] | Sequence[str],
    side: int,
    *,
    limit: int = MAX_PICTURES,
    seed: int = 0,
    progress: Progress = silent,
) -> tuple[RGBImage, ...]:
    """Prepare a seeded choice of pictures; unreadable ones are passed over.

    Args:
        pictures: Pictures, or paths of some.
        side: Of the model's input, in pixels.
        limit: How many to take at most.
        seed: Of the choice.
        progress: Told about each picture.

    Raises:
        DataError: None can be read.
    """
    files = sorted(p.file if isinstance(p, Picture) else os.fspath(p) for p in pictures)
    random.Random(seed).shuffle(files)
    images: list[RGBImage] = []
    wanted = min(limit, len(files))
    for file in files:
        if len(images) == wanted:
            break
        try:
            images.append(prepare(load_image(file), side))
        except ImageError:
            continue
        progress("pictures for layers", len(images), wanted)
    if not images:
        raise DataError(
            "There is no picture to compare layers on.",
            expected="at least one that can be read; about 16 for steady figures",
            next_step="check the folder",
        )
    return tuple(images)


def _parent(tested: Artifact, path: Path) -> Artifact:
    """Read the parent, if it is of a kind that can be compared with tensor by tensor."""
    kind = tested.format
    expected = f"the fp32 .{kind} that {tested.path.name} was made from"
    next_step = f"name it with --against; {_FLOAT_PARENT.format(kind)}"
    if path.suffix.lower() == ".safetensors":
        raise ConfigError(
            f"{path} is a checkpoint, which has other tensors than the .{kind} made from it.",
            expected=expected,
            next_step=next_step,
        )
    parent = read_artifact(path)
    if parent.format != kind:
        raise ConfigError(
            f"{path} is .{parent.format} and {tested.path} is .{kind}: their tensors differ.",
            expected=expected,
            next_step=next_step,
        )
    if parent.spec.precision != "fp32":
        raise ConfigError(
            f"{path} is {parent.spec.precision}, not a float model.",
            expected=expected,
            next_step=next_step,
        )
    sizes = [(a.spec.input.height, a.spec.input.width) for a in (tested, parent)]
    if sizes[0] != sizes[1]:
        raise ConfigError(
            f"{tested.path} takes {sizes[0][0]} x {sizes[0][1]} pixels, "
            f"{path} {sizes[1][0]} x {sizes[1][1]}.",
            expected=expected,
            next_step=next_step,
        )
    return parent
