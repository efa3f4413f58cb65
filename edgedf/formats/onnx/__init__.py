"""ONNX: ONNX Runtime with its quantizer, and torch's exporter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgedf.formats.base import Format
from edgedf.formats.container import Embedded
from edgedf.formats.onnx import container
from edgedf.int8_kernels import EXACT_INT8, Int8Kernels
from edgedf.precision import PrecisionName
from edgedf.spec import ModelSpec

if TYPE_CHECKING:
    from edgedf.formats.onnx.backend import OnnxBackend
    from edgedf.formats.timed import Operators
    from edgedf.imaging import RGBImage

__all__ = ["Onnx"]


class Onnx(Format):
    """See :class:`~edgedf.formats.base.Format`."""

    name = "onnx"
    extra = "onnx"
    export_tools = ("torch", "onnxscript", "onnx")
    quantize_tools = ("onnxruntime", "onnx")
    # ONNX Runtime has no 16-bit kernels on a CPU: it runs int8-a16 in float between conversions,
    # which gives the values that a device with such kernels gives, at the price of speed.
    missing_precisions: Mapping[PrecisionName, str] = {
        "int8-dynamic": (
            "ONNX Runtime's dynamic convolutions (ConvInteger) change this kind of network too "
            "much; on the shipped student the correlation of the logits falls to 0.92, and a "
            "picture takes several times as long as in float"
        )
    }
    after_saturation = (
        "the file is right on Arm and on x86-64 with VNNI; here upgrade onnxruntime, or take "
        "the .tflite file, which is exact everywhere"
    )
    tools = "edgedf.formats.onnx.graph:OnnxGraph"
    exporter = "edgedf.formats.onnx.exporter:export"
    # Bilinear upsampling, and the conversions around it.
    float_kernels = frozenset({"Resize", "DequantizeLinear", "QuantizeLinear"})
    takes_own = True

    def recognises(self, data: bytes) -> bool:
        """By its structure: protobuf has no identifier."""
        return container.recognises(data)

    def check(self, data: bytes, path: Path) -> None:
        """Weights in another file are refused."""
        container.check(data, path)

    def read_spec(self, data: bytes, path: Path) -> Embedded:
        """See :mod:`edgedf.formats.onnx.container`."""
        return container.read_spec(data, path)

    def embed(self, model: bytes, spec: ModelSpec) -> bytes:
        """See :mod:`edgedf.formats.onnx.container`."""
        return container.embed(model, spec)

    def runtime(self) -> str | None:
        """See :meth:`edgedf.formats.base.Format.runtime`."""
        from edgedf.formats.onnx.session import is_installed

        return "onnxruntime" if is_installed() else None

    def import_runtime(self) -> None:
        """See :meth:`edgedf.formats.base.Format.import_runtime`."""
        from edgedf.formats.backend import import_runtime

        import_runtime("onnxruntime")

    def int8_kernels(self) -> Int8Kernels:
        """Found by running them once a process; see :mod:`edgedf.formats.onnx.session`."""
        from edgedf.formats.onnx.session import int8_kernels

        return int8_kernels()

    def session_options(self, precision: PrecisionName) -> Mapping[str, str]:
        """What makes int8 exact on x86-64 without VNNI."""
        return EXACT_INT8 if precision == "int8" else {}

    def open_backend(
        self, model: bytes, *, threads: int = 1, reference: bool = False
    ) -> OnnxBackend:
        """See :func:`edgedf.formats.open_backend`."""
        from edgedf.formats.onnx.backend import OnnxBackend

        return OnnxBackend(model, threads=threads, reference=reference)

    def time_operators(
        self,
        configuration: int,
        model: bytes,
        threads: int,
        images: Sequence[RGBImage],
        queries: int,
    ) -> Operators:
        """By ONNX Runtime's own profile; see :mod:`edgedf.formats.onnx.timing`."""
        from edgedf.formats.onnx.timing import time_onnx_operators

        return time_onnx_operators(configuration, model, threads, images, queries)
