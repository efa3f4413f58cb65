"""From a ``torch.nn.Module`` to ``.tflite`` by litert-torch."""

from __future__ import annotations

from typing import Any

import litert_torch

from edgedf.spec import INPUT_NAME

__all__ = ["export"]


def export(network: Any, sample: Any) -> bytes:
    """See :meth:`edgedf.formats.base.Format.export`."""
    # Keywords and the dictionary's keys become the names in the TFLite signature.
    return bytes(litert_torch.convert(network, sample_kwargs={INPUT_NAME: sample}).model_content())
