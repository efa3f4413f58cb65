"""The one place that opens ONNX Runtime sessions, so that int8 is right on every processor.

Our int8 ``.onnx`` files multiply uint8 activations by int8 weights. On x86-64 processors without
VNNI, ONNX Runtime does that with an instruction (``vpmaddubsw``) that adds pairs of products with
saturation to 16 bits: results are silently wrong (onnxruntime issues 6004, 14642 and 5849). The
session option :data:`EXACT_INT8` has it multiply uint8 by uint8 instead, which is exact. ONNX
Runtime also obeys it where nothing saturates and is then slower for nothing: with VNNI about twice.
So a tiny network is run first, once a process, and the option is set only where that shows
saturation, or in doubt.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from edgedf.errors import MissingExtra
from edgedf.formats.backend import import_runtime
from edgedf.int8_kernels import EXACT_INT8, Int8Kernels

__all__ = ["int8_kernels", "is_installed", "open_session"]

_PROVIDERS = ["CPUExecutionProvider"]
_FATAL = 4

# An ONNX model of one operator: QLinearConv with input x, uint8 (1, 8, 1, 1), and weights that are
# all 127; the scale of the output is 2048, other scales are 1, zero points 0.
_PROBE = bytes.fromhex(
    "08083abd010a310a01780a036f6e650a027a750a01770a036f6e650a027a690a036269670a027a7512017922"
    "0b514c696e656172436f6e761201672a17080108080801080110034201774a087f7f7f7f7f7f7f7f2a0d1001"
    "42036f6e654a040000803f2a0d100142036269674a04000000452a09100242027a754a01002a09100342027a"
    "694a01005a1b0a017812160a14080212100a0208010a0208080a0208010a020801621b0a017912160a140802"
    "12100a0208010a0208010a0208010a02080142040a00100d"
)
_BRIGHT = np.full((1, 8, 1, 1), 255, np.uint8)
_EXACT_RESULT = 127  # 8 * 255 * 127 / 2048 = 126.5; with saturated pairs 4 * 32767 / 2048 = 64.0


def is_installed() -> bool:
    """Whether ONNX Runtime is there; nothing is imported."""
    return find_spec("onnxruntime") is not None


@functools.cache
def int8_kernels() -> Int8Kernels:
    """How ONNX Runtime multiplies uint8 by int8 here, found by running it once a process.

    Returns:
        ``exact``, ``widened`` where :data:`EXACT_INT8` is needed and helps, or ``saturating`` where
        it does not help.
    """
    onnxruntime = import_runtime("onnxruntime")
    if _probe_is_exact(onnxruntime, {}):
        return "exact"
    return "widened" if _probe_is_exact(onnxruntime, EXACT_INT8) else "saturating"


def open_session(
    model: bytes,
    *,
    threads: int = 1,
    integers: bool = True,
    optimize: bool = True,
    profile_prefix: Path | None = None,
    optimized_model: Path | None = None,
) -> Any:
    """Open a session on the CPU.

    Args:
        model: A serialized ``ModelProto``, weights included.
        threads: For the operators, at least 1.
        integers: Whether operators between DequantizeLinear and QuantizeLinear are fused into
            integer ones, as on a device. Otherwise they are computed in float on the quantized
            values: slower, and the same on every processor up to rounding.
        optimize: Whether the graph is optimized at all.
        profile_prefix: Start of the path of a profile of every node; None for no profile.
        optimized_model: Where the graph that is executed shall be written; None for nowhere.

    Returns:
        ``onnxruntime.InferenceSession``.

    Raises:
        Exception: ONNX Runtime refuses the model; its exception types share no other base.
        MissingExtra: ONNX Runtime is not installed.
    """
    if not is_installed():
        raise MissingExtra("onnx", "Running an .onnx model")
    onnxruntime = import_runtime("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = _FATAL  # errors are raised; no need to print them as well
    if not integers:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    elif int8_kernels() != "exact":
        for name, value in EXACT_INT8.items():
            options.add_session_config_entry(name, value)
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if profile_prefix is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile_prefix)
    if optimized_model is not None:
        options.optimized_model_filepath = str(optimized_model)
    return onnxruntime.InferenceSession(model, options, providers=_PROVIDERS)


def _probe_is_exact(onnxruntime: Any, entries: Mapping[str, str]) -> bool:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL
    for name, value in entries.items():
        options.add_session_config_entry(name, value)
    session = onnxruntime.InferenceSession(_PROBE, options, providers=_PROVIDERS)
    (found,) = session.run(None, {"x": _BRIGHT})
    return int(found.item()) >= _EXACT_RESULT
