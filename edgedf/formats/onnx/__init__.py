"""ONNX: ONNX Runtime with its quantizer, and torch's exporter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgedf.formats.base import Format
from edgedf.formats.onnx import container
from edgedf.int8_kernels import EXACT_INT8, Int8Kernels
from edgedf.precision import PrecisionName

__all__ = ["Onnx"]


class Onnx(Format):
    """See :class:`~edgedf.formats.base.Format`."""

    name = "onnx"
    extra = "onnx"
    container = container
    backend = "edgedf.formats.onnx.backend:OnnxBackend"
    timer = "edgedf.formats.onnx.timing:time_onnx_operators"
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

    def check(self, data: bytes, path: Path) -> None:
        """Weights in another file are refused."""
        container.check(data, path)

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
