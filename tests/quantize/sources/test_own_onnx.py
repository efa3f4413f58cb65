from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedf.artifact import MAX_MODEL_BYTES, read_artifact
from edgedf.errors import ArtifactUnreadable, ConfigError, EdgedfError, SpecMismatch, SpecMissing
from edgedf.formats.onnx.container import embed as embed_onnx
from edgedf.precision import PrecisionName
from edgedf.quantize.conversion.convert import convert
from edgedf.quantize.making.keep import Keep
from edgedf.quantize.models.run import open_model
from edgedf.quantize.recipe import Recipe
from edgedf.quantize.sources import own_onnx as adopt_module
from edgedf.quantize.sources.description import Description
from edgedf.quantize.sources.own_onnx import adopt
from edgedf.quantize.sources.source import load_source
from edgedf.result import sigmoid
from edgedf.runtime.detector import Detector
from tests.contract.specs import make_spec
from tests.formats.stages import onnx as onnx_stage
from tests.quantize.own_models import MEAN, SIDE, STD, own_model, with_head
from tests.quantize.students import photographs, small_images

FLOATS = Description(mean=MEAN, std=STD, licence="mine")
BYTES = Description()


def written(folder: Path, model: onnx.ModelProto) -> Path:
    path = folder / "own.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def operators(model: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_model_from_string(model).graph.node]


def with_identity(model: onnx.ModelProto) -> None:
    """As TensorFlow's exporter leaves it: a change of shape and an Identity behind the sigmoid."""
    node = next(node for node in model.graph.node if node.output[0] == "score")
    node.output[0] = "probability"
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 1]), "to"))
    model.graph.node.extend(
        [
            helper.make_node("Reshape", ["probability", "to"], ["shaped"]),
            helper.make_node("Identity", ["shaped"], ["score"]),
        ]
    )


def weights_as_inputs(model: onnx.ModelProto) -> None:
    """As exporters wrote it before format version 4, and some still do."""
    model.ir_version = 3
    model.graph.input.extend(
        helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        for tensor in model.graph.initializer
    )


def weights_as_nodes(model: onnx.ModelProto) -> None:
    constants = [
        helper.make_node("Constant", [], [tensor.name], value=tensor)
        for tensor in model.graph.initializer
    ]
    nodes = [*constants, *model.graph.node]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.node.extend(nodes)


def both_domains(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("ai.onnx", model.opset_import[0].version))
    model.graph.node[0].domain = "ai.onnx"


