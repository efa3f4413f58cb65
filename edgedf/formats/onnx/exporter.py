"""From a ``torch.nn.Module`` to ``.onnx`` by torch's exporter."""

from __future__ import annotations

from typing import Any

import onnx
from onnxscript import opset18

from edgedf.formats.onnx.parsed import serialized, without_metadata
from edgedf.spec import INPUT_NAME, OUTPUT_NAMES

__all__ = ["OPSET", "export"]

OPSET = 18


def export(network: Any, sample: Any) -> bytes:
    """See :meth:`edgedf.formats.base.Format.export`."""
    import torch

    program = torch.onnx.export(
        network,
        kwargs={INPUT_NAME: sample},
        dynamo=True,
        opset_version=OPSET,
        input_names=[INPUT_NAME],
        output_names=list(OUTPUT_NAMES),
        verbose=False,
        # Left to itself it becomes a ReduceMean, which ONNX Runtime computes in float, on the
        # largest tensors of the network.
        custom_translation_table={torch.ops.aten.adaptive_avg_pool2d.default: _average},
    )
    assert program is not None
    model = without_metadata(program.model_proto)
    model.producer_version = model.producer_version.partition("+")[0]  # of torch, without its build
    onnx.checker.check_model(model)
    return serialized(model)


def _average(x: Any, output_size: Any) -> Any:
    return opset18.GlobalAveragePool(x)
