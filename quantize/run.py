"""Running a model held in memory, through the runtime that phones will use.

The runtime package opens files for an app; the stages here need the same runtimes on bytes that
are not on disk yet.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from edgedf.quantize.describe import INPUT_NAME, OUTPUT_NAMES
from numpy.typing import NDArray

from edgedf.artifact import ModelFormat
from edgedf.errors import ArtifactUnreadable, MissingExtra

__all__ = ["Outputs", "Run", "open_model"]

Outputs = dict[str, NDArray[np.float32]]
Run = Callable[[NDArray[np.uint8]], Outputs]
"""uint8 RGB (1, N, N, 3) → ``fake_logit`` (1, 1) and ``defocus_map`` (1, N/4, N/4, 1)."""


def open_model(model: bytes, model_format: ModelFormat, *, threads: int = 2) -> Run:
    """Load a model and give the function that runs it.

    Args:
        model: A ``.tflite`` or ``.onnx`` file.
        model_format: Which of the two.
        threads: For the runtime.

    Raises:
        ArtifactUnreadable: The runtime does not accept it, or it has other inputs or outputs.
        MissingExtra: The runtime is not installed.
    """
    opener = _open_tflite if model_format == "tflite" else _open_onnx
    try:
        return opener(model, threads)
    except ImportError as error:
        raise MissingExtra("convert", f"Running a .{model_format} model") from error
    except (ValueError, RuntimeError) as error:
        raise _refused(model_format, str(error)) from error


def _open_tflite(model: bytes, threads: int) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model, num_threads=threads)
    signatures = interpreter.get_signature_list()
    if not any(_is_ours(s["inputs"], s["outputs"]) for s in signatures.values()):
        raise ValueError(f"its signatures are {signatures}")
    runner = interpreter.get_signature_runner(next(iter(signatures)))

    def run(image: NDArray[np.uint8]) -> Outputs:
        outputs = runner(**{INPUT_NAME: image})
        # The interpreter reuses its buffers at the next call.
        return {name: np.array(outputs[name]) for name in OUTPUT_NAMES}

    return run


def _open_onnx(model: bytes, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exception types share no public base but Exception
        raise ValueError(str(error).splitlines()[0]) from error
    inputs = [tensor.name for tensor in session.get_inputs()]
    outputs = [tensor.name for tensor in session.get_outputs()]
    if not _is_ours(inputs, outputs):
        raise ValueError(f"its inputs are {inputs}, its outputs {outputs}")

    def run(image: NDArray[np.uint8]) -> Outputs:
        return dict(
            zip(OUTPUT_NAMES, session.run(list(OUTPUT_NAMES), {INPUT_NAME: image}), strict=True)
        )

    return run


def _is_ours(inputs: list[str], outputs: list[str]) -> bool:
    return inputs == [INPUT_NAME] and sorted(outputs) == sorted(OUTPUT_NAMES)


def _refused(model_format: str, reason: str) -> ArtifactUnreadable:
    return ArtifactUnreadable(
        f"The .{model_format} model cannot be run: {reason}.",
        expected=f"a model with input {INPUT_NAME} and outputs {' and '.join(OUTPUT_NAMES)}",
        next_step="copy or download it again, or export it again",
    )
