"""TFLite: LiteRT, its delegate XNNPACK, ai-edge-quantizer and litert-torch."""

from __future__ import annotations

import contextlib
import importlib.metadata

from edgedf.formats.base import Format
from edgedf.formats.tflite import container
from edgedf.int8_kernels import Int8Kernels

__all__ = ["TFLite"]


class TFLite(Format):
    """See :class:`~edgedf.formats.base.Format`."""

    name = "tflite"
    extra = "tflite"
    container = container
    backend = "edgedf.formats.tflite.backend:TFLiteBackend"
    timer = "edgedf.formats.tflite.timing:time_tflite_operators"
    export_tools = ("torch", "litert-torch")
    quantize_tools = ("ai-edge-quantizer",)
    integer_precisions = frozenset({"int8", "int8-a16"})
    native_benchmark = True
    after_saturation = "the file itself is right; upgrade ai-edge-litert, and report this processor"
    survives_damage = False
    tools = "edgedf.formats.tflite.graph:TFLiteGraph"
    exporter = "edgedf.formats.tflite.exporter:export"

    def runtime(self) -> str | None:
        """ai-edge-litert, or the tflite-runtime that it succeeded."""
        from edgedf.formats.tflite.backend import installed_runtime

        return installed_runtime()

    def why_not_runnable(self) -> str:
        """tflite-runtime was built for numpy 1 alone."""
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            importlib.metadata.version("tflite-runtime")
            numpy = importlib.metadata.version("numpy")
            return f"tflite-runtime does not work with numpy {numpy}, only with numpy < 2"
        return super().why_not_runnable()

    def import_runtime(self) -> None:
        """See :meth:`edgedf.formats.base.Format.import_runtime`."""
        from edgedf.formats.backend import import_runtime
        from edgedf.formats.tflite.backend import RUNTIMES

        found = self.runtime()
        if found is not None:
            import_runtime(RUNTIMES[found])

    def int8_kernels(self) -> Int8Kernels:
        """Exact everywhere: its kernels add in 32 bits."""
        from edgedf.formats.tflite.backend import TFLiteBackend

        return TFLiteBackend.int8_kernels
