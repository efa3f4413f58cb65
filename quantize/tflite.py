"""Float ``.tflite`` → int8 or float16, with ai-edge-quantizer; neither torch nor TensorFlow.

int8 is static and full-integer: int8 activations, int8 weights with one scale per output channel,
int32 biases. Between the uint8 input and the float32 outputs only a CAST and a QUANTIZE at the
beginning and a DEQUANTIZE per output are not int8.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from edgedf.quantize.describe import INPUT_NAME
from edgedf.quantize.progress import Progress, silent
from numpy.typing import NDArray

from edgedf.artifact import strip_tflite
from edgedf.errors import ArtifactUnreadable, MissingExtra

__all__ = ["output_quantization", "to_fp16", "to_int8"]

FP16_OPERATORS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


def to_int8(
    model: bytes, images: Sequence[NDArray[np.uint8]], *, progress: Progress = silent
) -> bytes:
    """Quantize weights and activations to int8.

    The range of each activation is the smallest and largest value it takes on ``images``
    (min/max). The library's default, a moving average with factor 0.95 per image, starts from
    the first image and never gets far from it: a 1 x 1 logit comes out useless. The range of the
    input is not measured but set to 0 to 255, so that its scale is exactly 1.

    Args:
        model: A float ``.tflite`` of ours; a spec in it is dropped.
        images: Calibration images, each uint8 RGB (N, N, 3).
        progress: Told about each image.

    Returns:
        The int8 flatbuffer, without a spec.

    Raises:
        ArtifactUnreadable: The flatbuffer is damaged.
        MissingExtra: ai-edge-quantizer is not installed.
    """
    quantizer_module = _quantizer()
    from ai_edge_quantizer import calibrator, recipe, recipe_manager
    from ai_edge_quantizer.utils import qsv_utils

    model = strip_tflite(model)
    rules = recipe.static_wi8_ai8()
    rules.append({"regex": ".*", "operation": "OUTPUT", "algorithm_key": "no_quantize"})
    manager = recipe_manager.RecipeManager()
    manager.load_quantization_recipe(rules)
    with warnings.catch_warnings():
        # Calibration is exactly the debugging purpose that this warning allows.
        warnings.filterwarnings("ignore", message=".*experimental_preserve_all_tensors.*")
        observer = calibrator.Calibrator(
            model, num_threads=2, qsv_update_func=qsv_utils.min_max_update
        )
    signature = _flatbuffer(model).signatureDefs[0].signatureKey.decode()
    for index, image in enumerate(images):
        observer.calibrate({signature: [{INPUT_NAME: image[np.newaxis]}]}, manager)
        progress("calibrate tflite", index + 1, len(images))
    ranges = observer.get_model_qsvs()
    for name in _cast_inputs(model):
        ranges[name] = {
            "min": np.zeros_like(ranges[name]["min"]),
            "max": np.full_like(ranges[name]["max"], 255.0),
        }
    quantizer = quantizer_module.Quantizer(model, rules)
    return bytes(quantizer.quantize(ranges).quantized_model)


def to_fp16(model: bytes) -> bytes:
    """Store the weights as float16; arithmetic stays float32 unless a delegate chooses otherwise.

    Args:
        model: A float ``.tflite`` of ours; a spec in it is dropped.

    Returns:
        The flatbuffer, without a spec.

    Raises:
        ArtifactUnreadable: The flatbuffer is damaged.
        MissingExtra: ai-edge-quantizer is not installed.
    """
    quantizer_module = _quantizer()
    from ai_edge_quantizer import qtyping

    model = strip_tflite(model)
    _flatbuffer(model)
    quantizer = quantizer_module.Quantizer(model)
    config = qtyping.OpQuantizationConfig(
        weight_tensor_config=qtyping.TensorQuantizationConfig(
            num_bits=16, dtype=qtyping.TensorDataType.FLOAT
        ),
        compute_precision=qtyping.ComputePrecision.FLOAT,
        explicit_dequantize=True,
    )
    for operator in FP16_OPERATORS:
        quantizer.update_quantization_recipe(
            ".*",
            qtyping.TFLOperationName(operator),
            config,
            quantizer_module.AlgorithmName.FLOAT_CASTING,
        )
    return bytes(quantizer.quantize().quantized_model)


def output_quantization(model: bytes) -> Mapping[str, tuple[float, int]]:
    """Scale and zero point of the int8 tensor behind each float output.

    Args:
        model: An int8 ``.tflite`` from :func:`to_int8`.

    Returns:
        ``{output name: (scale, zero point)}``.
    """
    flatbuffer = _flatbuffer(strip_tflite(model))
    graph = flatbuffer.subgraphs[0]
    producer = {int(op.outputs[0]): int(op.inputs[0]) for op in graph.operators}
    found = {}
    for entry in flatbuffer.signatureDefs[0].outputs:
        quantization = graph.tensors[producer[entry.tensorIndex]].quantization
        found[entry.name.decode()] = (
            float(quantization.scale[0]),
            int(quantization.zeroPoint[0]),
        )
    return found


def _quantizer() -> Any:
    try:
        from ai_edge_quantizer import quantizer
    except ImportError as error:
        raise MissingExtra("convert", "Quantizing a .tflite model") from error
    return quantizer


def _flatbuffer(model: bytes) -> Any:
    from ai_edge_quantizer.utils import tfl_flatbuffer_utils

    try:
        return tfl_flatbuffer_utils.read_model(model)
    except Exception as error:  # whatever a damaged table of offsets leads to
        raise ArtifactUnreadable(
            "The .tflite model is damaged.",
            expected="a float .tflite written by edgedf",
            next_step="copy or download it again, or export it again",
        ) from error


def _cast_inputs(model: bytes) -> list[str]:
    """Names of the float tensors that are the model's uint8 input, cast and nothing else."""
    graph = _flatbuffer(model).subgraphs[0]
    return [
        graph.tensors[op.outputs[0]].name.decode()
        for op in graph.operators
        if list(op.inputs) == list(graph.inputs)
    ]
