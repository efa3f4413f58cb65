"""TFLite: LiteRT, its delegate XNNPACK, ai-edge-quantizer and litert-torch."""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgedf.formats.base import Format
from edgedf.formats.container import Embedded
from edgedf.formats.tflite import container
from edgedf.int8_kernels import Int8Kernels
from edgedf.spec import ModelSpec

if TYPE_CHECKING:
    from edgedf.formats.tflite.backend import TFLiteBackend
    from edgedf.formats.timed import Operators
    from edgedf.imaging import RGBImage

__all__ = ["TFLite"]


class TFLite(Format):
    """See :class:`~edgedf.formats.base.Format`."""

    name = "tflite"
    extra = "tflite"
    delegate = "XNNPACK"
    export_tools = ("torch", "litert-torch")
    quantize_tools = ("ai-edge-quantizer",)
    integer_precisions = frozenset({"int8", "int8-a16"})
    native_benchmark = True
    after_saturation = "the file itself is right; upgrade ai-edge-litert, and report this processor"
    survives_damage = False
    tools = "edgedf.formats.tflite.graph:TFLiteGraph"
    exporter = "edgedf.formats.tflite.exporter:export"

    def recognises(self, data: bytes) -> bool:
        """By the identifier of the flatbuffer's schema."""
        return data[4:8] == b"TFL3"

    def check(self, data: bytes, path: Path) -> None:
        """Nothing to check: only the interpreter can tell."""

    def read_spec(self, data: bytes, path: Path) -> Embedded:
        """See :mod:`edgedf.formats.tflite.container`."""
        return container.read_spec(data, path)

    def embed(self, model: bytes, spec: ModelSpec) -> bytes:
        """See :mod:`edgedf.formats.tflite.container`."""
        return container.embed(model, spec)

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

    def open_backend(
        self, model: bytes, *, threads: int = 1, reference: bool = False
    ) -> TFLiteBackend:
        """See :func:`edgedf.formats.open_backend`."""
        from edgedf.formats.tflite.backend import TFLiteBackend

        return TFLiteBackend(model, threads=threads, reference=reference)

    def time_operators(
        self,
        configuration: int,
        model: bytes,
        threads: int,
        images: Sequence[RGBImage],
        queries: int,
    ) -> Operators:
        """By the profiler in LiteRT's C library; see :mod:`edgedf.formats.tflite.timing`."""
        from edgedf.formats.tflite.timing import time_tflite_operators

        return time_tflite_operators(configuration, model, threads, images, queries)