def in_front(*steps: tuple[str, Any]) -> Callable[[onnx.ModelProto], None]:
    """An edit: operators between the input and the first convolution, each with its constants."""

    def edit(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            node.input[:] = [f"in_{len(steps)}" if n == "pixels" else n for n in node.input]
        nodes = []
        for number, (operator, constants) in enumerate(steps, 1):
            names = [f"in_{number}_{place}" for place in range(len(constants))]
            model.graph.initializer.extend(
                numpy_helper.from_array(np.asarray(values, np.float32), name)
                for name, values in zip(names, constants, strict=True)
            )
            before = "pixels" if number == 1 else f"in_{number - 1}"
            nodes.append(helper.make_node(operator, [before, *names], [f"in_{number}"]))
        nodes += model.graph.node
        del model.graph.node[:]
        model.graph.node.extend(nodes)

    return edit


CHANNELS = (1, 3, 1, 1)
NORMALISED_INSIDE = in_front(
    ("Sub", [np.full(CHANNELS, 0.1)]), ("Div", [np.reshape([1.2, 1.1, 1.3], CHANNELS)])
)
BATCH_NORM_FIRST = in_front(
    ("BatchNormalization", [[1.1, 1, 0.9], [0.1, 0, -0.1], [0.3, 0.2, 0.1], [1.2, 1, 0.9]])
)


def halves(*, ends: bool) -> Callable[[onnx.ModelProto], None]:
    """An edit: float16, with float32 at the ends and Casts behind them, or whole."""

    def edit(model: onnx.ModelProto) -> None:
        graph = model.graph
        for tensor in graph.initializer:
            if tensor.data_type == TensorProto.FLOAT:
                values = numpy_helper.to_array(tensor).astype(np.float16)
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        if not ends:
            for value in (*graph.input, *graph.output):
                value.type.tensor_type.elem_type = TensorProto.FLOAT16
            return
        names = {name: f"{name}_half" for name in ("pixels", "score", "blur")}
        for node in graph.node:
            node.input[:] = [names.get(name, name) for name in node.input]
            node.output[:] = [names.get(name, name) for name in node.output]
        cast = [
            helper.make_node("Cast", ["pixels"], ["pixels_half"], to=TensorProto.FLOAT16),
            *graph.node,
            helper.make_node("Cast", ["score_half"], ["score"], to=TensorProto.FLOAT),
            helper.make_node("Cast", ["blur_half"], ["blur"], to=TensorProto.FLOAT),
        ]
        del graph.node[:]
        graph.node.extend(cast)

    return edit


def nameless(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        node.name = ""


def one_name_for_all(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        node.name = "node"


SHAPES: dict[str, tuple[dict[str, Any], Description]] = {
    "planes": ({}, FLOATS),
    "planes, nothing padded": ({"padded": False}, FLOATS),
    "channels last": ({"layout": "NHWC", "dense": "NHWC"}, FLOATS),
    "bytes": ({"kind": TensorProto.UINT8, "layout": "NHWC"}, BYTES),
    "bytes in planes": ({"kind": TensorProto.UINT8}, BYTES),
    "a score": ({"head": "sigmoid"}, FLOATS),
    "two logits": ({"head": "two"}, FLOATS),
    "two scores": ({"head": "softmax"}, FLOATS),
    "flat outputs": ({"head": "flat", "dense": "flat"}, FLOATS),
    "open batch and size": (
        {"batch": "N", "side": "S"},
        Description(mean=MEAN, std=STD, size=SIDE),
    ),
    "our names": ({"names": ("image", "fake_logit", "defocus_map")}, FLOATS),
    "old operators": ({"opset": 13}, FLOATS),
    "weights as inputs": ({"edit": weights_as_inputs, "opset": 13}, FLOATS),
    "weights as nodes": ({"edit": weights_as_nodes}, FLOATS),
    "both names of a domain": ({"edit": both_domains}, FLOATS),
    "nodes without a name": ({"edit": nameless}, FLOATS),
    "normalised inside": ({"edit": NORMALISED_INSIDE}, FLOATS),
    "batch normalisation first": ({"edit": BATCH_NORM_FIRST}, FLOATS),
    "a mean": ({"pool": "mean"}, FLOATS),
    "a mean without axes": ({"pool": "mean flat"}, FLOATS),
    "a mean, old operators": ({"pool": "mean", "opset": 13}, FLOATS),
    "a mean, channels last": ({"pool": "mean NHWC", "opset": 13}, FLOATS),
    "a mean without axes, channels last": ({"pool": "mean NHWC flat"}, FLOATS),
    "a mean over a line of pixels": ({"pool": "line"}, FLOATS),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_a_model_says_the_same_with_our_inputs_and_outputs(kind: str, tmp_path: Path) -> None:
    options, description = SHAPES[kind]
    proto = own_model(**options)
    made = adopt(written(tmp_path, proto), description)
    run = open_model(made.model, "onnx", made.spec)
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    for image in small_images()[:3]:
        given: Any = image
        if options.get("kind") != TensorProto.UINT8:
            given = ((image - np.array(MEAN)) / np.array(STD)).astype(np.float32)
        if options.get("layout") != "NHWC":
            given = given.transpose(2, 0, 1)
        logit, dense = session.run(None, {session.get_inputs()[0].name: given[None]})
        logit = np.log(logit) if options.get("head") == "softmax" else logit
        if options.get("head") == "sigmoid":
            logit = np.log(logit / (1 - logit))
        wanted = np.diff(logit).item() if logit.size == 2 else logit.item()
        found = run(image)
        assert found["fake_logit"].item() == pytest.approx(wanted, abs=2e-3)
        np.testing.assert_allclose(found["defocus_map"], dense.reshape(16, 16), atol=2e-3)
        assert made.original(image)["fake_logit"].item() == pytest.approx(wanted, abs=2e-3)


def test_a_sigmoid_is_found_behind_changes_of_shape(tmp_path: Path) -> None:
    plain = adopt(written(tmp_path, own_model()), FLOATS)
    turned = adopt(written(tmp_path, own_model(head="sigmoid", edit=with_identity)), FLOATS)
    image = small_images()[0]
    wanted = plain.original(image)["fake_logit"]
    run = open_model(turned.model, "onnx", turned.spec)
    np.testing.assert_allclose(run(image)["fake_logit"], wanted, atol=1e-3)
    assert "Sigmoid" not in operators(turned.model)


@pytest.mark.parametrize("edit", [NORMALISED_INSIDE, BATCH_NORM_FIRST])
def test_constants_are_added_and_multiplied_with_in_integers(edit: Any, tmp_path: Path) -> None:
    report = convert(
        written(tmp_path, own_model(edit=edit)),
        describe=FLOATS,
        calibration=photographs(),
        out=tmp_path,
        keep_failing=True,
    )
    (model,) = report.models
    assert model.float_operators == ()
    assert {"Sub", "Div", "BatchNormalization"}.isdisjoint(model.operators)


@pytest.mark.parametrize("ends", [True, False])
def test_float16_becomes_float32(ends: bool, tmp_path: Path) -> None:
    plain = adopt(written(tmp_path, own_model()), FLOATS)
    made = adopt(written(tmp_path, own_model(edit=halves(ends=ends))), FLOATS)
    # Nothing is cast between input and normalisation, which goes into the first convolution.
    assert operators(made.model)[:4] == operators(plain.model)[:4]
    kinds = {t.data_type for t in onnx.load_model_from_string(made.model).graph.initializer}
    assert TensorProto.FLOAT16 not in kinds
    image = small_images()[0]
    wanted, found = plain.original(image)["fake_logit"], made.original(image)["fake_logit"]
    assert found == pytest.approx(wanted, abs=0.05)


def test_only_weights_are_rounded_where_weights_are_int8(tmp_path: Path) -> None:
    """The mean that is added is a tensor of several dimensions, and was rounded to whole levels."""
    made = adopt(written(tmp_path, own_model()), FLOATS)
    graph = onnx.load_model_from_string(onnx_stage.to_int8_weights(made.model)).graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    (added,) = (node for node in graph.node if node.op_type == "Add")
    np.testing.assert_array_equal(stored[added.input[1]].ravel(), np.float32(MEAN) * -1)
    assert stored["first.weight_int8"].dtype == np.int8


def test_a_softmax_over_another_axis_is_none_of_two_classes(tmp_path: Path) -> None:
    proto = own_model(head="two", edit=with_head(("Softmax", "<", {"axis": 0})))
    with pytest.raises(SpecMismatch, match="from 1 to 1"):
        adopt(written(tmp_path, proto), FLOATS)


def test_the_other_class_turns_the_logit_round(tmp_path: Path) -> None:
    path = written(tmp_path, own_model(head="two"))
    image = small_images()[0]
    logits = []
    for fake_class in (0, 1):
        made = adopt(path, Description(mean=MEAN, std=STD, fake_class=fake_class))
        logits.append(open_model(made.model, "onnx", made.spec)(image)["fake_logit"].item())
    assert logits[0] == pytest.approx(-logits[1], abs=1e-4)
    assert logits[0] != 0


# What a score is made of

SIGMOID = ("Sigmoid", "<")
CURVES: dict[str, dict[str, Any]] = {
    "one minus a sigmoid": {"edit": with_head(SIGMOID, ("Sub", "one <"), one=1.0)},
    "a clipped line": {"edit": with_head(("HardSigmoid", "<"))},
    "half of tanh and one": {
        "edit": with_head(("Tanh", "<"), ("Add", "< one"), ("Mul", "< half"), one=1.0, half=0.5)
    },
    "a mean of sigmoids": {
        "edit": with_head(
            ("Mul", "< factors"),
            SIGMOID,
            ("ReduceMean", "< last", {"keepdims": 1}),
            factors=[[1.0, 2.0, 3.0]],
            last=[1],
        )
    },
    "a sigmoid cut off early": {
        "edit": with_head(SIGMOID, ("Clip", "< low_end high_end"), low_end=0.2, high_end=0.8)
    },
    "two shares": {
        "head": "two",
        "edit": with_head(("Exp", "<"), ("LpNormalization", "<", {"p": 1, "axis": 1})),
    },
}
"""Probabilities that are not made by a last sigmoid or softmax alone."""


def probability(proto: onnx.ModelProto, image: Any) -> float:
    """What the file as it was says, by the value of fakes."""
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    given = ((image - np.array(MEAN)) / np.array(STD)).astype(np.float32).transpose(2, 0, 1)
    return float(session.run(["score"], {"pixels": given[None]})[0].ravel()[-1])


@pytest.mark.parametrize("curve", CURVES)
def test_a_probability_is_not_taken_for_a_logit(curve: str, tmp_path: Path) -> None:
    """Every picture would be fake: a score of at least sigmoid(0)."""
    path = written(tmp_path, own_model(**CURVES[curve]))
    with pytest.raises(SpecMismatch, match="a probability rather than a logit") as caught:
        adopt(path, FLOATS)
    assert "output = 'probability'" in (caught.value.next_step or "")
    # Who insists is believed.
    assert adopt(path, replace(FLOATS, output="logit")).spec.name == "own"


@pytest.mark.parametrize("fake_class", [0, 1])
@pytest.mark.parametrize("curve", CURVES)
def test_a_probability_becomes_a_logit(curve: str, fake_class: int, tmp_path: Path) -> None:
    proto = own_model(**CURVES[curve])
    description = replace(FLOATS, output="probability", fake_class=fake_class)
    made = adopt(written(tmp_path, proto), description)
    run = open_model(made.model, "onnx", made.spec)
    for image in small_images()[:4]:
        wanted = probability(proto, image)
        wanted = wanted if fake_class == 1 else 1 - wanted
        for found in (run(image), made.original(image)):
            assert sigmoid(found["fake_logit"].item()) == pytest.approx(wanted, abs=4e-4)


@pytest.mark.parametrize("precision", ["int8", "int8-a16", "int8-weights", "fp16"])
@pytest.mark.parametrize("curve", ["one minus a sigmoid", "a mean of sigmoids", "two shares"])
def test_the_logit_of_a_probability_stays_in_float(
    curve: str, precision: PrecisionName, tmp_path: Path
) -> None:
    proto, is_int8 = own_model(**CURVES[curve]), precision == "int8"
    report = convert(
        written(tmp_path, proto),
        describe=replace(FLOATS, output="probability"),
        recipe=Recipe(precision, equalize=is_int8, correct_biases=is_int8),
        calibration=photographs(),
        out=tmp_path,
        keep_failing=True,
    )
    (model,) = report.models
    assert model.misplaced == model.float_operators == ()
    run = Detector(model.path).detect
    errors = [abs(run(image).score - probability(proto, image)) for image in small_images()[:6]]
    assert max(errors) < 0.05


def test_a_clip_that_leaves_the_scores_hides_no_sigmoid(tmp_path: Path) -> None:
    ends = {"low_end": 1e-6, "high_end": 1 - 1e-6}
    clipped = own_model(edit=with_head(SIGMOID, ("Clip", "< low_end high_end"), **ends))
    made = adopt(written(tmp_path, clipped), FLOATS)
    plain = adopt(written(tmp_path, own_model()), FLOATS)
    image = small_images()[0]
    np.testing.assert_allclose(
        made.original(image)["fake_logit"], plain.original(image)["fake_logit"], atol=1e-5
    )
    assert "Log" not in operators(made.model)


def test_one_value_may_be_that_of_reals(tmp_path: Path) -> None:
    image = small_images()[0]
    for head in ("logit", "sigmoid"):
        path = written(tmp_path, own_model(head=head))  # type: ignore[arg-type]
        logits = []
        for fake_class in (0, 1):
            made = adopt(path, replace(FLOATS, fake_class=fake_class))
            logits.append(open_model(made.model, "onnx", made.spec)(image)["fake_logit"].item())
        assert logits[0] == pytest.approx(-logits[1], abs=1e-4)


def test_one_share_of_a_softmax_is_a_probability(tmp_path: Path) -> None:
    proto = own_model(head="softmax", edit=half_of_it)
    made = adopt(written(tmp_path, proto), replace(FLOATS, output="probability"))
    image = small_images()[0]
    wanted = probability(proto, image)
    assert sigmoid(made.original(image)["fake_logit"].item()) == pytest.approx(wanted, abs=4e-4)


WRONG_OUTPUTS: dict[str, tuple[dict[str, Any], Any, str]] = {
    "a logit called a probability": ({}, "probability", "described as a probability"),
    "a score called a logit": ({"head": "sigmoid"}, "logit", "made by a sigmoid"),
    "two that do not add up": (
        {"head": "two", "edit": with_head(SIGMOID, ("Mul", "< half"), half=0.5)},
        "probability",
        "do not add up",
    ),
}


@pytest.mark.parametrize("wrong", WRONG_OUTPUTS)
def test_an_output_has_to_be_what_it_is_called(wrong: str, tmp_path: Path) -> None:
    options, output, said = WRONG_OUTPUTS[wrong]
    with pytest.raises(SpecMismatch, match=said):
        adopt(written(tmp_path, own_model(**options)), replace(FLOATS, output=output))


def test_normalisation_goes_into_the_first_convolution(tmp_path: Path) -> None:
    bare = adopt(written(tmp_path, own_model(padded=False)), FLOATS)
    assert {"Add", "Mul", "Sub", "Div"}.isdisjoint(operators(bare.model))
    padded = adopt(written(tmp_path, own_model()), FLOATS)
    # The zeros that the convolution pads with stand for the mean, so that has to go before.
    assert operators(padded.model).count("Add") == 1
    assert "Mul" not in operators(padded.model)


def test_what_the_graph_does_not_say_is_in_the_spec(tmp_path: Path) -> None:
    description = Description(name="mine", version="3", licence="MIT", mean=MEAN, std=STD)
    spec = adopt(written(tmp_path, own_model()), description).spec
    assert (spec.name, spec.version, spec.licence) == ("mine", "3", "MIT")
    assert spec.input.mean == MEAN
    assert (spec.threshold.fake_at, spec.threshold.how) == (0.5, "by default; not calibrated")
    assert adopt(tmp_path / "own.onnx", FLOATS).spec.name == "own"


OTHER_FORMS: dict[str, dict[str, Any]] = {
    "two logits": {"head": "two"},
    "weights as inputs": {"edit": weights_as_inputs, "opset": 13},
    "weights as nodes": {"edit": weights_as_nodes},
    "both names of a domain": {"edit": both_domains},
    "nodes without a name": {"edit": nameless},
    "nodes of one name": {"edit": one_name_for_all},
    "a mean": {"pool": "mean"},
    "a mean, channels last": {"pool": "mean NHWC flat", "opset": 17},
    "a mean over a line of pixels": {"pool": "line"},
    "float16 inside": {"head": "sigmoid", "edit": halves(ends=True)},
    "float16": {"edit": halves(ends=False)},
}


@pytest.mark.parametrize("form", OTHER_FORMS)
def test_it_is_quantized_like_one_of_ours(form: str, tmp_path: Path) -> None:
    report = convert(
        written(tmp_path, own_model(**OTHER_FORMS[form])),
        describe=FLOATS,
        calibration=photographs(),
        out=tmp_path,
    )
    report.raise_if_failed()
    (model,) = report.models
    assert model.path.name == "own_int8.onnx"
    assert model.float_operators == ()
    assert report.comparisons[0].reference == "the model as it was"
    assert read_artifact(model.path).spec.licence == "mine"


@pytest.mark.parametrize("keep", ["fp32:first", "fp32:gate", "fp32:features", "int8-a16:head"])
def test_layers_are_kept_whatever_onnx_runtime_makes_of_them(keep: str, tmp_path: Path) -> None:
    report = convert(
        written(tmp_path, own_model(curve="silu")),
        describe=FLOATS,
        recipe=Recipe(keep=(Keep.parse(keep),)),
        calibration=photographs(),
        out=tmp_path,
    )
    report.raise_if_failed()
    (model,) = report.models
    assert (model.float_operators, model.kept_in_vain) == ((), ())
    assert sum(model.kept_operators.values()) > 1


# Models that cannot be used


def external(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../etc/passwd")


def external_in_an_attribute(model: onnx.ModelProto) -> None:
    tensor = numpy_helper.from_array(np.zeros(3, np.float32), "secret")
    external_tensor = TensorProto()
    external_tensor.CopyFrom(tensor)
    external_tensor.ClearField("raw_data")
    external_tensor.data_location = TensorProto.EXTERNAL
    external_tensor.external_data.add(key="location", value="/etc/passwd")
    model.graph.node.append(helper.make_node("Constant", [], ["unused"], value=external_tensor))


def own_operator(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("acme", 1))
    model.graph.node[1].domain = "acme"


def two_opsets(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("ai.onnx", 17))


def quantized(model: onnx.ModelProto) -> None:
    model.graph.node.append(
        helper.make_node("DynamicQuantizeLinear", ["features"], ["a", "b", "c"])
    )


def two_inputs(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))


def one_output(model: onnx.ModelProto) -> None:
    del model.graph.output[1]


def large_map(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        if tensor.name == "high":
            tensor.CopyFrom(numpy_helper.from_array(np.array(255, np.float32), "high"))
        if tensor.name == "dense.bias":
            tensor.CopyFrom(numpy_helper.from_array(np.array([90], np.float32), "dense.bias"))


def no_such_tensor(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[1] = "nowhere"


def half_of_it(model: onnx.ModelProto) -> None:
    node = next(node for node in model.graph.node if node.output[0] == "score")
    node.output[0] = "both"
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "fakes"))
    model.graph.node.append(helper.make_node("Gather", ["both", "fakes"], ["score"], axis=1))


def doubles_out(model: onnx.ModelProto) -> None:
    node = next(node for node in model.graph.node if node.output[0] == "score")
    node.output[0] = "single"
    model.graph.node.append(helper.make_node("Cast", ["single"], ["score"], to=TensorProto.DOUBLE))
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE


FAULTS: dict[str, tuple[dict[str, Any], Description, type[EdgedfError], str]] = {
    "weights elsewhere": ({"edit": external}, FLOATS, ArtifactUnreadable, "another file"),
    "a constant elsewhere": (
        {"edit": external_in_an_attribute},
        FLOATS,
        ArtifactUnreadable,
        "another file",
    ),
    "custom operator": ({"edit": own_operator}, FLOATS, ArtifactUnreadable, "acme"),
    "quantized already": ({"edit": quantized}, FLOATS, ArtifactUnreadable, "DynamicQuantize"),
    "old opset": ({"opset": 12}, FLOATS, ArtifactUnreadable, "opset 12"),
    "two opsets": ({"edit": two_opsets}, FLOATS, ArtifactUnreadable, "opset 17 and 18"),
    "no such tensor": ({"edit": no_such_tensor}, FLOATS, ArtifactUnreadable, "nowhere"),
    "two inputs": ({"edit": two_inputs}, FLOATS, SpecMismatch, "more float"),
    "doubles": ({"kind": TensorProto.DOUBLE}, FLOATS, EdgedfError, "own.onnx"),
    "several pictures": ({"batch": 4}, FLOATS, SpecMismatch, "4, 3, 64, 64"),
    "one of two scores": (
        {"head": "softmax", "edit": half_of_it},
        FLOATS,
        SpecMismatch,
        "part of a softmax",
    ),
    "a double": ({"edit": doubles_out}, FLOATS, SpecMismatch, "must be the fake_logit"),
    "odd size": ({"side": 63}, FLOATS, SpecMismatch, "63"),
    "one output": ({"edit": one_output}, FLOATS, SpecMismatch, "score"),
    "map in other units": ({"edit": large_map}, FLOATS, SpecMismatch, "goes from"),
    "outputs swapped": (
        {"names": ("x", "defocus_map", "fake_logit")},
        FLOATS,
        SpecMismatch,
        r"fake_logit \[1, 1, 16, 16\]",
    ),
    "no such output": (
        {},
        Description(mean=MEAN, std=STD, fake_logit="verdict"),
        SpecMismatch,
        "'verdict'",
    ),
    "floats without normalisation": ({}, BYTES, ConfigError, "how they are made from bytes"),
    "bytes with normalisation": (
        {"kind": TensorProto.UINT8},
        FLOATS,
        ConfigError,
        "inside it already",
    ),
    "open size": ({"side": "S"}, FLOATS, ConfigError, "leaves the size"),
    "another size": (
        {},
        Description(mean=MEAN, std=STD, size=128),
        ConfigError,
        "size = 128",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_model_that_cannot_be_used_is_refused(fault: str, tmp_path: Path) -> None:
    options, description, error, said = FAULTS[fault]
    path = written(tmp_path, own_model(**options))
    with pytest.raises(error, match=said) as caught:
        adopt(path, description)
    assert caught.value.expected
    assert caught.value.next_step


DAMAGED: dict[str, Callable[[bytes], bytes]] = {
    "cut off": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "text": lambda data: b"not a model at all",
    "ours": lambda data: embed_onnx(data, make_spec()),
    "an operator whose name is no text": lambda data: data.replace(b"Gemm", b"G\xffmm"),
    "a weight whose name is no text": lambda data: data.replace(b"head.w", b"head\xffw"),
    "a node whose name is no text": lambda data: data.replace(b"n_flat", b"n\xffflat"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file_is_refused(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "own.onnx"
    path.write_bytes(DAMAGED[damage](own_model().SerializeToString()))
    with pytest.raises(ArtifactUnreadable, match=r"own\.onnx|a name that is no text"):
        adopt(path, FLOATS)


def test_a_huge_file_is_not_even_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "own.onnx"
    with path.open("wb") as stream:
        stream.truncate(MAX_MODEL_BYTES + 1)  # sparse
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("was read"))
    with pytest.raises(ArtifactUnreadable, match="MB"):
        adopt(path, FLOATS)


def test_a_wrong_translation_would_be_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = adopt_module.contract_graph

    def forgetting_the_mean(proto: Any, ends: Any) -> None:
        ends.normalisation = ((0.0, 0.0, 0.0), ends.normalisation[1])
        real(proto, ends)

    monkeypatch.setattr(adopt_module, "contract_graph", forgetting_the_mean)
    with pytest.raises(SpecMismatch, match="another fake_logit"):
        adopt(written(tmp_path, own_model()), FLOATS)


IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


@pytest.mark.parametrize(
    "values",
    [
        {"mean": MEAN},
        {"std": STD},
        {"mean": MEAN, "std": (1.0, 0.0, 1.0)},
        {"fake_class": 2},
        IMAGENET,
        {"mean": MEAN, "std": IMAGENET["std"]},
        {"mean": IMAGENET["mean"], "std": STD},
        {"mean": (0.0, 0.0, 0.0), "std": (1 / 255, 1 / 255, 1 / 255)},
        {"mean": (0.0, 0.0, 0.0), "std": (65025.0, 65025.0, 65025.0)},
        {"mean": (300.0, 0.0, 0.0), "std": STD},
    ],
)
def test_a_description_has_to_make_sense(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Description(**values)


def test_a_normalisation_of_values_up_to_1_is_translated() -> None:
    with pytest.raises(ConfigError) as caught:
        Description(**IMAGENET)  # type: ignore[arg-type]
    next_step = caught.value.next_step or ""
    assert "mean = [123.675, 116.28, 103.53] and std = [58.395, 57.12, 57.375]" in next_step
    assert "mean = [0, 0, 0] and std = [255, 255, 255]" in next_step


def test_without_a_description_it_says_how_to_give_one(tmp_path: Path) -> None:
    with pytest.raises(SpecMissing) as caught:
        load_source(written(tmp_path, own_model()))
    assert "--describe" in caught.value.next_step


def test_a_description_goes_with_an_onnx_model_alone(tmp_path: Path) -> None:
    path = written(tmp_path, own_model())
    with pytest.raises(ConfigError, match=r"\.tflite") as caught:
        load_source(path, ("tflite",), describe=FLOATS)
    assert "safetensors" in caught.value.next_step
    for source in (None, tmp_path / "a.safetensors"):
        with pytest.raises(ConfigError, match="Only an"):
            load_source(source, describe=FLOATS)


def test_a_clip_on_the_logit_survives_int8(tmp_path: Path) -> None:
    """The quantizer leaves out a Clip: the range of what it makes has to be the Clip's own."""
    ends = {"low_end": -1.0, "high_end": 1.0}
    proto = own_model(edit=with_head(("Clip", "< low_end high_end"), **ends))
    own = adopt(written(tmp_path, proto), FLOATS)
    quantized = onnx_stage.to_int8(own.model, small_images())
    answers = open_model(quantized, "onnx", own.spec)
    logits = [float(answers(picture)["fake_logit"][0]) for picture in small_images()]
    wanted = [float(own.original(picture)["fake_logit"][0]) for picture in small_images()]
    assert 1.0 in wanted or -1.0 in wanted
    assert max(map(abs, logits)) <= 1.01
    np.testing.assert_allclose(logits, wanted, atol=0.1)
