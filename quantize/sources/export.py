"""A student's checkpoint → float ``.tflite`` and ``.onnx``. The only stage that needs torch."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedf.artifact import ModelFormat
from edgedf.errors import MissingExtra
from edgedf.files import sha256_of
from edgedf.formats import REGISTRY, format_named, open_graph
from edgedf.formats.backend import unpack
from edgedf.imaging import preprocess
from edgedf.progress import Progress, silent
from edgedf.quantize.models.run import Outputs, Run, as_outputs
from edgedf.quantize.sources.describe import describe_checkpoint, describe_converted
from edgedf.quantize.sources.learned_ranges import TensorRanges, ranges_of_tensors
from edgedf.sample import images as sample_images
from edgedf.spec import OUTPUT_NAMES, ModelSpec

__all__ = ["Exported", "export_checkpoint", "export_network", "run_checkpoint"]

# litert-torch's own switch, read from the environment alone.
_SHOW_PROGRESS = "LITERT_TORCH_SHOW_PROGRESS"

# Pictures of the shipped sample that tensors are told apart by: on one, two may both be 0.
_MATCHED = 3


@dataclass(frozen=True, eq=False)
class Exported:
    """A checkpoint as float models.

    Args:
        models: A file per format, its spec inside.
        specs: The specs.
        torch_run: The checkpoint run by torch: what the exports have to agree with.
        ranges: The activation ranges that the checkpoint learned, by the names of each export's
            tensors; nothing where it learned none.
    """

    models: dict[ModelFormat, bytes]
    specs: dict[ModelFormat, ModelSpec]
    torch_run: Run
    ranges: dict[ModelFormat, TensorRanges] = field(default_factory=dict)


def export_checkpoint(
    checkpoint: str | Path,
    formats: Sequence[ModelFormat] = tuple(REGISTRY),
    *,
    progress: Progress = silent,
) -> Exported:
    """Export a student to float models with uint8 RGB NHWC input.

    Args:
        checkpoint: A ``.safetensors`` file of ours.
        formats: Which to make.
        progress: Told about each step.

    Returns:
        The models, their specs, and the checkpoint as a function.

    Raises:
        CheckpointError: Not a checkpoint of ours.
        MissingExtra: torch or a converter is not installed.
    """
    progress("load checkpoint", 0, 1)
    torch, student, metadata, spec = _open(Path(checkpoint))
    from edgedf.distill.networks.deployable import Deployable

    network = _with_byte_input(torch, Deployable(student))
    progress("load checkpoint", 1, 1)
    models: dict[ModelFormat, bytes] = {}
    specs: dict[ModelFormat, ModelSpec] = {}
    for model_format in formats:
        step = f"export {model_format}"
        progress(step, 0, 1)
        with _needs_export():
            opened = format_named(model_format)
            described = describe_converted(spec, opened, "fp32", exported=True)
            sample = _sample(torch, spec.input.height)
            with _quiet():
                model = opened.export(network, sample)
            models[model_format] = opened.embed(model, described)
        specs[model_format] = described
        progress(step, 1, 1)
    ranges = _learned_ranges(torch, student, metadata, models)
    return Exported(models, specs, _torch_run(torch, network), ranges)


def export_network(network: Any, side: int, model_format: ModelFormat) -> bytes:
    """Export a network that is no checkpoint of ours.

    Args:
        network: A ``torch.nn.Module`` in evaluation mode: float32 (1, 3, side, side) in [0, 255] →
            (fake logit (1, 1), defocus map (1, 1, side / 4, side / 4)).
        side: Of the input, in pixels.
        model_format: Which to make.

    Returns:
        A float model with uint8 RGB NHWC input, without a spec.

    Raises:
        MissingExtra: torch or a converter is not installed.
    """
    with _needs_export():
        import torch

        with _quiet():
            wrapped = _with_byte_input(torch, network)
            return format_named(model_format).export(wrapped, _sample(torch, side))


def run_checkpoint(checkpoint: str | Path) -> tuple[ModelSpec, Run]:
    """A student run by torch, without exporting it.

    Args:
        checkpoint: A ``.safetensors`` file of ours.

    Returns:
        Its spec, and the function that runs it.

    Raises:
        CheckpointError: Not a checkpoint of ours.
        MissingExtra: torch is not installed.
    """
    torch, student, _, spec = _open(Path(checkpoint))
    from edgedf.distill.networks.deployable import Deployable

    return spec, _torch_run(torch, _with_byte_input(torch, Deployable(student)))


def _open(path: Path) -> tuple[Any, Any, Mapping[str, Any], ModelSpec]:
    """torch, the student, what its checkpoint says of it, and its spec."""
    with _needs_export():
        import torch

        from edgedf.distill.networks.checkpoints import load_checkpoint
    student, metadata = load_checkpoint(path)
    spec = describe_checkpoint(metadata, sha256_of(path))
    return torch, student, metadata, spec


def _learned_ranges(
    torch: Any, student: Any, metadata: Mapping[str, Any], models: Mapping[ModelFormat, bytes]
) -> dict[ModelFormat, TensorRanges]:
    """The ranges of quantization-aware training for each export, where there was one."""
    from edgedf.distill.qat.fake_quant import activations, ranges_of

    ranges = ranges_of(metadata)
    if ranges is None:
        return {}
    size = student.config.input_size
    images = [preprocess(image.path, size) for image in sample_images()[:_MATCHED]]
    batches = [torch.from_numpy(image).permute(2, 0, 1)[None].float() for image in images]
    made = [
        {name: values.numpy() for name, values in activations(student, batch).items()}
        for batch in batches
    ]
    return {
        name: ranges_of_tensors(open_graph(model, name), images, made, ranges)
        for name, model in models.items()
    }


def _with_byte_input(torch: Any, network: Any) -> Any:
    """Wrap (1, 3, N, N) float32 in 0..255 → NCHW so that it takes bytes and gives a map in NHWC."""

    class ByteInput(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, image: Any) -> dict[str, Any]:
            # Cast before the change of layout: the TFLite converter then finds that every
            # operator can work in NHWC and no TRANSPOSE is left.
            logit, dense = self.network(image.to(torch.float32).permute(0, 3, 1, 2))
            return {"fake_logit": logit, "defocus_map": dense.permute(0, 2, 3, 1)}

    return ByteInput().eval()


def _sample(torch: Any, side: int) -> Any:
    return torch.zeros((1, side, side, 3), dtype=torch.uint8)


def _torch_run(torch: Any, network: Any) -> Run:
    def run(image: NDArray[np.uint8]) -> Outputs:
        with torch.no_grad():
            outputs = network(torch.from_numpy(image[np.newaxis]))
        logit, dense = (outputs[name].numpy() for name in OUTPUT_NAMES)
        return as_outputs(*unpack(logit, dense, "torch"))

    return run


@contextlib.contextmanager
def _needs_export() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise MissingExtra("export", "Exporting a checkpoint") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporters report on standard output and warn and log about their own internals."""
    disabled = logging.root.manager.disable
    shown = os.environ.get(_SHOW_PROGRESS)
    logging.disable(logging.WARNING)
    os.environ[_SHOW_PROGRESS] = "n"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        logging.disable(disabled)
        if shown is None:
            del os.environ[_SHOW_PROGRESS]
        else:
            os.environ[_SHOW_PROGRESS] = shown
