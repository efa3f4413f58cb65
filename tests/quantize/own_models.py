"""Small ``.onnx`` detectors as somebody else would write them, without torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SIDE = 64
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)


def own_model(
    *,
    layout: Literal["NCHW", "NHWC"] = "NCHW",
    kind: int = TensorProto.FLOAT,
    batch: int | str = 1,
    side: int | str = SIDE,
    padded: bool = True,
    head: Literal["logit", "flat", "sigmoid", "two", "softmax"] = "logit",
    dense: Literal["NCHW", "NHWC", "flat"] = "NCHW",
    curve: Literal["relu", "silu"] = "relu",
    pool: Literal["global", "mean", "mean flat", "mean NHWC", "mean NHWC flat", "line"] = "global",
    names: tuple[str, str, str] = ("pixels", "score", "blur"),
    opset: int = 18,
    edit: Any = None,
) -> onnx.ModelProto:
    """A convolution of stride 4, a head with a mean over the picture, a map between 0 and 6.

    Args:
        layout: Of the input.
        kind: Its type; a model that takes bytes has its normalisation inside.
        batch: A number, or a word for an open one.
        side: Likewise.
        padded: Whether the first convolution pads with zeros.
        head: What comes out for the verdict.
        dense: Shape of the map.
        curve: Behind the first convolution.
        pool: How the mean over the picture is written.
        names: Of input, logit and map.
        opset: Version of the operators.
        edit: Called with the model before it is returned.
    """
    image, score, blur = names
    random = np.random.default_rng(3)
    two = head in ("two", "softmax")
    weights: dict[str, NDArray[Any]] = {
        "first.weight": random.normal(0, 0.2, (8, 3, 6, 6) if padded else (8, 3, 4, 4)),
        "first.bias": random.normal(0, 0.2, 8),
        "dense.weight": random.normal(0, 0.3, (1, 8, 1, 1)),
        "dense.bias": np.array([2.5]),
        "head.weight": random.normal(0, 1.0, (8, 2)) if two else random.normal(0, 2.0, (8, 1)),
        "head.bias": np.array([0.0, -2.0]) if two else np.array([4.2]),
    }
    shape = [batch, 3, side, side] if layout == "NCHW" else [batch, side, side, 3]
    nodes, at = [], image

    def add(operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, inputs, [output], f"n_{output}", **attributes))
        return output

    if kind == TensorProto.UINT8:
        at = add("Cast", [at], "floats", to=TensorProto.FLOAT)
    if layout == "NHWC":
        at = add("Transpose", [at], "planes", perm=[0, 3, 1, 2])
    if kind == TensorProto.UINT8:
        weights["scale"] = np.array(1 / 64)
        at = add("Mul", [at, "scale"], "scaled")
    pads = [1, 1, 1, 1] if padded else [0, 0, 0, 0]
    add("Conv", [at, "first.weight", "first.bias"], "conv", strides=[4, 4], pads=pads)
    if curve == "relu":
        add("Relu", ["conv"], "features")
    else:
        add("Mul", ["conv", add("Sigmoid", ["conv"], "gate")], "features")
    weights["low"], weights["high"] = np.array(0.0), np.array(6.0)
    add("Conv", ["features", "dense.weight", "dense.bias"], "raw")
    at = add("Clip", ["raw", "low", "high"], blur if dense == "NCHW" else "clipped")
    if dense == "NHWC":
        add("Transpose", [at], blur, perm=[0, 2, 3, 1])
    elif dense == "flat":
        weights["channel"] = np.array([1], np.int64)
        add("Squeeze", [at, "channel"], blur)
    if pool == "global":
        add("GlobalAveragePool", ["features"], "pooled")
    elif pool == "line":
        weights["rows"] = np.array([0, 8, -1], np.int64)
        weights["axes"] = np.array([-1], np.int64)
        add("Reshape", ["features", "rows"], "line")
        add("ReduceMean", ["line", "axes"], "pooled", keepdims=0)
    else:
        last = "NHWC" in pool
        at = add("Transpose", ["features"], "last", perm=[0, 2, 3, 1]) if last else "features"
        axes, keeps = [1, 2] if last else [-1, -2], int("flat" not in pool)
        weights["axes"] = np.array(axes, np.int64)
        if opset < 18:
            add("ReduceMean", [at], "pooled", axes=axes, keepdims=keeps)
        else:
            add("ReduceMean", [at, "axes"], "pooled", keepdims=keeps)
    add("Flatten", ["pooled"], "flat")
    plain = head in ("logit", "two")
    at = add("Gemm", ["flat", "head.weight", "head.bias"], score if plain else "verdict")
    if head == "sigmoid":
        add("Sigmoid", [at], score)
    elif head == "softmax":
        add("Softmax", [at], score, axis=1)
    elif head == "flat":
        weights["one"] = np.array([-1], np.int64)
        add("Reshape", [at, "one"], score)
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info(image, kind, shape)],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [f"{name}{i}" for i in range(n)])
            for name, n in (
                (score, 1 if head == "flat" else 2),
                (blur, 3 if dense == "flat" else 4),
            )
        ],
        [
            numpy_helper.from_array(v if v.dtype == np.int64 else v.astype(np.float32), name)
            for name, v in weights.items()
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 9
    if edit is not None:
        edit(model)
    return model


def with_head(
    *steps: tuple[Any, ...], **constants: float | list[int] | list[list[float]]
) -> Callable[[onnx.ModelProto], None]:
    """An edit of :func:`own_model`: operators behind its score.

    Args:
        steps: An operator each: its name, its inputs in one text where ``<`` is what the operator
            before it makes, perhaps its attributes.
        constants: Of float32, by name; of int64 where they are lists of whole numbers.
    """

    def edit(model: onnx.ModelProto) -> None:
        node = next(node for node in model.graph.node if node.output[0] == "score")
        before = node.output[0] = "in_front"
        for name, value in constants.items():
            array = np.asarray(value)
            kind = array.dtype if array.dtype == np.int64 else np.float32
            model.graph.initializer.append(numpy_helper.from_array(array.astype(kind), name))
        for number, (operator, inputs, *attributes) in enumerate(steps, 1):
            after = "score" if number == len(steps) else f"behind_{number}"
            names = [before if name == "<" else name for name in inputs.split()]
            options = attributes[0] if attributes else {}
            model.graph.node.append(helper.make_node(operator, names, [after], **options))
            before = after

    return edit
