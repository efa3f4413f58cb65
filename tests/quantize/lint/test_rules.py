import json
from typing import Any

import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_quantizer import default_policy
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from edgedf.quantize.lint.rules import ONNX, TFLITE, Node, onnx_rule, tflite_rule


def node(operator: str, *, inputs: int = 1, outputs: int = 1, **more: Any) -> Node:
    made = tuple(f"out{i}" for i in range(outputs))
    given: dict[str, Any] = {
        "absent": frozenset(),
        "constants": {},
        "fixed": frozenset(),
        "rank": 4,
        "attributes": {},
    }
    names = tuple(f"in{i}" for i in range(inputs))
    return Node(operator, made[0], names, made, frozenset((*names, *made)), **{**given, **more})


def test_integers_are_what_the_quantizer_makes_integers() -> None:
    policy = json.loads(default_policy.DEFAULT_JSON_POLICY)["ops_per_config"]["static_wi8_ai8"]
    named = {"CONV_2D_TRANSPOSE": "TRANSPOSE_CONV"}
    wanted = {named.get(name, name) for name in policy} - {"INPUT", "OUTPUT"}
    assert {name for name, rule in TFLITE.items() if rule.integer} == wanted


def test_every_name_is_an_operator() -> None:
    assert all(hasattr(schema.BuiltinOperator, name) for name in TFLITE)
    assert set(ONNX) <= {definition.name for definition in onnx.defs.get_all_schemas()}


def test_onnx_rules_follow_the_quantizer() -> None:
    # ONNX Runtime moves DepthToSpace, which changes no value, in between integers by itself.
    known = {*QDQRegistry, *QLinearOpsRegistry, "DepthToSpace"}
    for name, rule in ONNX.items():
        assert (name in known) == (rule.kind not in ("float", "maximum")), name


def test_whatever_is_wrong_has_a_remedy() -> None:
    for name, rule in TFLITE.items():
        assert bool(rule.remedy) != (rule.integer and rule.taken), name
        assert all(limit.what and limit.remedy for limit in rule.limits), name
    for name, onnx_entry in ONNX.items():
        assert onnx_entry.remedy or onnx_entry.kind in ("computes", "follows"), name
    assert tflite_rule("NO_SUCH").remedy
    assert onnx_rule("NoSuch").kind == "float"


WEIGHTS = frozenset({1, 2})
LIMITED: dict[str, tuple[Node, Node]] = {
    "inputs of a concatenation": (
        node("CONCATENATION", inputs=5),
        node("CONCATENATION", inputs=6),
    ),
    "parts": (node("SPLIT", outputs=4), node("SPLIT", outputs=5)),
    "steps": (
        node("STRIDED_SLICE", constants={3: np.array([1, 1])}),
        node("STRIDED_SLICE", constants={3: np.array([1, 2])}),
    ),
    "a dimension less": (
        node("STRIDED_SLICE", constants={3: np.array([1])}),
        node("STRIDED_SLICE", constants={3: np.array([1])}, attributes={"shrinkAxisMask": 1}),
    ),
    "pooling single pixels": (
        node("MAX_POOL_2D", attributes={"filterHeight": 2, "filterWidth": 2, "strideH": 2}),
        node("MAX_POOL_2D", attributes={"filterHeight": 1, "filterWidth": 1, "strideH": 2}),
    ),
    "bias": (node("CONV_2D", fixed=WEIGHTS), node("CONV_2D", fixed=frozenset({1}))),
    "computed weights": (
        node("FULLY_CONNECTED", fixed=WEIGHTS),
        node("FULLY_CONNECTED", inputs=2),
    ),
    "activation": (
        node("CONV_2D", fixed=WEIGHTS, attributes={"fusedActivationFunction": 3}),
        node("CONV_2D", fixed=WEIGHTS, attributes={"fusedActivationFunction": 4}),
    ),
    "epsilon": (
        node("ADD", constants={1: np.array([1.0])}),
        node("ADD", constants={1: np.array([1e-5])}),
    ),
    "dimensions": (node("RESHAPE", rank=6), node("RESHAPE", rank=7)),
}


@pytest.mark.parametrize("what", LIMITED)
def test_limits_of_the_delegate(what: str) -> None:
    good, bad = LIMITED[what]
    limits = tflite_rule(good.operator).limits
    assert not any(limit.when(good) for limit in limits)
    assert any(limit.when(bad) for limit in limits)
