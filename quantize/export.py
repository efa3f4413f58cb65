"""A student's checkpoint → float ``.tflite`` and ``.onnx``. The only stage that needs torch."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedf.artifact import ModelFormat, embed_onnx, embed_tflite
from edgedf.errors import MissingExtra
from edgedf.files import sha256_of
from edgedf.progress import Progress, silent
from edgedf.quantize.describe import (
    INPUT_NAME,
    OUTPUT_NAMES,
    describe_checkpoint,
    describe_converted,
)
from edgedf.quantize.run import Outputs, Run, as_outputs
from edgedf.runtime.backends.base import unpack
from edgedf.spec import ModelSpec

__all__ = ["ONNX_OPSET", "Exported", "export_checkpoint", "export_network", "run_checkpoint"]

ONNX_OPSET = 18

# litert-torch's own switch, read from the environment alone.
_SHOW_PROGRESS = "LITERT_TORCH_SHOW_PROGRESS"


@dataclass(frozen=True, eq=False)
class Exported:
    """A checkpoint as float models.

    Args:
        models: A file per format, its spec inside.
        specs: The specs.
        torch_run: The checkpoint run by torch: what the exports have to agree with.
    """

    models: dict[ModelFormat, bytes]
    specs: dict[ModelFormat, ModelSpec]
    torch_run: Run


def export_checkpoint(
    checkpoint: str | Path,
    formats: Sequence[ModelFormat] = ("tflite", "onnx"),
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
    torch, network, spec = _open(Path(checkpoint))
    progress("load checkpoint", 1, 1)
    sample = torch.zeros((1, spec.input.height, spec.input.width, 3), dtype=torch.uint8)
    models: dict[ModelFormat, bytes] = {}
    specs: dict[ModelFormat, ModelSpec] = {}
    for model_format in formats:
        step = f"export {model_format}"
        progress(step, 0, 1)
        with _needs_export():
            described = describe_converted(spec, model_format, "fp32", exported=True)
            if model_format == "tflite":
                models[model_format] = embed_tflite(_to_tflite(network, sample), described)
            else:
                models[model_format] = embed_onnx(_to_onnx(torch, network, sample), described)
        specs[model_format] = described
        progress(step, 1, 1)
    return Exported(models, specs, _torch_run(torch, network))


def export_network(network: Any, size: int, model_format: ModelFormat) -> bytes:
    """Export a torch network as a float model with uint8 RGB NHWC input, without a spec.

    Args:
        network: (1, 3, size, size) float32 in [0, 255] → logit (1, 1), map (1, 1, size / 4,
            size / 4).
        size: Side of the input in pixels.
        model_format: ``tflite`` or ``onnx``.

    Raises:
        MissingExtra: torch or a converter is not installed.
    """
    with _needs_export():
        import torch

        wrapped = _with_byte_input(torch, network)
        sample = torch.zeros((1, size, size, 3), dtype=torch.uint8)
        if model_format == "tflite":
            return _to_tflite(wrapped, sample)
        return _to_onnx(torch, wrapped, sample)


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
    torch, network, spec = _open(Path(checkpoint))
    return spec, _torch_run(torch, network)


def _open(path: Path) -> tuple[Any, Any, ModelSpec]:
    """torch, the network that takes bytes, and its spec."""
    with _needs_export():
        import torch

        from edgedf.distill.student import load_checkpoint
    student, metadata = load_checkpoint(path)
    spec = describe_checkpoint(metadata, sha256_of(path))
    return torch, _with_byte_input(torch, student.deployable()), spec


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


def _to_tflite(network: Any, sample: Any) -> bytes:
    with _quiet():
        import litert_torch

        # Keywords and the dictionary's keys become the names in the TFLite signature.
        return bytes(
            litert_torch.convert(network, sample_kwargs={INPUT_NAME: sample}).model_content()
        )


def _to_onnx(torch: Any, network: Any, sample: Any) -> bytes:
    import onnx
    from onnxscript import opset18

    from edgedf.quantize.onnx import without_metadata

    def average(x: Any, output_size: Any) -> Any:
        return opset18.GlobalAveragePool(x)

    with _quiet():
        program = torch.onnx.export(
            network,
            kwargs={INPUT_NAME: sample},
            dynamo=True,
            opset_version=ONNX_OPSET,
            input_names=[INPUT_NAME],
            output_names=list(OUTPUT_NAMES),
            verbose=False,
            # Left to itself it becomes a ReduceMean, which ONNX Runtime computes in float, on
            # the largest tensors of the network.
            custom_translation_table={torch.ops.aten.adaptive_avg_pool2d.default: average},
        )
    model = without_metadata(program.model_proto)
    model.producer_version = model.producer_version.partition("+")[0]  # of torch, without its build
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


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
